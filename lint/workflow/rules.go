package workflow

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleBroken      = "workflow/syntax"
	ruleUnpinned    = "workflow/action-unpinned"
	ruleCommit      = "workflow/action-commit-unknown"
	ruleComment     = "workflow/action-comment-wrong"
	ruleImage       = "workflow/image-by-tag"
	ruleMissing     = "workflow/permissions-missing"
	ruleBroad       = "workflow/permissions-broad"
	ruleIsolation   = "workflow/build-with-token"
	ruleCheckout    = "workflow/untrusted-checkout"
	ruleInjection   = "workflow/script-injection"
	ruleCache       = "workflow/cache-in-release"
	ruleUnsigned    = "workflow/provenance-unsigned"
	ruleLeak        = "workflow/build-args-secret"
	ruleOtherDigest = "workflow/digest-of-other-build"
	ruleGenerator   = "workflow/slsa-generator"
	ruleSelfHosted  = "workflow/self-hosted-runner"
	ruleEnvironment = "workflow/release-environment"
	ruleInherit     = "workflow/secrets-inherit"
)

func rules() []finding.Rule {
	const hardening = "https://docs.github.com/en/actions/reference/security/secure-use"
	return []finding.Rule{
		{ID: ruleBroken, Severity: finding.Error, Title: "a workflow or action cannot be read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleUnpinned, Severity: finding.Warning, Title: "an action or reusable workflow is named by tag or branch", Fixes: true, Link: hardening,
			Why: "Whoever can move the tag runs code in the job, as with tj-actions/changed-files and reviewdog/action-setup in March 2025 (CVE-2025-30066, CVE-2025-30154)."},
		{ID: ruleCommit, Severity: finding.Warning, Title: "the commit of an action belongs to no branch or tag of its repository", Link: hardening,
			Why: "GitHub serves the commits of forks under the name of the original repository: anybody could have written it."},
		{ID: ruleComment, Severity: finding.Error, Title: "the commit of an action is not that of the tag in its comment",
			Why: "Reviewers read the comment and not the commit: either the tag was moved, or the comment lies."},
		{ID: ruleImage, Severity: finding.Warning, Title: "an image is named by tag", Fixes: true,
			Why: "Whoever can push to the registry decides what the job runs, and nobody sees that it changed."},
		{ID: ruleMissing, Severity: finding.Warning, Title: "a workflow does not say what its token may do", Fixes: true, Link: "https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#permissions",
			Why: "Without permissions, the token of every job may do what the repository's settings say, and until 2023 that was to write everything."},
		{ID: ruleBroad, Severity: finding.Error, Title: "the token of a workflow may do more than a job needs", Fixes: true, Link: "https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#permissions",
			Why: "Any step of any job that gets the token can push commits, releases and images with it."},
		{ID: ruleIsolation, Severity: finding.Warning, Title: "a job that runs the build can sign, push or read secrets", Link: "https://slsa.dev/spec/v1.2/build-track-basics",
			Why: "SLSA Build L3 requires that the build cannot reach what signs its provenance: the code that is built runs with the same token."},
		{ID: ruleCheckout, Severity: finding.Error, Title: "a privileged workflow checks out the caller's code", Link: "https://securitylab.github.com/resources/github-actions-preventing-pwn-requests/",
			Why: "Anybody who opens a pull request then runs code with the secrets and the token of the repository, as in the theft of Nx's npm token in August 2025."},
		{ID: ruleInjection, Severity: finding.Error, Title: "text of strangers becomes part of a script", Link: hardening,
			Why: "The expression is replaced before the shell reads the script: a title such as $(command) runs."},
		{ID: ruleCache, Severity: finding.Warning, Title: "a release restores a cache that other workflows fill", Link: "https://docs.github.com/en/actions/reference/workflows-and-actions/dependency-caching",
			Why: "Whoever runs code in another workflow of the default branch can put files into the cache, which become part of the release without a commit, as with Cline in February 2026."},
		{ID: ruleUnsigned, Severity: finding.Note, Title: "provenance of BuildKit is not signed", Link: "https://docs.docker.com/build/metadata/attestations/slsa-provenance/",
			Why: "The build writes this provenance about itself and nobody signs it: it is Build L1, whatever its mode."},
		{ID: ruleLeak, Severity: finding.Error, Title: "a secret is a build argument", Link: "https://docs.docker.com/build/building/secrets/",
			Why: "Build arguments are in the history of the image and, on public repositories, in its provenance: whoever can pull the image can read them."},
		{ID: ruleOtherDigest, Severity: finding.Error, Title: "the digest is that of a build that was not pushed",
			Why: "Two builds of the same commit rarely give the same bytes: the signature or attestation then is about an image that nobody has."},
		{ID: ruleGenerator, Severity: finding.Warning, Title: "slsa-github-generator is not maintained", Link: "https://github.com/slsa-framework/slsa-github-generator",
			Why: "Its last release is of February 2025, its provenance of images is SLSA v0.2, and its workflows must be named by tag, which can be moved."},
		{ID: ruleSelfHosted, Severity: finding.Warning, Title: "pull requests run on a self-hosted runner", Link: hardening,
			Why: "On a public repository, anybody can run code on that machine with a pull request, and stay there for the jobs that follow."},
		{ID: ruleEnvironment, Severity: finding.Note, Title: "a release job has no environment", Link: "https://docs.github.com/en/actions/reference/workflows-and-actions/deployments-and-environments",
			Why: "Without an environment whose protection rules ask somebody else, whoever can push a tag or start a workflow can publish."},
		{ID: ruleInherit, Severity: finding.Warning, Title: "a reusable workflow of somebody else gets all secrets",
			Why: "It can read every secret of the repository, and not only those that it needs."},
	}
}
