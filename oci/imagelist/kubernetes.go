package imagelist

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
)

// yaml adds the images of each YAML document. The decoder limits how far aliases
// may expand, and refuses duplicate members.
func (l *List) yaml(raw []byte) error {
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
			err = l.object(doc)
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// object adds the images of one Kubernetes object or compose file.
func (l *List) object(doc any) error {
	m, ok := mapping(doc)
	if !ok {
		return errors.New("expected an image list, a Kubernetes object or a compose file")
	}
	_, hasVersion := m["apiVersion"]
	_, hasKind := m["kind"]
	services, hasServices := m["services"]
	switch {
	case hasVersion && hasKind:
		return l.walk(object{custom: isCustom(m)}, m, 0)
	case hasServices && !hasVersion && !hasKind:
		return l.compose(m, services)
	}
	return errors.New("expected apiVersion and kind (a Kubernetes object) or services (a compose file), found neither")
}

// object is the object that a value belongs to.
type object struct {
	name   string // for people
	custom bool   // of a kind that Kubernetes does not have itself
}

// builtin are the groups of Kubernetes itself that have no dot. Those with a dot end in
// ".k8s.io".
var builtin = []string{"apps", "autoscaling", "batch", "extensions", "policy"}

func isCustom(m map[string]any) bool {
	version, _ := m["apiVersion"].(string)
	group, _, grouped := strings.Cut(version, "/")
	return grouped && !slices.Contains(builtin, group) && !strings.HasSuffix(group, ".k8s.io")
}

// containerLists names the members of a pod specification that hold containers.
var containerLists = []string{"containers", "initContainers", "ephemeralContainers"}

// walk adds the images of every pod specification in v: in pods, in lists, and in
// the templates of built-in and custom objects. owner is the object that v
// belongs to.
func (l *List) walk(owner object, v any, depth int) error {
	if depth > limits.JSONDepth {
		return fmt.Errorf("%s is nested deeper than %d", owner.name, limits.JSONDepth)
	}
	if items, ok := v.([]any); ok {
		for _, item := range items {
			if err := l.walk(owner, item, depth+1); err != nil {
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
		owner.name = name
	}
	if _, whole := m["apiVersion"].(string); whole { // an item of a list has its own kind
		owner.custom = isCustom(m)
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list, isList := m[key].([]any)
		var err error
		switch {
		case isList && slices.Contains(containerLists, key):
			err = l.containers(owner.name, key, list)
		case isList && key == "volumes":
			if err = l.volumes(owner.name, list); err == nil {
				err = l.walk(owner, list, depth+1) // for the attributes of CSI drivers
			}
		case key == "volumeAttributes":
			if attributes, _ := mapping(m[key]); attributes["image"] != nil {
				err = l.image("volumeAttributes of "+owner.name, attributes["image"])
			}
		case key == "image" && owner.custom:
			err = l.member(owner, m[key], depth)
		default:
			err = l.walk(owner, m[key], depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *List) containers(owner, key string, list []any) error {
	for i, item := range list {
		c, ok := mapping(item)
		if !ok {
			return fmt.Errorf("%s[%d] of %s: expected a container, found %T", key, i, owner, item)
		}
		place := fmt.Sprintf("%s[%d] of %s", key, i, owner)
		if err := l.image(place, c["image"]); err != nil {
			return err
		}
	}
	return nil
}

// volumes adds the images that are mounted as volumes: their files may run, too.
func (l *List) volumes(owner string, list []any) error {
	for i, item := range list {
		v, _ := mapping(item)
		image, ok := mapping(v["image"])
		if !ok {
			continue
		}
		if err := l.image(fmt.Sprintf("volumes[%d] of %s", i, owner), image["reference"]); err != nil {
			return err
		}
	}
	return nil
}

// member adds what a member "image" of a custom object says: its controller may run it.
func (l *List) member(owner object, v any, depth int) error {
	place := "image of " + owner.name
	parts, ok := mapping(v)
	if !ok {
		if name, ok := v.(string); !ok || name == "" {
			return l.walk(owner, v, depth+1)
		}
		return l.image(place, v)
	}
	if _, ok := parts["repository"].(string); ok {
		return l.Add(Image{Name: place, Problem: place + " has the image's name in parts, which only its controller puts together"})
	}
	if name, ok := parts["reference"].(string); ok {
		return l.image(place, name)
	}
	return l.walk(owner, v, depth+1)
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
