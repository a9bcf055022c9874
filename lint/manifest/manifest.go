// Package manifest finds in Kubernetes manifests, the output of Helm, kustomizations and compose
// files what would let somebody else decide what runs: images by tag, and policies about images
// that refuse nothing, accept anybody, or are left out.
//
// Templates are not read: what a program makes of them can be linted. In a file that is YAML all the
// same, values with placeholders are left out.
package manifest

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// Checker checks Kubernetes objects, kustomizations and compose files. r says what tags of images
// point to; nil: nobody is asked.
func Checker(r *pins.Resolver) finding.Checker {
	var tree finding.Once[*scan]
	return finding.Checker{
		Rules: rules(),
		Wants: Wants,
		Check: func(ctx context.Context, t *finding.Tree, f *finding.File) []finding.Finding {
			c := &checker{f: f, in: tree.Of(t, scanTree)}
			c.file()
			for _, i := range c.images {
				if onThisMachine(i.Value) {
					continue
				}
				c.out = append(c.out, pins.CheckImage(ctx, r, ruleImage, i, i.Value)...)
			}
			return c.out
		},
		Whole: func(_ context.Context, t *finding.Tree) []finding.Finding { return tree.Of(t, scanTree).missing() },
	}
}

// Wants reports whether a path is that of a YAML file that is no workflow of GitHub.
func Wants(name string) bool {
	ext := path.Ext(name)
	return (ext == ".yml" || ext == ".yaml" || path.Base(name) == "Kustomization") && !strings.HasPrefix(name, ".github/")
}

// Images returns the names of images in a file that could be pinned there. The error says why the file
// could not be read.
func Images(f *finding.File) ([]yamlfile.Text, error) {
	c := &checker{f: f, in: &scan{}}
	err := c.file()
	return c.images, err
}

type checker struct {
	f      *finding.File
	in     *scan
	out    []finding.Finding
	images []yamlfile.Text
}

var composeName = lazyregexp.New(`^(docker-)?compose([._-].*)?\.ya?ml$|\.compose\.ya?ml$`)

func isCompose(f *finding.File) bool {
	return composeName.MatchString(path.Base(f.Path)) && (mentions(f, "services") || yamlfile.Escaped(f))
}

func isKustomization(name string) bool {
	base := path.Base(name)
	return base == "kustomization.yaml" || base == "kustomization.yml" || base == "Kustomization"
}

// isManifest reports whether a file may contain Kubernetes objects.
func isManifest(f *finding.File) bool {
	return mentions(f, "apiVersion", "kind") || yamlfile.Escaped(f)
}

// mentions reports whether all texts are in a file, or may be in another encoding.
func mentions(f *finding.File, texts ...string) bool {
	return yamlfile.Wide(f) || !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(f.Data, []byte(text)) })
}

// schema begins a file whose first object is the schema of a custom kind.
var schema = lazyregexp.New(`\A(?:\s*#[^\n]*\n|---[^\n]*\n|\s*\n)*apiVersion: apiextensions\.k8s\.io/`)

// isSchema reports whether a file is the schema of a custom kind and nothing else. It runs no image, and
// some are too large to parse.
func isSchema(f *finding.File) bool {
	return schema.Match(f.Data) && bytes.Count(f.Data, []byte("\n---")) == 0
}

// templated are marks of the languages in which people write templates of YAML files.
var templated = []string{"{{", "{%", "<%", "[[", "%{", "#@"}

// isTemplate reports whether a file that is not valid YAML may be a template of one.
func isTemplate(f *finding.File) bool {
	for _, mark := range templated {
		if bytes.Contains(f.Data, []byte(mark)) {
			return true
		}
	}
	return replaced.Match(f.Data)
}

// replaced matches a name that a script replaces: {CLUSTER_IP}, <CLUSTER_IP>, __CLUSTER_IP__, $CLUSTER_IP.
var replaced = lazyregexp.New(`[{<$][A-Z][A-Z0-9_]+|__[A-Z][A-Z0-9_]*__`)

// file checks all documents of the file.
func (c *checker) file() error {
	kustomization, compose := isKustomization(c.f.Path), isCompose(c.f)
	if !kustomization && !compose && (!isManifest(c.f) || isSchema(c.f)) {
		return nil
	}
	roots, err := yamlfile.Parse(c.f)
	if e, ok := errors.AsType[*yamlfile.Error](err); ok && !e.Limit && (isTemplate(c.f) || !compose && !kustomization && !mentions(c.f, "apiVersion", "kind")) {
		err = nil // documents before the one that is no YAML are checked
	}
	for _, root := range roots {
		version, kind := yamlfile.Value(yamlfile.Get(root, "apiVersion")), yamlfile.Value(yamlfile.Get(root, "kind"))
		switch {
		case kustomization:
			c.kustomization(root)
		case compose && version == "" && kind == "" && yamlfile.Get(root, "services") != nil:
			c.named(root)
		case version != "" && kind != "" && !strings.Contains(version+kind, "{{"):
			c.object(root, version, kind)
		}
	}
	if err != nil && !bytes.Contains(c.f.Data, []byte("tekton.dev/")) { // tekton/syntax says so
		c.out = append(c.out, yamlfile.Broken(c.f, ruleBroken, err))
	}
	return err
}

// object checks one Kubernetes object, or a list of them.
func (c *checker) object(root *yaml.Node, version, kind string) {
	group, _, _ := strings.Cut(version, "/")
	if strings.HasSuffix(kind, "List") && group == "v1" {
		for _, item := range yamlfile.List(yamlfile.Get(root, "items")) {
			c.policies(item)
		}
	}
	c.policies(root)
	if !runsNothing(group, kind) {
		c.named(root)
	}
}

// runsNothing reports whether an object has names of images and runs none of them: a schema, what a tool
// builds, or what another rule is about.
func runsNothing(group, kind string) bool {
	switch group {
	case "apiextensions.k8s.io", "image.toolkit.fluxcd.io", "kustomize.config.k8s.io", "skaffold", "tekton.dev", "policy.sigstore.dev", "kyverno.io", "policies.kyverno.io", "colophon.build":
		return true
	case "v1":
		return kind == "ConfigMap" || kind == "Secret"
	}
	return false
}

func (c *checker) at(n *yaml.Node) finding.Position {
	t := yamlfile.Of(c.f, n)
	return t.Position(0, len(t.Value))
}

func (c *checker) add(rule string, at *yaml.Node, message, mend string) {
	c.out = append(c.out, finding.Finding{Rule: rule, Position: c.at(at), Message: message, Mend: mend})
}
