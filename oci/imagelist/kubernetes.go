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
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = l.Node(&root)
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// Node adds the images of one YAML document, a Kubernetes object or a compose file. An empty document
// has none.
func (l *List) Node(root *yaml.Node) error {
	var doc any
	if err := root.Decode(&doc); err != nil || doc == nil { // Helm prints empty documents
		return err
	}
	d := document{fields: l.Fields, partial: l.Partial}
	if err := d.object(doc); err != nil {
		return err
	}
	d.linesOfYAML(root, d.spots())
	return d.addTo(l)
}

// object adds the images of one Kubernetes object or compose file.
func (d *document) object(doc any) error {
	m, ok := mapping(doc)
	if !ok {
		return errors.New("expected an image list, a Kubernetes object or a compose file")
	}
	_, hasVersion := m["apiVersion"]
	_, hasKind := m["kind"]
	services, hasServices := m["services"]
	switch {
	case hasVersion && hasKind:
		o := objectOf(m, 0)
		o.handed, o.whole = handed(m), true
		return d.walk(o, m, nil)
	case hasServices && !hasVersion && !hasKind:
		return d.compose(m, services)
	}
	return errors.New("expected apiVersion and kind (a Kubernetes object) or services (a compose file), found neither")
}

// object is the object that a value belongs to.
type object struct {
	kind, namespace, id string
	group               string
	custom              bool    // of a kind that Kubernetes does not have itself
	start               int     // length of its path in the document
	outer               *object // that it is within; nil: none
	handed              *Object // that the API server gets: it or one around it; nil: none
	whole               bool    // it is that one, or a list of such
}

// String returns a name such as "Deployment shop/web".
func (o object) String() string {
	name := o.id
	if name != "" && o.namespace != "" {
		name = o.namespace + "/" + name
	}
	return strings.TrimSpace(o.kind + " " + name)
}

// objectOf returns the object that m is the root of.
func objectOf(m map[string]any, start int) object {
	o := object{start: start}
	o.kind, _ = m["kind"].(string)
	meta, _ := mapping(m["metadata"])
	o.id, _ = meta["name"].(string)
	o.namespace, _ = meta["namespace"].(string)
	version, _ := m["apiVersion"].(string)
	group, _, grouped := strings.Cut(version, "/")
	if grouped {
		o.group = group
		o.custom = !slices.Contains(builtin, group)
	}
	return o
}

func handed(m map[string]any) *Object {
	out := &Object{Content: m}
	out.APIVersion, _ = m["apiVersion"].(string)
	out.Kind, _ = m["kind"].(string)
	return out
}

// lists reports whether the value at a path is an item of o, which is a list.
func (o object) lists(path []any) bool {
	return strings.HasSuffix(o.kind, "List") && len(path) == o.start+2 && path[o.start] == "items"
}

// within returns the object that m is the root of, in o. What reads o may read all of m,
// whatever m says that it is.
func (o object) within(m map[string]any, start int) object {
	inner := objectOf(m, start)
	inner.outer, inner.handed = &o, o.handed
	if inner.namespace == "" {
		inner.namespace = o.namespace
	}
	return inner
}

// item returns an item of a list that says once for all of them what they are, as a PodList.
func (o object) item(m map[string]any, start int) object {
	inner := o.within(m, start)
	inner.kind, inner.group, inner.custom = strings.TrimSuffix(o.kind, "List"), o.group, o.custom
	if o.whole {
		inner.handed, inner.whole = &Object{APIVersion: o.handed.APIVersion, Kind: inner.kind, Content: m}, true
	}
	return inner
}

// outermost returns the outermost object around o, or o, that is of a custom kind; nil if
// there is none.
func (o object) outermost() (custom *object) {
	for at := &o; at != nil; at = at.outer {
		if at.custom {
			custom = at
		}
	}
	return custom
}

// builtin are the API groups of Kubernetes itself, but for the core group, which has no name.
// Others end in ".k8s.io" as well.
var builtin = []string{
	"admission.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "authentication.k8s.io", "authorization.k8s.io",
	"autoscaling", "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "extensions", "flowcontrol.apiserver.k8s.io",
	"imagepolicy.k8s.io", "internal.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io", "resource.k8s.io",
	"scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
}

// containerLists names the members of a pod specification that hold containers.
var containerLists = []string{"containers", "initContainers", "ephemeralContainers"}

