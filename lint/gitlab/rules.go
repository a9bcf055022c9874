package gitlab

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleBroken    = "gitlab/syntax"
	ruleImage     = "gitlab/image-by-tag"
	ruleInclude   = "gitlab/include-unpinned"
	ruleIsolation = "gitlab/build-with-token"
	ruleRelease   = "gitlab/release-unprotected"
	ruleCache     = "gitlab/cache-unprotected"
	ruleInjection = "gitlab/script-injection"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleBroken, Severity: finding.Error, Title: "a pipeline cannot be read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleImage, Severity: finding.Warning, Title: "an image is named by tag", Fixes: true, Link: "https://docs.gitlab.com/ci/docker/using_docker_images/",
			Why: "Whoever can push to the registry decides what the job runs, and nobody sees that it changed."},
		{ID: ruleInclude, Severity: finding.Warning, Title: "a pipeline includes what others can change", Link: "https://docs.gitlab.com/ci/yaml/#include",
			Why: "Whoever can push to the other project, or change the file on its server, decides what the jobs of this one run, with its secrets and tokens."},
		{ID: ruleIsolation, Severity: finding.Warning, Title: "a job that runs the build has an identity", Link: "https://slsa.dev/spec/v1.2/build-track-basics",
			Why: "SLSA Build L3 requires that the build cannot reach what signs its provenance: the code that is built can read the job's token, and sign anything with it."},
		{ID: ruleRelease, Severity: finding.Note, Title: "a job publishes without protection", Link: "https://docs.gitlab.com/ci/environments/protected_environments/",
			Why: "Whoever can push a branch then publishes; an environment can demand that somebody else approves first."},
		{ID: ruleCache, Severity: finding.Warning, Title: "protected and unprotected branches share a cache", Link: "https://docs.gitlab.com/ci/caching/",
			Why: "Whoever can push any branch can put files into the cache, which become part of the release without a commit; GitLab keeps the two apart unless it is told not to."},
		{ID: ruleInjection, Severity: finding.Error, Title: "text of strangers is read as a script",
			Why: "Whoever opens a merge request or pushes a branch chooses its title and name, and a shell runs what is in them."},
	}
}
