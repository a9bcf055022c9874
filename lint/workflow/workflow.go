// Package workflow finds in GitHub workflows and composite actions what would let somebody else
// decide what is built, signed or run. Gitea's and Forgejo's workflows have the same syntax.
//
// Expressions are parsed by actionlint, which also knows what in an event strangers write. Its own
// rules are about what GitHub refuses to run, and are not repeated here.
package workflow

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Checker checks workflows. r says what tags and images point to; nil: nobody is asked, nothing
// is pinned.
func Checker(r *pins.Resolver) finding.Checker {
	return yamlfile.Checker(rules(), Wants, ruleBroken, parse, func(ctx context.Context, t *finding.Tree, w *file) []finding.Finding {
		w.tree = t
		out := w.pinned(ctx, r)
		for _, family := range []func(*file) []finding.Finding{permissions, isolation, callers, injections, caches, provenances, releases, scripts} {
			out = append(out, family(w)...)
		}
		return out
	})
}

// Wants reports whether a path is that of a workflow or of an action.
func Wants(name string) bool {
	ext := path.Ext(name)
	if ext != ".yml" && ext != ".yaml" {
		return false
	}
	dir, base := path.Split(name)
	return slices.Contains([]string{".github/workflows/", ".gitea/workflows/", ".forgejo/workflows/"}, dir) ||
		strings.TrimSuffix(base, ext) == "action"
}

// file is a workflow or an action.
type file struct {
	*finding.File
	tree   *finding.Tree // nil: no other file is known
	root   *yaml.Node
	action bool                  // no workflow
	jobs   []*job                // in their order; an action is one job
	events map[string]*yaml.Node // triggers, with what they are filtered by
}

// job is a job of a workflow, or the steps of an action.
type job struct {
	id    *yaml.Node // its key
	node  *yaml.Node
	steps []*step
}

// get returns a part of a job, or nil.
func (j *job) get(keys ...string) *yaml.Node { return yamlfile.Get(j.node, keys...) }

// step is a step with what its parts mean.
type step struct {
	node     *yaml.Node
	pos      finding.Position
	run      yamlfile.Text     // a script; empty if it has none
	shell    bool              // run is for bash or sh
	commands []*script.Command // of the script
	uses     *Use              // nil: it runs a script
	with     map[string]yamlfile.Text
}

func (s *step) get(keys ...string) *yaml.Node { return yamlfile.Get(s.node, keys...) }

// parse reads a workflow or an action.
func parse(f *finding.File) (*file, error) {
	root, err := yamlfile.Mapping(f)
	if err != nil {
		return nil, err
	}
	w := &file{File: f, root: root, events: map[string]*yaml.Node{}}
	if yamlfile.Get(w.root, "runs") != nil && yamlfile.Get(w.root, "jobs") == nil {
		w.action = true
		w.jobs = []*job{w.job(&yaml.Node{Kind: yaml.ScalarNode}, yamlfile.Get(w.root, "runs"), "")}
		return w, nil
	}
	w.on(yamlfile.Get(w.root, "on"))
	shell := yamlfile.Value(yamlfile.Get(w.root, "defaults", "run", "shell"))
	jobs := yamlfile.Get(w.root, "jobs")
	if jobs == nil || jobs.Kind != yaml.MappingNode || len(jobs.Content) == 0 {
		return nil, &yamlfile.Error{Line: w.root.Line, Text: "expected jobs, found none"}
	}
	yamlfile.Pairs(jobs, func(id, n *yaml.Node) bool {
		if n.Kind != yaml.MappingNode {
			err = &yamlfile.Error{Line: id.Line, Text: fmt.Sprintf("the job %q: expected a mapping", id.Value)}
			return false
		}
		w.jobs = append(w.jobs, w.job(id, n, shell))
		return true
	})
	return w, err
}

// on reads the triggers: a name, a list of names, or a mapping of names to filters.
func (w *file) on(n *yaml.Node) {
	if n != nil && n.Kind == yaml.MappingNode {
		yamlfile.Pairs(n, func(name, filter *yaml.Node) bool {
			w.events[name.Value] = filter
			return true
		})
		return
	}
	for _, name := range yamlfile.List(n) {
		w.events[name.Value] = nil
	}
}

// event returns the first of these triggers that a workflow has, or "".
func (w *file) event(names ...string) string {
	for _, name := range names {
		if _, ok := w.events[name]; ok {
			return name
		}
	}
	return ""
}

func (w *file) job(id, n *yaml.Node, shell string) *job {
	j := &job{id: id, node: n}
	if own := yamlfile.Value(j.get("defaults", "run", "shell")); own != "" {
		shell = own
	}
	for _, s := range yamlfile.List(j.get("steps")) {
		if s.Kind == yaml.MappingNode {
			j.steps = append(j.steps, w.step(s, shell))
		}
	}
	return j
}

// text returns a scalar with its place; anything else is an empty text.
func (w *file) text(n *yaml.Node) yamlfile.Text {
	if n == nil || n.Kind != yaml.ScalarNode {
		return yamlfile.Text{File: w.File}
	}
	return yamlfile.Of(w.File, n)
}

// at returns the place of a scalar.
func (w *file) at(n *yaml.Node) finding.Position {
	t := w.text(n)
	return t.Position(0, len(t.Value))
}

// line returns the place of the text from a node to the end of its line.
func (w *file) line(n *yaml.Node) finding.Position {
	start := w.Offset(n.Line, n.Column)
	return w.Position(start, w.LineEnd(n.Line))
}

func (w *file) step(n *yaml.Node, shell string) *step {
	s := &step{node: n, with: map[string]yamlfile.Text{}, pos: w.line(n)}
	if own := yamlfile.Value(s.get("shell")); own != "" {
		shell = own
	}
	if uses := s.get("uses"); uses != nil {
		s.uses = parseUse(w.text(uses))
	}
	if s.run = w.text(s.get("run")); s.run.Value != "" && posix(shell) {
		s.shell = true
		s.commands, _ = script.Commands(s.run.Value)
	}
	yamlfile.Pairs(s.get("with"), func(name, value *yaml.Node) bool {
		s.with[strings.ToLower(name.Value)] = w.text(value)
		return true
	})
	return s
}

// posix reports whether the scripts of a shell can be parsed. Without a shell it is bash, or
// PowerShell on Windows, of which the parser reads what looks like a command.
func posix(shell string) bool {
	name, rest, _ := strings.Cut(strings.TrimSpace(shell), " ")
	if path.Base(name) == "env" {
		name, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	}
	return name == "" || slices.Contains([]string{"bash", "sh", "dash", "ash"}, path.Base(name))
}

// input returns an input of an action, and "" without it.
func (s *step) input(name string) string { return strings.TrimSpace(s.with[name].Value) }

// is reports whether a step uses one of these actions.
func (s *step) is(names ...string) bool {
	return s.uses != nil && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, s.uses.Name) })
}
