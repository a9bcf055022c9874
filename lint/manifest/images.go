package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/yamlfile"
	"github.com/colophon-build/colophon/oci/imagelist"
)

// named collects the images that an object or a compose file runs, as package imagelist finds them.
func (c *checker) named(root *yaml.Node) {
	list := imagelist.List{Partial: true}
	if err := list.Node(root); err != nil {
		if !isTemplate(c.f) {
			e := yamlfile.AsError(err)
			e.Line = max(e.Line, root.Line)
			c.out = append(c.out, yamlfile.Broken(c.f, ruleBroken, e))
		}
	}
	for _, i := range list.Images {
		for _, p := range i.Places {
			n, parent := nodeAt(root, p.Pointer)
			if n == nil || n.Kind != yaml.ScalarNode || n.Value != i.Name || i.Problem != "" && !strings.Contains(i.Name, "$") {
				continue // it may be no image
			}
			if guessed(p) && !strings.ContainsAny(n.Value, ":/") {
				continue // it may be a part of a name
			}
			if c.pulled(n.Value, parent) {
				c.images = append(c.images, yamlfile.Of(c.f, n))
			}
		}
	}
}

var inContainer = lazyregexp.New(`/(?:containers|initContainers|ephemeralContainers)/[0-9]+/image$`)

// guessed reports whether an image is one because a field of an unknown kind is called "image".
func guessed(p imagelist.Place) bool {
	if p.Object == nil || inContainer.MatchString(p.Pointer) {
		return false
	}
	group, _, _ := strings.Cut(p.Object.APIVersion, "/")
	return !imagelist.Fields{}.Has(p.Object.Kind, group)
}

// placeholder is a tag or name that a script replaces.
var placeholder = lazyregexp.New(`^[A-Z][A-Z0-9_]+$`)

// onThisMachine reports whether an image is in a registry on the machine that runs it: others cannot push to it.
func onThisMachine(name string) bool {
	return strings.HasPrefix(name, "localhost:") || strings.HasPrefix(name, "localhost/") || strings.HasPrefix(name, "127.0.0.1:")
}

// pulled reports whether a container or service gets an image from a registry, under the name that the file has.
func (c *checker) pulled(name string, container *yaml.Node) bool {
	policy := yamlfile.Value(yamlfile.Get(container, "imagePullPolicy")) + yamlfile.Value(yamlfile.Get(container, "pull_policy"))
	switch {
	case strings.EqualFold(policy, "never") || policy == "build", isCompose(c.f) && isBuild(yamlfile.Get(container, "build")):
		return false // it is built where it runs
	case strings.ContainsAny(name, "{<[%") && !strings.Contains(name, "${"), placeholder.MatchString(strings.TrimPrefix(name, bare(name)+":")):
		return false
	case name == "controller:latest": // kubebuilder's placeholder
		return false
	case strings.HasPrefix(name, "github.com/"):
		return false // a Go package that ko builds: there is no registry of this name
	}
	return !c.in.replaced[bare(name)]
}

// bare returns the name of an image without tag and digest, as kustomize compares it.
func bare(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		name = name[:at]
	}
	return name
}

// nodeAt returns the value at a JSON pointer, and the mapping or sequence that it is in.
func nodeAt(root *yaml.Node, pointer string) (n, parent *yaml.Node) {
	n = yamlfile.Resolve(root)
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		parent = n
		switch {
		case n == nil:
			return nil, nil
		case n.Kind == yaml.SequenceNode:
			i, err := strconv.Atoi(token)
			if err != nil || i >= len(n.Content) {
				return nil, nil
			}
			n = yamlfile.Resolve(n.Content[i])
		default:
			n = yamlfile.Get(n, unescape.Replace(token))
		}
	}
	return n, parent
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// kustomization finds images that a kustomization names by tag: what it says counts, and not what the
// manifests below it say.
func (c *checker) kustomization(root *yaml.Node) {
	for _, i := range yamlfile.List(yamlfile.Get(root, "images")) {
		tag := yamlfile.Get(i, "newTag")
		if tag == nil || tag.Value == "" || yamlfile.Get(i, "digest") != nil || strings.ContainsAny(tag.Value, "${<") || placeholder.MatchString(tag.Value) {
			continue
		}
		name := yamlfile.Value(yamlfile.Get(i, "newName"))
		if name == "" {
			name = yamlfile.Value(yamlfile.Get(i, "name"))
		}
		if onThisMachine(name) {
			continue
		}
		c.add(ruleImage, tag, "the image "+name+":"+tag.Value+" is whatever its tag points to when it runs", "write digest: sha256:DIGEST in place of newTag")
	}
}