// walk adds the images of every pod specification in v: in pods, in lists, and in
// the templates of built-in and custom objects. o is the object that v belongs to.
func (d *document) walk(o object, v any, path []any) error {
	switch {
	case len(path) > limits.JSONDepth:
		return fmt.Errorf("%s is nested deeper than %d", o, limits.JSONDepth)
	case len(d.images) > maxNamed:
		return errNamed
	}
	if items, ok := v.([]any); ok {
		for i, item := range items {
			if err := d.walk(o, item, append(path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	m, ok := mapping(v)
	if !ok {
		return nil
	}
	kind, _ := m["kind"].(string)
	_, isObject := mapping(m["metadata"])
	switch _, whole := m["apiVersion"].(string); {
	case len(path) == 0:
	case whole && kind != "": // an item of a list, or an object within another
		item := o.whole && o.lists(path)
		if o = o.within(m, len(path)); item {
			o.handed, o.whole = handed(m), true
		}
	case isObject && o.lists(path):
		o = o.item(m, len(path))
	case whole:
		o.custom = o.custom || objectOf(m, 0).custom
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if err := d.member(o, key, m[key], append(path, key)); err != nil {
			return err
		}
	}
	return nil
}

// member adds the images of one member of an object.
func (d *document) member(o object, key string, v any, path []any) error {
	list, isList := v.([]any)
	_, isMapping := mapping(v)
	custom := o.outermost()
	switch {
	case o.whole && o.group == "apiextensions.k8s.io" && o.kind == "CustomResourceDefinition":
		return nil // its schema names the members of other objects, and nothing of it runs
	case isList && slices.Contains(containerLists, key):
		return d.containers(o, list, path)
	case isMapping && custom == nil && slices.Contains(containerLists, key):
		return fmt.Errorf("%s of %s: expected a list, found %T", pathText(path[o.start:]), o, v)
	case isList && key == "volumes":
		d.volumes(o, list, path)
		return d.walk(o, list, path) // for the attributes of CSI drivers
	case key == "volumeAttributes":
		if attributes, _ := mapping(v); attributes["image"] != nil {
			d.image(o, attributes["image"], append(path, "image"))
		}
		return d.fieldsOf(o, v, path)
	case key == "annotations":
		d.annotations(o, v, path)
		return d.fieldsOf(o, v, path)
	case custom != nil && d.fields.name(o, path):
		return d.named(o, v, path)
	case custom != nil && key == "image" && isRBD(path):
		return nil
	case custom != nil && key == "image":
		return d.custom(o, v, path)
	case custom != nil && !d.fields.know(o) && likely(key) && path[custom.start] != "status":
		return d.guess(o, v, path)
	}
	return d.walk(o, v, path)
}

func (d *document) containers(o object, list []any, path []any) error {
	for i, item := range list {
		c, ok := mapping(item)
		if !ok {
			return fmt.Errorf("%s: expected a container, found %T", placeText(o, append(path, i)), item)
		}
		d.image(o, c["image"], append(path, i, "image"))
		if o.outermost() == nil {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(c)) { // a custom kind may have more than containers have
			if key == "image" {
				continue
			}
			if err := d.member(o, key, c[key], append(path, i, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// volumes adds the images that are mounted as volumes: their files may run, too.
func (d *document) volumes(o object, list []any, path []any) {
	for i, item := range list {
		v, _ := mapping(item)
		if image, ok := mapping(v["image"]); ok {
			d.image(o, image["reference"], append(path, i, "image", "reference"))
		}
	}
}

// custom adds what a member "image" of a custom object says: its controller may run it.
func (d *document) custom(o object, v any, path []any) error {
	parts, ok := mapping(v)
	if !ok {
		if name, ok := v.(string); !ok || name == "" {
			return d.walk(o, v, path)
		}
		d.image(o, v, path)
		return nil
	}
	if _, ok := parts["repository"].(string); ok {
		place := placeText(o, path)
		d.problem(o, place, place+" has the image's name in parts, which only its controller puts together", path)
		return nil
	}
	if name, ok := parts["reference"].(string); ok {
		d.image(o, name, append(path, "reference"))
		return nil
	}
	return d.walk(o, v, path)
}

// notText begins the names of members whose YAML keys are not strings.
const notText = "\x00"

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
			m[fmt.Sprintf("%s%v", notText, k)] = value
		}
	}
	return m, true
}
