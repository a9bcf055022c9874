package recipes

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Declare returns the content of a .colophon.yaml that declares the images which a compose
// file (services.*.build) or a bake file in JSON (target.*) builds. It is for an author, who
// commits it: nothing is built from such files themselves. top is the absolute path of the
// repository, and dir that of the file's directory.
//
// It refuses what a recipe cannot express, such as secrets, other contexts, variables,
// and targets that inherit: the tools of these formats print their files resolved. What
// does not change the image, or what Colophon sets itself, is left out and named in a comment.
func Declare(raw []byte, top, dir string) ([]byte, error) {
	var file struct {
		Services map[string]map[string]yaml.Node `yaml:"services"`
		Target   map[string]map[string]yaml.Node `yaml:"target"`
		Include  yaml.Node                       `yaml:"include"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%w (of a bake file in HCL, use the output of: docker buildx bake --print)", plainly(err))
	}
	c := converter{top: top, dir: dir}
	switch {
	case !file.Include.IsZero():
		return nil, errors.New("include: the file includes others; use the output of: docker compose config")
	case len(file.Target) > 0 && len(file.Services) == 0:
		for _, name := range slices.Sorted(maps.Keys(file.Target)) {
			if err := c.target(name, file.Target[name]); err != nil {
				return nil, fmt.Errorf("target %s: %w", name, err)
			}
		}
	case len(file.Services) > 0 && len(file.Target) == 0:
		for _, name := range slices.Sorted(maps.Keys(file.Services)) {
			if err := c.service(name, file.Services[name]); err != nil {
				return nil, fmt.Errorf("service %s: %w", name, err)
			}
		}
	default:
		return nil, errors.New("got neither services of a compose file nor targets of a bake file in JSON")
	}
	return c.marshal()
}

// converter collects the images of a file.
type converter struct {
	top, dir string
	images   []image
	leftOut  []string // for people
}

func (c *converter) marshal() ([]byte, error) {
	if len(c.images) == 0 {
		return nil, errors.New("the file builds no image")
	}
	var out bytes.Buffer
	for _, line := range c.leftOut {
		fmt.Fprintf(&out, "# left out: %s\n", line)
	}
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(document{Version: 1, Images: c.images}); err != nil {
		return nil, err
	}
	if _, err := parse(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// service adds the image that compose builds for a service, if it builds one.
func (c *converter) service(name string, s map[string]yaml.Node) error {
	if _, ok := s["extends"]; ok {
		return errors.New("it extends another service; use the output of: docker compose config")
	}
	build, ok := s["build"]
	if !ok {
		return nil
	}
	i := image{Name: name}
	if node, ok := s["image"]; ok {
		i.Name = repository(node.Value)
	}
	if build.Kind == yaml.ScalarNode {
		return c.add(i, build.Value, "")
	}
	var members map[string]yaml.Node
	if err := build.Decode(&members); err != nil {
		return plainly(err)
	}
	return c.recipe(i, name, members)
}

// target adds the image of a target of bake.
func (c *converter) target(name string, t map[string]yaml.Node) error {
	i := image{Name: name}
	if tags, ok := t["tags"]; ok && len(tags.Content) > 0 {
		i.Name = repository(tags.Content[0].Value)
	}
	return c.recipe(i, name, t)
}

// immaterial are the members of a build, in compose and bake files, that say nothing about
// what the image is built from.
var immaterial = []string{"annotations", "attest", "cache-from", "cache-to", "cache_from", "cache_to", "description", "isolation", "labels",
	"no-cache", "no_cache", "output", "provenance", "pull", "sbom", "shm-size", "shm_size", "tags", "ulimits"}

// recipe adds an image that is built as these members say.
func (c *converter) recipe(i image, from string, members map[string]yaml.Node) error {
	context, dockerfile := ".", ""
	for _, name := range slices.Sorted(maps.Keys(members)) {
		node := members[name]
		var err error
		switch {
		case name == "context":
			context = node.Value
		case name == "dockerfile":
			dockerfile = node.Value
		case name == "target":
			i.Target = node.Value
		case name == "platforms":
			err = node.Decode(&i.Platforms)
		case name == "args":
			i.BuildArgs, err = arguments(node)
		case slices.Contains(immaterial, name):
			if name != "tags" {
				c.leftOut = append(c.leftOut, from+": "+name)
			}
		default:
			err = errors.New("a recipe has no such member")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, plainly(err))
		}
	}
	return c.add(i, context, dockerfile)
}

// arguments reads build arguments: a mapping, or a list of NAME=VALUE.
func arguments(node yaml.Node) (map[string]string, error) {
	args := map[string]string{}
	if node.Kind == yaml.SequenceNode {
		for _, item := range node.Content {
			name, value, ok := strings.Cut(item.Value, "=")
			if !ok {
				return nil, fmt.Errorf("%s has no value, and a recipe takes none from an environment", name)
			}
			args[name] = value
		}
		return args, nil
	}
	var values map[string]yaml.Node
	if err := node.Decode(&values); err != nil {
		return nil, err
	}
	for name, value := range values {
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			return nil, fmt.Errorf("%s has no value, and a recipe takes none from an environment", name)
		}
		args[name] = value.Value
	}
	return args, nil
}

// add adds an image. In both formats, the context is a path from the file's directory, and
// the Dockerfile one from the context.
func (c *converter) add(i image, context, dockerfile string) error {
	for _, text := range append(slices.Collect(maps.Values(i.BuildArgs)), i.Name, i.Target, context, dockerfile) {
		if strings.Contains(text, "$") {
			return fmt.Errorf("%q has variables; use the output of: docker compose config, or docker buildx bake --print", text)
		}
	}
	if strings.Contains(context, "://") || strings.HasPrefix(context, "git@") {
		return fmt.Errorf("context: got %q, want a directory of the repository", context)
	}
	dir, err := c.inTree(c.dir, context)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	if dockerfile != "" {
		if i.Dockerfile, err = c.inTree(filepath.Join(c.top, dir), dockerfile); err != nil {
			return fmt.Errorf("dockerfile: %w", err)
		}
	}
	if i.Dockerfile == path.Join(dir, "Dockerfile") { // the default
		i.Dockerfile = ""
	}
	if dir != "." {
		i.Context = dir
	}
	if i.builder() == "" { // these formats build from a Dockerfile, and never from a go.mod
		i.Dockerfile = path.Join(dir, "Dockerfile")
	}
	c.images = append(c.images, i)
	return nil
}

// inTree returns the path from the top of the repository of a path that is relative to a
// directory, or absolute.
func (c *converter) inTree(dir, name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	rel, err := filepath.Rel(c.top, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%s is outside the repository %s", name, c.top)
	}
	return filepath.ToSlash(rel), nil
}

var tagOrDigest = lazyregexp.New(`(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@[a-z0-9+._-]+:[0-9a-f]+)?$`)

// repository returns the name of an image without registry, tag and digest.
func repository(name string) string {
	if attest.HasRegistry(name) {
		_, name, _ = strings.Cut(name, "/")
	}
	return tagOrDigest.ReplaceAllString(name, "")
}

// plainly returns an error of the decoder in one line and without names of Go types.
func plainly(err error) error {
	wrong, ok := errors.AsType[*yaml.TypeError](err)
	if !ok || len(wrong.Errors) == 0 {
		return err
	}
	what, _, unknown := strings.Cut(wrong.Errors[0], " not found in type ")
	if unknown {
		what += " is unknown"
	}
	return errors.New(what)
}
