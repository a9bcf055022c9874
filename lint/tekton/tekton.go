// Package tekton finds in tasks, pipelines and their runs of Tekton what would let somebody else
// decide what is built, signed or run.
package tekton

import (
	"bytes"
	"context"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Checker checks the objects of Tekton in all YAML files. r says what tags of images point to; nil:
// nobody is asked.
func Checker(r *pins.Resolver) finding.Checker {
	return yamlfile.Checker(rules(), Wants, ruleBroken, readTemplates, func(ctx context.Context, _ *finding.Tree, c *checker) []finding.Finding {
		return append(c.out, pins.CheckImages(ctx, r, ruleImage, c.images)...)
	})
}

// readTemplates is read, but finds nothing wrong with templates of Helm: their output is what can be
// linted.
func readTemplates(f *finding.File) (*checker, error) {
	c, err := read(f)
	if err != nil && bytes.Contains(f.Data, []byte("{{")) {
		return &checker{}, nil
	}
	return c, err
}

// Wants reports whether a path is that of a YAML file. Workflows of GitHub are no objects of Tekton.
func Wants(name string) bool {
	ext := path.Ext(name)
	return (ext == ".yml" || ext == ".yaml") && !strings.HasPrefix(name, ".github/")
}

// Images returns the names of images that the steps of tasks in a file run, and of bundles that have
// its tasks and pipelines. The error says why the file could not be read.
func Images(f *finding.File) ([]yamlfile.Text, error) {
	c, err := read(f)
	if err != nil {
		return nil, err
	}
	return append(c.images, c.bundles...), nil
}

type checker struct {
	f       *finding.File
	out     []finding.Finding
	images  []yamlfile.Text
	bundles []yamlfile.Text
}

// read checks the objects of Tekton in a file. Others are not read.
func read(f *finding.File) (*checker, error) {
	c := &checker{f: f}
	named := bytes.Contains(f.Data, []byte("tekton.dev/"))
	if !named && !yamlfile.Escaped(f) {
		return c, nil
	}
	roots, err := yamlfile.Parse(f)
	if !named {
		err = nil // lint/manifest says so if it may be one of Kubernetes
	}
	for _, root := range roots {
		if version := yamlfile.Value(yamlfile.Get(root, "apiVersion")); strings.HasPrefix(version, "tekton.dev/") {
			c.walk(root, nil)
		}
	}
	return c, err
}

// walk looks for specs of tasks, steps and references in all of an object. enums are the parameters
// of the task that it is in whose values are listed.
func (c *checker) walk(n *yaml.Node, enums []string) {
	n = yamlfile.Resolve(n)
	switch {
	case n == nil:
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			c.walk(item, enums)
		}
	case n.Kind == yaml.MappingNode:
		for _, p := range yamlfile.List(yamlfile.Get(n, "params")) {
			if len(yamlfile.List(yamlfile.Get(p, "enum"))) > 0 {
				enums = append(slices.Clip(enums), yamlfile.Value(yamlfile.Get(p, "name")))
			}
		}
		yamlfile.Pairs(n, func(key, value *yaml.Node) bool {
			switch key.Value {
			case "steps", "sidecars", "stepTemplate":
				for _, s := range yamlfile.List(value) {
					c.step(s, enums)
				}
			case "taskRef", "pipelineRef", "ref":
				c.reference(value)
			}
			c.walk(value, enums)
			return true
		})
	}
}

