package workflow

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// privileged are triggers that strangers cause, and whose jobs get secrets and a token that may
// write.
var privileged = []string{"pull_request_target", "workflow_run", "issue_comment", "discussion", "discussion_comment", "issues"}

// callersCode are parts of the event that name the code of the caller.
var callersCode = []string{
	"github.event.pull_request.head", "github.head_ref", "github.event.workflow_run.head_", "github.event.workflow_run.pull_requests", "github.event.number", "github.event.pull_request.number",
	"github.event.issue.number", "github.event.pull_request.merge_commit_sha", "refs/pull/",
}

// callers finds privileged workflows that check out the code of who caused them, and runners
// that strangers reach.
func callers(w *file) (out []finding.Finding) {
	if w.action {
		return nil
	}
	if e := w.event(privileged...); e != "" {
		for _, j := range w.jobs {
			for _, s := range j.steps {
				out = append(out, w.checksOut(j, s, e)...)
			}
		}
	}
	out = append(out, w.runners()...)
	return append(out, w.inherited()...)
}

func (w *file) checksOut(j *job, s *step, event string) []finding.Finding {
	f := finding.Finding{Rule: ruleCheckout, Position: s.pos, Mend: "use pull_request, or check out nothing of the caller: hand over data with artifacts, and treat them as data"}
	only := pullRequestOnly(j, s)
	switch {
	case s.is("actions/checkout"):
		for _, name := range []string{"ref", "repository"} {
			if t := s.with[name]; w.namesCaller(j, s, t.Value) && !only {
				f.Position = t.Position(0, len(t.Value))
				f.Message = event + " gives this job secrets, and it checks out the caller's " + strings.TrimSpace(t.Value)
				return []finding.Finding{f}
			}
		}
	default:
		for _, c := range s.commands {
			if fetchesPull(c) && !only {
				f.Position = s.run.Position(c.Start, c.End)
				f.Message = event + " gives this job secrets, and it checks out the caller's code"
				return []finding.Finding{f}
			}
		}
	}
	return nil
}

// pullRequestOnly reports whether a step or job runs only for events that get no secrets.
func pullRequestOnly(j *job, s *step) bool {
	for _, cond := range []*yaml.Node{j.get("if"), s.get("if")} {
		text := strings.ReplaceAll(yamlfile.Value(cond), " ", "")
		if strings.Contains(text, "||") {
			continue
		}
		for _, event := range []string{"pull_request", "push", "workflow_dispatch", "schedule", "release"} {
			if strings.Contains(text, "github.event_name=='"+event+"'") {
				return true
			}
		}
	}
	return false
}

// namesCaller reports whether a ref or repository is that of the caller. Of issue_comment it is
// often a step's output.
func (w *file) namesCaller(j *job, s *step, ref string) bool {
	if strings.HasPrefix(ref, "refs/pull/") {
		return true
	}
	vars := w.variables(j, s)
	for _, e := range expressions(ref) {
		if slices.ContainsFunc(callersCode, func(c string) bool { return strings.Contains(e.text, c) }) {
			return true
		}
		if name, of := property(e.node); of == "env" {
			inner := vars[strings.ToLower(name)]
			if slices.ContainsFunc(callersCode, func(c string) bool { return strings.Contains(inner, c) }) {
				return true
			}
		}
	}
	return false
}

// fetchesPull reports whether a command checks out a pull request.
func fetchesPull(c *script.Command) bool {
	switch c.Name {
	case "gh":
		return c.First() == "pr" && c.Has("checkout")
	case "git":
		if !c.Has("fetch", "pull", "checkout", "clone") {
			return false
		}
		return slices.ContainsFunc(c.Args, func(a script.Word) bool {
			return strings.HasPrefix(a.Text, "pull/") || strings.Contains(a.Text, "refs/pull/") || strings.Contains(a.Text, "github.event.pull_request.head") || strings.Contains(a.Text, "github.head_ref")
		})
	}
	return false
}

// runners finds self-hosted runners for jobs that pull requests cause.
func (w *file) runners() (out []finding.Finding) {
	e := w.event("pull_request", "pull_request_target", "issue_comment")
	if e == "" {
		return nil
	}
	for _, j := range w.jobs {
		l, cond := selfHosted(j), yamlfile.Value(j.get("if"))
		if l == nil || strings.Contains(cond, "head.repo.full_name") || strings.Contains(cond, "head.repo.fork") || pullRequestFree(j) {
			continue
		}
		out = append(out, finding.Finding{Rule: ruleSelfHosted, Position: w.at(l), Message: e + " starts the job " + j.id.Value + " on a machine that outlives it",
			Mend: "use a hosted or ephemeral runner for pull requests; if the repository is private, ignore this with that reason"})
	}
	return out
}

// pullRequestFree reports whether a job does not run for pull requests.
func pullRequestFree(j *job) bool {
	text := strings.ReplaceAll(yamlfile.Value(j.get("if")), " ", "")
	return strings.Contains(text, "github.event_name!='pull_request'") || pullRequestOnly(j, &step{}) && !strings.Contains(text, "'pull_request'")
}

// inherited finds reusable workflows of others that get all secrets.
func (w *file) inherited() (out []finding.Finding) {
	for _, j := range w.jobs {
		uses := j.get("uses")
		if uses == nil || yamlfile.Value(j.get("secrets")) != "inherit" || isLocal(uses.Value) || w.own(uses.Value) {
			continue
		}
		out = append(out, finding.Finding{Rule: ruleInherit, Position: w.at(uses), Message: uses.Value + " gets every secret of this repository", Mend: "name the secrets that it needs, each with secrets: NAME: ${{ secrets.NAME }}"})
	}
	return out
}

// scripts checks what the scripts of steps run, and the variables that they see.
func scripts(w *file) (out []finding.Finding) {
	out = append(out, w.setVariables(yamlfile.Get(w.root, "env"))...)
	for _, j := range w.jobs {
		out = append(out, w.setVariables(j.get("env"))...)
		for _, s := range j.steps {
			out = append(out, w.setVariables(s.get("env"))...)
			if s.shell {
				out = append(out, script.Check(s.run)...)
			}
		}
	}
	return out
}

// setVariables finds variables that should not be set.
func (w *file) setVariables(env *yaml.Node) (out []finding.Finding) {
	yamlfile.Pairs(env, func(name, value *yaml.Node) bool {
		out = append(out, script.Variable(name.Value, yamlfile.Value(value), w.at(name), func() []finding.Edit {
			return yamlfile.WithoutKey(w.File, w.root, name.Line, name.Column)
		})...)
		return true
	})
	return out
}

// own reports whether a reusable workflow has the path of a file of this repository: then it is most
// likely this repository's, by its full name. Nothing in the tree says what the name is.
func (w *file) own(uses string) bool {
	name, _, _ := strings.Cut(uses, "@")
	parts := strings.SplitN(name, "/", 3)
	return w.tree != nil && len(parts) == 3 && w.tree.Has(parts[2])
}
