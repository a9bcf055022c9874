package imagelist

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fields says which fields of custom kinds name images, besides containers, image volumes
// and members called "image". A key is KIND.GROUP, as kubectl writes it; a value is the
// paths of the fields, from the object, without indices: spec.imageName, spec.steps[].runner.
// Of a kind with a key, no other field is guessed to be an image.
type Fields map[string][]string

// ParseFields parses KIND.GROUP=PATH[,PATH…]; without a path, no field of the kind names an
// image besides those that every kind may have.
func ParseFields(texts []string) (Fields, error) {
	f := Fields{}
	for _, text := range texts {
		kind, paths, ok := strings.Cut(text, "=")
		name, group, grouped := strings.Cut(kind, ".")
		if !ok || !grouped || name == "" || group == "" || strings.ContainsAny(kind, " \t/[]") {
			return nil, fmt.Errorf("expected KIND.GROUP=PATH[,PATH…], as in Cluster.postgresql.cnpg.io=spec.imageName, found %q", text)
		}
		list := f[kind]
		if list == nil {
			list = []string{} // known, with or without paths
		}
		for path := range strings.SplitSeq(paths, ",") {
			switch {
			case path == "" && paths == "":
			case path == "" || strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..") || strings.ContainsAny(path, " \t*$"):
				return nil, fmt.Errorf("%s: expected a path such as spec.steps[].image, found %q", kind, path)
			default:
				list = append(list, path)
			}
		}
		f[kind] = list
	}
	return f, nil
}

// Has reports whether f, or what is known here, says which fields of a custom kind name images.
func (f Fields) Has(kind, group string) bool {
	_, mine := f[kind+"."+group]
	_, ours := known()[kind+"."+group]
	return mine || ours
}

// kindName returns the key of an object's kind in Fields.
func kindName(o object) string { return o.kind + "." + o.group }

// know reports whether the fields of an object's kind are known, and those of each custom kind
// around it.
func (f Fields) know(o object) bool {
	_, mine := f[kindName(o)]
	_, ours := known()[kindName(o)]
	isKnown := mine || ours || !o.custom
	return isKnown && (o.outer == nil || f.know(*o.outer))
}

// name reports whether the field at a path names an image, of the object or of one around it.
func (f Fields) name(o object, path []any) bool {
	return f.has(o, path) || o.outer != nil && f.name(*o.outer, path)
}

func (f Fields) has(o object, path []any) bool {
	paths := append(slices.Clone(f[kindName(o)]), known()[kindName(o)].Fields...)
	if len(paths) == 0 {
		return false
	}
	var b strings.Builder
	for _, token := range path[o.start:] {
		if name, ok := token.(string); !ok {
			b.WriteString("[]")
		} else if b.Len() > 0 {
			b.WriteString("." + name)
		} else {
			b.WriteString(name)
		}
	}
	return slices.Contains(paths, b.String()) || slices.Contains(paths, b.String()+"[]")
}

// fieldsOf adds what the members of v name that Fields has. Nothing else in v is an image.
func (d *document) fieldsOf(o object, v any, path []any) error {
	m, _ := mapping(v)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if at := append(path, key); d.fields.name(o, at) {
			if err := d.named(o, m[key], at); err != nil {
				return err
			}
		}
	}
	return nil
}

// named adds what a field names that Fields has: one image, or a list of them.
func (d *document) named(o object, v any, path []any) error {
	switch v := v.(type) {
	case nil:
	case string:
		if v != "" {
			d.image(o, v, path)
		}
	case []any:
		for i, item := range v {
			if _, ok := item.(string); !ok {
				return d.walk(o, v, path)
			}
			d.image(o, item, append(path, i))
		}
	default:
		return fmt.Errorf("%s: expected the name of an image, found %T", placeText(o, path), v)
	}
	return nil
}

// likely reports whether a field's name says that it is an image.
func likely(key string) bool {
	key = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
	for _, end := range []string{"image", "images", "imagename", "imageref", "imagereference", "imageurl", "imageuri"} {
		if strings.HasSuffix(key, end) {
			return true
		}
	}
	return false
}

// guess reports a field of a custom kind that may name images.
func (d *document) guess(o object, v any, path []any) error {
	report := func(path []any) {
		place := placeText(o, path)
		d.problem(o, place, fmt.Sprintf("%s may name an image: nothing says what the fields of a %s are", place, kindName(o)), path)
	}
	switch v := v.(type) {
	case string:
		if v != "" {
			report(path)
		}
		return nil
	case []any:
		for i, item := range v {
			if _, ok := item.(string); ok {
				report(append(path, i))
			}
		}
	}
	if parts, ok := mapping(v); ok {
		if _, ok := parts["repository"].(string); ok {
			return d.custom(o, v, path)
		}
	}
	return d.walk(o, v, path)
}

// injectors are annotations that make an admission webhook add a container with this image.
var injectors = []string{
	"config.linkerd.io/debug-image", "config.linkerd.io/init-image", "config.linkerd.io/proxy-image",
	"dapr.io/sidecar-image", "sidecar.istio.io/proxyImage", "vault.hashicorp.com/agent-image",
}

// annotations reports the images that an injector would run beside those of the document.
func (d *document) annotations(o object, v any, path []any) {
	m, _ := mapping(v)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if slices.Contains(injectors, key) {
			place := placeText(o, append(path, key))
			d.problem(o, place, place+" makes an injector run an image, which only the injector names completely", append(path, key))
		}
	}
}