// step checks one container of a task.
func (c *checker) step(n *yaml.Node, enums []string) {
	if image := yamlfile.Get(n, "image"); image != nil && image.Kind == yaml.ScalarNode {
		c.images = append(c.images, yamlfile.Of(c.f, image))
	}
	s := yamlfile.Get(n, "script")
	if s == nil || s.Kind != yaml.ScalarNode {
		return
	}
	t := yamlfile.Of(c.f, s)
	if shell(t.Value) {
		c.out = append(c.out, script.Check(t)...)
	}
	said := map[string]bool{}
	for _, at := range substituted.FindAllStringSubmatchIndex(t.Value, maxSubstituted) {
		name := t.Value[at[2]:at[3]]
		if said[name] || slices.Contains(enums, name) {
			continue
		}
		said[name] = true
		c.out = append(c.out, finding.Finding{Rule: ruleInjection, Position: t.Position(at[0], at[1]), Message: "the value of " + t.Value[at[0]:at[1]] + " becomes part of the script",
			Mend: "set env: [{name: NAME, value: " + t.Value[at[0]:at[1]] + `}] in the step, and write "$NAME" in the script`})
	}
}

// maxSubstituted caps the parameters of one script that are looked at.
const maxSubstituted = 1000

// substituted is the grammar of a parameter in a script: $(params.NAME), $(params["NAME"][*]), and of
// what another task wrote: $(tasks.TASK.results.NAME).
var substituted = lazyregexp.New(`\$\((?:params[.\[]|tasks\.[^.()]{1,100}\.results[.\[])["']?([A-Za-z0-9_.-]{1,100}?)["']?\]?(?:\[[^\]()]{0,20}\])?\)`)

// shell reports whether a script is for a shell: without an interpreter, Tekton runs it with sh.
func shell(src string) bool {
	first, _, _ := strings.Cut(src, "\n")
	interpreter, ok := strings.CutPrefix(first, "#!")
	if !ok {
		return true
	}
	return slices.ContainsFunc(strings.Fields(interpreter), func(word string) bool { return slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(word)) })
}

// reference checks a reference to a task, pipeline or step action that a resolver gets from elsewhere.
func (c *checker) reference(n *yaml.Node) {
	params := map[string]*yaml.Node{}
	for _, p := range yamlfile.List(yamlfile.Get(n, "params")) {
		params[yamlfile.Value(yamlfile.Get(p, "name"))] = yamlfile.Get(p, "value")
	}
	var at *yaml.Node
	var message, mend string
	resolver := yamlfile.Get(n, "resolver")
	switch bundle := yamlfile.Get(n, "bundle"); {
	case bundle != nil:
		at, message, mend = c.bundle(bundle)
	case yamlfile.Value(resolver) == "bundles":
		at, message, mend = c.bundle(params["bundle"])
	case yamlfile.Value(resolver) == "git":
		revision := yamlfile.Value(params["revision"])
		if pins.IsCommit(revision) || strings.Contains(revision, "$(") || strings.Contains(revision, "{{") {
			return
		}
		at, message, mend = resolver, "the reference is whatever the default branch has when it runs", "add the parameter revision with the full id of a commit"
		if params["revision"] != nil {
			at, message = params["revision"], "the reference is whatever "+revision+" points to when it runs"
		}
	case yamlfile.Value(resolver) == "hub":
		at, message, mend = resolver, "a hub serves whatever it has under the version", "use the resolver git with the full id of a commit, or bundles with a digest"
	case yamlfile.Value(resolver) == "http":
		at, message, mend = resolver, "the reference is whatever the server answers", "use the resolver git with the full id of a commit, or bundles with a digest"
	}
	if at != nil {
		t := yamlfile.Of(c.f, at)
		c.out = append(c.out, finding.Finding{Rule: ruleTask, Position: t.Position(0, len(t.Value)), Message: message, Mend: mend})
	}
}

// bundle keeps the name of a bundle, and returns what is wrong with it; at is nil if it has a digest, or is not known.
func (c *checker) bundle(bundle *yaml.Node) (at *yaml.Node, message, mend string) {
	name := yamlfile.Value(bundle)
	if name == "" || strings.Contains(name, "{{") {
		return nil, "", ""
	}
	c.bundles = append(c.bundles, yamlfile.Of(c.f, bundle))
	if strings.Contains(name, "@sha256:") || strings.Contains(name, "$(") {
		return nil, "", ""
	}
	return bundle, "the bundle " + name + " is whatever its tag points to when it runs", "write " + name + "@sha256:DIGEST"
}
