package tekton

import "github.com/colophon-build/colophon/lint/finding"

const (
	ruleBroken    = "tekton/syntax"
	ruleImage     = "tekton/image-by-tag"
	ruleTask      = "tekton/task-unpinned"
	ruleInjection = "tekton/script-injection"
)

func rules() []finding.Rule {
	return []finding.Rule{
		{ID: ruleBroken, Severity: finding.Error, Title: "a task or pipeline cannot be read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleImage, Severity: finding.Warning, Title: "an image is named by tag", Fixes: true, Link: "https://tekton.dev/docs/pipelines/tasks/",
			Why: "Whoever can push to the registry decides what the step runs, and nobody sees that it changed."},
		{ID: ruleTask, Severity: finding.Warning, Title: "a task or pipeline from elsewhere is named by tag, branch or version", Link: "https://tekton.dev/docs/pipelines/bundle-resolver/",
			Why: "Whoever can move the tag or push to the branch decides what the run does, with its workspaces and service account."},
		{ID: ruleInjection, Severity: finding.Warning, Title: "a parameter becomes part of a script", Link: "https://tekton.dev/docs/pipelines/variables/",
			Why: "Tekton replaces $(params.NAME) before the shell reads the script and does not quote it: whoever chooses the value runs commands."},
	}
}
