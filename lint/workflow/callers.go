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
	"github.event.issue.number", "github.event.pull_request.merge_commit_sha",
}

// pullRefs begins the names of refs under which GitHub serves pull requests.
const pullRefs = "refs/pull/"

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
	only := j.without(s, w.among(privileged))
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

// without reports whether the conditions of a job, or of a step of it, exclude all of some events.
func (j *job) without(s *step, events []string) bool {
	return !slices.ContainsFunc(events, func(event string) bool {
		return !excludes(yamlfile.Value(j.get("if")), event) && !excludes(yamlfile.Value(s.get("if")), event)
	})
}

// among returns those of some triggers that a workflow has.
func (w *file) among(names []string) (out []string) {
	for _, name := range names {
		if w.event(name) != "" {
			out = append(out, name)
		}
	}
	return out
}

// namesCaller reports whether a ref or repository is that of the caller. Of issue_comment it is
// often a step's output.
func (w *file) namesCaller(j *job, s *step, ref string) bool {
	if strings.HasPrefix(ref, pullRefs) {
		return true
	}
	vars := w.variables(j, s)
	return slices.ContainsFunc(expressions(ref), func(e expression) bool {
		return e.namesCaller() || slices.ContainsFunc(e.of("env"), func(name string) bool {
			return slices.ContainsFunc(expressions(vars[name]), expression.namesCaller)
		})
	})
}

func (e expression) namesCaller() bool {
	names, texts := e.names()
	return slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, pullRefs) }) || slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(callersCode, func(c string) bool { return strings.HasPrefix(name, c) })
	})
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
			return strings.HasPrefix(a.Text, "pull/") || strings.Contains(a.Text, pullRefs) || slices.ContainsFunc(expressions(a.Text), expression.namesCaller)
		})
	}
	return false
}

// runners finds self-hosted runners for jobs that pull requests cause.
func (w *file) runners() (out []finding.Finding) {
	events := w.among([]string{"pull_request", "pull_request_target", "issue_comment"})
	if len(events) == 0 {
		return nil
	}
	for _, j := range w.jobs {
		l, cond := selfHosted(j), yamlfile.Value(j.get("if"))
		if l == nil || strings.Contains(cond, "head.repo.full_name") || strings.Contains(cond, "head.repo.fork") || j.without(&step{}, events) {
			continue
		}
		out = append(out, finding.Finding{Rule: ruleSelfHosted, Position: w.at(l), Message: events[0] + " starts the job " + j.id.Value + " on a machine that outlives it",
			Mend: "use a hosted or ephemeral runner for pull requests; if the repository is private, ignore this with that reason"})
	}
	return out
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
