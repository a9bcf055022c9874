package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// yaml adds the images of each YAML document. The decoder limits how far aliases
// may expand, and refuses duplicate members.
func (ts *targets) yaml(raw []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	for n := 1; ; n++ {
		var doc any
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err == nil && doc == nil: // an empty document, such as Helm prints
			continue
		case err == nil:
			err = ts.object(doc)
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// object adds the images of one Kubernetes object or compose file.
func (ts *targets) object(doc any) error {
	m, ok := mapping(doc)
	if !ok {
		return errors.New("expected an image list, a Kubernetes object or a compose file")
	}
	_, hasVersion := m["apiVersion"]
	_, hasKind := m["kind"]
	services, hasServices := m["services"]
	switch {
	case hasVersion && hasKind:
		return ts.walk("", m, 0)
	case hasServices && !hasVersion && !hasKind:
		return ts.compose(m, services)
	}
	return errors.New("expected apiVersion and kind (a Kubernetes object) or services (a compose file), found neither")
}

// containerLists names the members of a pod specification that hold containers.
var containerLists = []string{"containers", "initContainers", "ephemeralContainers"}

// walk adds the images of every pod specification in v: in pods, in lists, and in
// the templates of built-in and custom objects. owner names the object that v
// belongs to.
func (ts *targets) walk(owner string, v any, depth int) error {
	if depth > limits.JSONDepth {
		return fmt.Errorf("%s is nested deeper than %d", owner, limits.JSONDepth)
	}
	if items, ok := v.([]any); ok {
		for _, item := range items {
			if err := ts.walk(owner, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	m, ok := mapping(v)
	if !ok {
		return nil
	}
	if name := objectName(m); name != "" {
		owner = name
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list, isList := m[key].([]any)
		var err error
		switch {
		case isList && slices.Contains(containerLists, key):
			err = ts.containers(owner, key, list)
		case isList && key == "volumes":
			err = ts.volumes(owner, list)
		default:
			err = ts.walk(owner, m[key], depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (ts *targets) containers(owner, key string, list []any) error {
	for i, item := range list {
		c, ok := mapping(item)
		if !ok {
			return fmt.Errorf("%s[%d] of %s: expected a container, found %T", key, i, owner, item)
		}
		place := fmt.Sprintf("%s[%d] of %s", key, i, owner)
		if err := ts.image(place, c["image"]); err != nil {
			return err
		}
	}
	return nil
}

// volumes adds the images that are mounted as volumes: their files may run, too.
func (ts *targets) volumes(owner string, list []any) error {
	for i, item := range list {
		v, _ := mapping(item)
		image, ok := mapping(v["image"])
		if !ok {
			continue
		}
		if err := ts.image(fmt.Sprintf("volumes[%d] of %s", i, owner), image["reference"]); err != nil {
			return err
		}
	}
	return nil
}

// compose adds the images of the services (compose specification, "services").
func (ts *targets) compose(m map[string]any, v any) error {
	const fill = "verify the output of `docker compose config`, which resolves them"
	if _, ok := m["include"]; ok {
		return errors.New("it includes other files; " + fill)
	}
	services, ok := mapping(v)
	if !ok {
		return fmt.Errorf("services: expected a mapping, found %T", v)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s, ok := mapping(services[name])
		if !ok {
			return fmt.Errorf("service %q: expected a mapping, found %T", name, services[name])
		}
		if image, ok := s["image"].(string); ok && strings.Contains(image, "$") {
			return fmt.Errorf("service %q: image %q has variables; %s", name, image, fill)
		}
		if err := ts.image("service "+name, s["image"]); err != nil {
			return err
		}
	}
	return nil
}

// image adds the image named at a place in a document. An unusable name becomes
// a target with a problem, so that the other images are still verified.
func (ts *targets) image(place string, value any) error {
	name, ok := value.(string)
	if !ok || name == "" {
		return ts.add(target{name: place, problem: place + " names no image"})
	}
	ref, err := containerReference(name)
	if err != nil {
		return ts.add(target{name: name, problem: fmt.Sprintf("%s: %v", place, err)})
	}
	return ts.add(target{name: name, ref: ref})
}

// containerReference parses an image name as container runtimes do: a name without
// a registry host is on Docker Hub. It never names a directory.
func containerReference(s string) (oci.Reference, error) {
	host, _, slash := strings.Cut(s, "/")
	full := s
	switch {
	case !slash:
		full = "docker.io/library/" + s
	case host != "localhost" && !strings.ContainsAny(host, ".:"):
		full = "docker.io/" + s
	}
	ref, err := oci.ParseReference(full)
	if err == nil && ref.Repository == "" {
		err = fmt.Errorf("image %q is not in a registry", s)
	}
	return ref, err
}

// mapping returns v as a map with string keys. YAML keys that are not strings get
// a key that no lookup finds, but walk still visits their values.
func mapping(v any) (map[string]any, bool) {
	if m, ok := v.(map[string]any); ok {
		return m, true
	}
	other, ok := v.(map[any]any)
	if !ok {
		return nil, false
	}
	m := make(map[string]any, len(other))
	for k, value := range other {
		if name, ok := k.(string); ok {
			m[name] = value
		} else {
			m[fmt.Sprintf("\x00%v", k)] = value
		}
	}
	return m, true
}

// objectName returns a name such as "Deployment shop/web". It is empty if m is not
// a whole object.
func objectName(m map[string]any) string {
	kind, _ := m["kind"].(string)
	meta, _ := mapping(m["metadata"])
	name, _ := meta["name"].(string)
	if name == "" || kind == "" {
		return kind
	}
	if ns, _ := meta["namespace"].(string); ns != "" {
		name = ns + "/" + name
	}
	return kind + " " + name
}
