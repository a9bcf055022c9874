// Package bitbucket finds in the pipelines of Bitbucket what would let somebody else decide what is
// built, signed or run.
package bitbucket

import (
	"context"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Checker checks pipelines. r says what tags of images point to; nil: nobody is asked.
func Checker(r *pins.Resolver) finding.Checker {
	return yamlfile.Checker(rules(), Wants, ruleBroken, read, func(ctx context.Context, _ *finding.Tree, c *checker) []finding.Finding {
		return append(c.out, pins.CheckImages(ctx, r, ruleImage, c.images)...)
	})
}

// Wants reports whether a path is that of the pipelines of a repository.
func Wants(name string) bool {
	return path.Base(name) == "bitbucket-pipelines.yml"
}

// Images returns the names of images that the steps and services of pipelines run. The error says
// why the file could not be read.
func Images(f *finding.File) ([]yamlfile.Text, error) {
	c, err := read(f)
	if err != nil {
		return nil, err
	}
	return c.images, nil
}

type checker struct {
	f      *finding.File
	out    []finding.Finding
	images []yamlfile.Text
	seen   map[*yaml.Node]bool // an anchor is checked where it stands
}

func read(f *finding.File) (*checker, error) {
	root, err := yamlfile.Mapping(f)
	if err != nil {
		return nil, err
	}
	c := &checker{f: f, seen: map[*yaml.Node]bool{}}
	c.walk(root)
	return c, nil
}

// walk looks for images, services and steps in all of a file: pipelines nest them in stages, parallel
// steps and definitions.
func (c *checker) walk(n *yaml.Node) {
	n = yamlfile.Resolve(n)
	if n == nil || c.seen[n] {
		return
	}
	c.seen[n] = true
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			c.walk(item)
		}
		return
	}
	yamlfile.Pairs(n, func(key, value *yaml.Node) bool {
		switch key.Value {
		case "image":
			c.image(value)
			return true
		case "step":
			c.step(value)
		}
		c.walk(value)
		return true
	})
}

func (c *checker) text(n *yaml.Node) yamlfile.Text { return yamlfile.Of(c.f, n) }

// image checks the name of an image: a text, or a mapping that has it with a login.
func (c *checker) image(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		n = yamlfile.Get(n, "name")
	}
	if n != nil && n.Kind == yaml.ScalarNode && !c.seen[n] {
		c.seen[n] = true
		c.images = append(c.images, c.text(n))
	}
}

// strangers are the default variables whose values whoever pushes a branch chooses.
var strangers = []string{"BITBUCKET_BRANCH", "BITBUCKET_TAG", "BITBUCKET_BOOKMARK"}

// step checks one step.
func (c *checker) step(n *yaml.Node) {
	if n = yamlfile.Resolve(n); c.seen[n] {
		return
	}
	var commands []*script.Command
	for _, key := range []string{"script", "after-script"} {
		for _, line := range yamlfile.List(yamlfile.Get(n, key)) {
			if pipe := yamlfile.Get(line, "pipe"); pipe != nil {
				c.pipe(pipe)
				continue
			}
			if line.Kind != yaml.ScalarNode || line.Tag != "!!str" {
				continue
			}
			t := c.text(line)
			c.out = append(c.out, script.Check(t)...)
			own, _ := script.Commands(t.Value)
			commands = append(commands, own...)
			for _, command := range own {
				if name, w := script.Evaluates(command, strangers); name != "" {
					c.out = append(c.out, finding.Finding{Rule: ruleInjection, Position: t.Position(w.Start, w.End), Message: "a shell reads the value of " + name + " as a script",
						Mend: `let the shell read the variable itself, in single quotes: sh -c 'command "$` + name + `"'`})
				}
			}
		}
	}
	if oidc := yamlfile.Get(n, "oidc"); yamlfile.Value(oidc) == "true" {
		if b := script.Builds(commands); b != nil {
			t := c.text(oidc)
			c.out = append(c.out, finding.Finding{Rule: ruleIsolation, Position: t.Position(0, len(t.Value)), Message: "the step runs " + strings.TrimSpace(b.Name+" "+b.First()) + ", and can read its identity",
				Mend: "build in a step without oidc, hand over the bytes as artifacts, and sign in another one"})
		}
	}
	if p := script.Publishes(commands); p != nil && yamlfile.Get(n, "deployment") == nil {
		s := yamlfile.Get(n, "script")
		at := c.f.Offset(s.Line, s.Column)
		c.out = append(c.out, finding.Finding{Rule: ruleRelease, Position: c.f.Position(at, max(at, c.f.LineEnd(s.Line))),
			Message: "the step publishes (" + strings.TrimSpace(p.Name+" "+p.First()) + ") and has no deployment", Mend: "add deployment: NAME, and give only that environment the secrets that publish"})
	}
}

// pipe checks the name of a pipe: OWNER/NAME:VERSION, or "docker://" and the name of an image.
func (c *checker) pipe(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode || c.seen[n] || strings.Contains(n.Value, "@sha256:") || strings.Contains(n.Value, "$") {
		return
	}
	c.seen[n] = true
	t := c.text(n)
	c.out = append(c.out, finding.Finding{Rule: rulePipe, Position: t.Position(0, len(t.Value)), Message: "the pipe " + n.Value + " is whatever its version points to when it runs",
		Mend: "run its image by digest in a step of its own (image: NAME@sha256:DIGEST), or write its commands into the script"})
}
