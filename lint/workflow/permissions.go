package workflow

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// permissions finds workflows whose tokens may do more than they need.
func permissions(w *file) (out []finding.Finding) {
	if w.action {
		return nil
	}
	if top := w.permissions(); top == nil {
		out = append(out, w.missing()...)
	} else {
		out = append(out, w.broad(top, false)...)
	}
	for _, j := range w.jobs {
		if p := j.get("permissions"); p != nil {
			out = append(out, w.broad(p, true)...)
		}
	}
	return out
}

// permissions returns those of all jobs without their own, or nil.
func (w *file) permissions() *yaml.Node { return yamlfile.Get(w.root, "permissions") }

// missing finds a workflow in which a job says nothing about its token.
func (w *file) missing() []finding.Finding {
	var without []*job
	for _, j := range w.jobs {
		if j.get("permissions") == nil {
			without = append(without, j)
		}
	}
	if len(without) == 0 {
		return nil
	}
	f := finding.Finding{Rule: ruleMissing, Position: w.at(without[0].id),
		Message: jobsHave(without) + " no permissions", Mend: "write permissions: {} above jobs, and to each job what it needs"}
	if len(w.events) == 1 && w.event("workflow_call") != "" {
		f.Severity = finding.Note // the caller's permissions bound it
	}
	if grant, ok := w.enough(); ok {
		f.Edits = w.above("jobs", "permissions: "+grant)
		f.Mend = "write permissions: " + grant + " above jobs"
	}
	return []finding.Finding{f}
}

func jobsHave(jobs []*job) string {
	if len(jobs) == 1 {
		return "the job " + jobs[0].id.Value + " has"
	}
	return fmt.Sprintf("%d jobs, the first is %s, have", len(jobs), jobs[0].id.Value)
}

// readers are actions that need no more of the token than to read the repository.
var readers = []string{
	"actions/checkout", "actions/setup-go", "actions/setup-node", "actions/setup-python", "actions/setup-java", "actions/setup-dotnet", "actions/cache", "actions/cache/restore", "actions/cache/save",
	"actions/upload-artifact", "actions/download-artifact", "docker/setup-buildx-action", "docker/setup-qemu-action", "docker/metadata-action",
	"golangci/golangci-lint-action", "dtolnay/rust-toolchain", "Swatinem/rust-cache", "astral-sh/setup-uv", "pnpm/action-setup", "ruby/setup-ruby", "gradle/actions/setup-gradle",
}

// enough returns permissions that a workflow still runs with: of jobs of which every step is known
// not to write with the token.
func (w *file) enough() (grant string, ok bool) {
	contents := false
	for _, j := range w.jobs {
		if j.get("permissions") != nil {
			continue
		}
		if j.get("uses") != nil {
			return "", false
		}
		for _, s := range j.steps {
			if s.uses != nil && !s.is(readers...) {
				return "", false
			}
			contents = contents || s.is("actions/checkout")
		}
	}
	for _, secret := range []string{"github.token", "GITHUB_TOKEN", "toJSON(secrets)", "git push"} {
		if strings.Contains(string(w.Data), secret) {
			return "", false
		}
	}
	if contents {
		return "{contents: read}", true
	}
	return "{}", true
}

// above returns the edit that writes a line above a key of the workflow, and above the comment of
// the key.
func (w *file) above(key, text string) []finding.Edit {
	for i := 0; i+1 < len(w.root.Content); i += 2 {
		n := w.root.Content[i]
		if n.Value != key || n.Column != 1 {
			continue
		}
		line := n.Line
		for strings.HasPrefix(w.Line(line-1), "#") {
			line--
		}
		newline := "\n"
		if start := w.LineStart(n.Line + 1); start > 1 && w.Data[start-2] == '\r' {
			newline = "\r\n"
		}
		at := w.LineStart(line)
		return []finding.Edit{w.Replace(at, at, text+newline+newline)}
	}
	return nil
}

// broad finds permissions that are broader than one job needs: of one job, or of all.
func (w *file) broad(p *yaml.Node, ofJob bool) (out []finding.Finding) {
	if p.Kind == yaml.ScalarNode && p.Value == "write-all" {
		return []finding.Finding{{Rule: ruleBroad, Position: w.at(p), Message: "the token may write everything", Mend: "write permissions: {} and, to each job, what it needs", Edits: w.narrowed(p)}}
	}
	all := 0 // jobs that get them
	for _, j := range w.jobs {
		if j.get("permissions") == nil {
			all++
		}
	}
	if ofJob || all == 0 || len(w.jobs) < 2 {
		return nil
	}
	if p.Kind == yaml.ScalarNode && p.Value == "read-all" {
		return []finding.Finding{{Rule: ruleBroad, Severity: finding.Note, Position: w.at(p), Message: "every job may read everything", Mend: "write contents: read instead", Edits: w.narrowed(p)}}
	}
	yamlfile.Pairs(p, func(scope, access *yaml.Node) bool {
		if access.Value == "write" && all > 1 { // of one job, they are its own
			out = append(out, finding.Finding{Rule: ruleBroad, Severity: finding.Warning, Position: w.at(scope),
				Message: fmt.Sprintf("%d of %d jobs get %s: write, whether they need it or not", all, len(w.jobs), scope.Value), Mend: "move it to the job that needs it"})
		}
		return true
	})
	return out
}

// narrowed returns the edit that makes less of permissions for everything, where nothing but
// reading the repository is done.
func (w *file) narrowed(p *yaml.Node) []finding.Edit {
	grant, ok := w.enough()
	start, end, exact := w.text(p).Range(0, len(p.Value))
	if p != w.permissions() || !ok || !exact || p.Style != 0 || p.Anchor != "" {
		return nil // enough is about the jobs without permissions of their own
	}
	return []finding.Edit{w.Replace(start, end, grant)}
}
