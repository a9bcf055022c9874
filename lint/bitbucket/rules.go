package bitbucket

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleBroken    = "bitbucket/syntax"
	ruleImage     = "bitbucket/image-by-tag"
	rulePipe      = "bitbucket/pipe-unpinned"
	ruleIsolation = "bitbucket/build-with-token"
	ruleRelease   = "bitbucket/release-unprotected"
	ruleInjection = "bitbucket/script-injection"
)

func rules() []finding.Rule {
	const reference = "https://support.atlassian.com/bitbucket-cloud/docs/bitbucket-pipelines-configuration-reference/"
	return []finding.Rule{
		{ID: ruleBroken, Severity: finding.Error, Title: "a pipeline cannot be read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleImage, Severity: finding.Warning, Title: "an image is named by tag", Fixes: true, Link: reference,
			Why: "Whoever can push to the registry decides what the step runs, and nobody sees that it changed."},
		{ID: rulePipe, Severity: finding.Warning, Title: "a pipe is named by version", Link: reference,
			Why: "A pipe is an image that runs with the step's secrets: who can push to its registry, or move the tag of its version, decides what it does."},
		{ID: ruleIsolation, Severity: finding.Warning, Title: "a step that runs the build has an identity", Link: "https://slsa.dev/spec/v1.2/build-track-basics",
			Why: "SLSA Build L3 requires that the build cannot reach what signs its provenance: the code that is built can read the step's token, and sign anything with it."},
		{ID: ruleRelease, Severity: finding.Note, Title: "a step publishes without a deployment", Link: reference,
			Why: "A deployment environment can have its own secrets and be limited to branches and people; without one, every step has the secrets that publish."},
		{ID: ruleInjection, Severity: finding.Error, Title: "text of strangers is read as a script",
			Why: "Whoever pushes a branch chooses its name, and a shell runs what is in it."},
	}
}
