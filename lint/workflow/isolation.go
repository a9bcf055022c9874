package workflow

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// buildActions run code of the repository.
var buildActions = []string{
	"docker/build-push-action", "docker/bake-action", "redhat-actions/buildah-build", "goreleaser/goreleaser-action", "depot/build-push-action", "depot/bake-action",
	"gradle/gradle-build-action", "actions-rs/cargo", "ko-build/ko-action", "bazel-contrib/bazel-action", "mr-smithers-excellent/docker-build-push", "docker/github-builder",
}

// builds returns the first step of a job that runs code of the repository, or nil.
func (j *job) builds() *step {
	for _, s := range j.steps {
		if s.is(buildActions...) && !s.onlyChecks() || script.Builds(s.commands) != nil {
			return s
		}
	}
	return nil
}

// onlyChecks reports whether a step uses GoReleaser's action and builds nothing: it installs the
// program, or checks its settings.
func (s *step) onlyChecks() bool {
	first, _, _ := strings.Cut(s.input("args"), " ")
	return s.is("goreleaser/goreleaser-action") && (s.input("install-only") == "true" || slices.Contains([]string{"check", "healthcheck"}, first))
}

// isolation finds jobs in which the code that is built can reach what must stay out of its reach.
func isolation(w *file) (out []finding.Finding) {
	if w.action {
		return nil
	}
	for _, j := range w.jobs {
		s := j.builds()
		if s == nil {
			continue
		}
		reach := w.reach(j)
		if len(reach) == 0 {
			continue
		}
		f := finding.Finding{Rule: ruleIsolation, Position: s.pos, Severity: finding.Note, Message: "the job " + j.id.Value + " builds, and its steps can reach " + strings.Join(reach, ", "),
			Mend: "build in a job without permissions and secrets, hand over the bytes, and push and sign in another one"}
		if slices.Contains(reach, "id-token: write") {
			f.Severity = finding.Warning // the identity itself
		}
		out = append(out, f)
	}
	return out
}

// reach lists what the steps of a job can reach: permissions to write, and secrets.
func (w *file) reach(j *job) (out []string) {
	p := j.get("permissions")
	if p == nil {
		p = w.permissions()
	}
	for _, name := range []string{"id-token", "packages", "attestations"} {
		if grants(p, name) {
			out = append(out, name+": write")
		}
	}
	seen := map[string]bool{}
	for _, e := range w.jobStrings(j) {
		for _, name := range secretsIn(e) {
			if !strings.EqualFold(name, "github_token") && !seen[name] {
				seen[name] = true
				out = append(out, "secrets."+name)
			}
		}
	}
	return out
}

// grants reports whether permissions let a token write to a scope.
func grants(p *yaml.Node, scope string) bool {
	return yamlfile.Value(p) == "write-all" || yamlfile.Value(yamlfile.Get(p, scope)) == "write"
}

// jobStrings returns the texts of a job that are for its steps: variables, inputs, scripts.
func (w *file) jobStrings(j *job) (out []string) {
	add := func(n *yaml.Node) {
		yamlfile.Pairs(n, func(_, value *yaml.Node) bool {
			out = append(out, yamlfile.Value(value))
			return true
		})
	}
	add(yamlfile.Get(w.root, "env"))
	add(j.get("env"))
	for _, s := range j.steps {
		add(s.get("env"))
		add(s.get("with"))
		out = append(out, s.run.Value)
	}
	return out
}

// secretsIn returns the names of the secrets in the expressions of a text.
func secretsIn(text string) (names []string) {
	for _, e := range expressions(text) {
		if e.node == nil {
			continue
		}
		actionlint.VisitExprNode(e.node, func(n, _ actionlint.ExprNode, entering bool) {
			if !entering {
				return
			}
			if p, ok := n.(*actionlint.ObjectDerefNode); ok {
				if v, ok := p.Receiver.(*actionlint.VariableNode); ok && v.Name == "secrets" {
					names = append(names, strings.ToUpper(p.Property))
				}
			}
			if p, ok := n.(*actionlint.IndexAccessNode); ok {
				v, isVar := p.Operand.(*actionlint.VariableNode)
				key, isText := p.Index.(*actionlint.StringNode)
				if isVar && isText && v.Name == "secrets" {
					names = append(names, strings.ToUpper(key.Value))
				}
			}
		})
	}
	return names
}

// selfHosted returns the label by which a job asks for a runner of its own, or nil.
func selfHosted(j *job) *yaml.Node {
	on := j.get("runs-on")
	if labels := yamlfile.Get(on, "labels"); labels != nil {
		on = labels
	}
	for _, l := range yamlfile.List(on) {
		if strings.EqualFold(l.Value, "self-hosted") {
			return l
		}
	}
	return nil
}

func sortFindings(all []finding.Finding) []finding.Finding {
	slices.SortStableFunc(all, func(a, b finding.Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return all
}
