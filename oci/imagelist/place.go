package imagelist

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// Place is where a document names an image.
type Place struct {
	Kind      string // of the object: Deployment; of a compose file: service or model
	Namespace string // of the object, if it says so
	Name      string // of the object
	Path      string // of the field, from the object: spec.template.spec.containers[0].image
	Line      int    // in the document, from 1
}

// String returns the place in words: Deployment shop/web, spec.containers[0].image, line 7.
func (p Place) String() string {
	var out []string
	if o := (object{kind: p.Kind, namespace: p.Namespace, id: p.Name}).String(); o != "" {
		out = append(out, o)
	}
	if p.Path != "" {
		out = append(out, p.Path)
	}
	if p.Line > 0 {
		out = append(out, fmt.Sprintf("line %d", p.Line))
	}
	return strings.Join(out, ", ")
}

// document collects the images of one document.
type document struct {
	fields Fields
	images []Image // each with one place
	paths  [][]any // of the images, from the document's root: names of members and indices
}

// addTo adds the images to l.
func (d *document) addTo(l *List) error {
	for _, i := range d.images {
		if err := l.Add(i); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) add(o object, i Image, path []any) {
	i.Places = []Place{{Kind: o.kind, Namespace: o.namespace, Name: o.id, Path: pathText(path[o.start:])}}
	d.images = append(d.images, i)
	d.paths = append(d.paths, slices.Clone(path))
}

// image adds the image named at a place. An unusable name becomes an Image with a problem,
// so that the other images are still verified.
func (d *document) image(o object, value any, path []any) {
	name, ok := value.(string)
	if !ok || name == "" {
		// It is the container or volume that names none.
		path = path[:max(o.start, len(path)-1)]
		place := placeText(o, path)
		d.problem(o, place, place+" names no image", path)
		return
	}
	ref, err := containerReference(name)
	if err != nil {
		d.problem(o, name, fmt.Sprintf("%s: %v", placeText(o, path), err), path)
		return
	}
	d.add(o, Image{Name: name, Reference: ref}, path)
}

func (d *document) problem(o object, name, problem string, path []any) {
	d.add(o, Image{Name: name, Problem: problem}, path)
}

// placeText names a place for people: spec.containers[0] of Pod shop/web.
func placeText(o object, path []any) string {
	text := pathText(path[o.start:])
	switch {
	case o.kind == "service" || o.kind == "model":
		if text = pathText(path[min(2, len(path)):]); text == "" || text == "image" || text == "model" {
			return o.String()
		}
	case text == "":
		return o.String()
	}
	return text + " of " + o.String()
}

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// pathText returns a path as kubectl writes it. Names with other characters than letters,
// digits, - and _ are quoted.
func pathText(path []any) string {
	var b strings.Builder
	for _, token := range path {
		name, ok := token.(string)
		switch {
		case !ok:
			fmt.Fprintf(&b, "[%d]", token)
		case !plainName.MatchString(name):
			fmt.Fprintf(&b, "[%q]", strings.TrimPrefix(name, notText))
		case b.Len() > 0:
			b.WriteString("." + name)
		default:
			b.WriteString(name)
		}
	}
	return b.String()
}

// linesOfYAML finds the lines of the places in a YAML document.
func (d *document) linesOfYAML(root *yaml.Node) {
	for i, path := range d.paths {
		d.images[i].Places[0].Line = lineOf(root, path)
	}
}

// lineOf returns the line of the value at a path, or of the nearest value around it.
func lineOf(n *yaml.Node, path []any) int {
	line := n.Line
	for _, token := range path {
		if n = content(n); n == nil {
			break
		}
		if name, ok := token.(string); ok {
			n = memberOf(n, strings.TrimPrefix(name, notText), 0)
		} else if i := token.(int); n.Kind == yaml.SequenceNode && i < len(n.Content) {
			n = n.Content[i]
		} else {
			n = nil
		}
		if n == nil {
			break
		}
		line = n.Line
	}
	return line
}

// content returns what an alias stands for, and the value of a document.
func content(n *yaml.Node) *yaml.Node {
	switch {
	case n.Kind == yaml.AliasNode:
		return n.Alias
	case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
		return n.Content[0]
	}
	return n
}

// mergeDepth is how deeply mappings are looked up that are merged ("<<") into others.
const mergeDepth = 16

// memberOf returns a member of a mapping, or nil.
func memberOf(n *yaml.Node, name string, depth int) *yaml.Node {
	if n = content(n); n == nil || n.Kind != yaml.MappingNode || depth > mergeDepth {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		merged := []*yaml.Node{n.Content[i+1]}
		if c := content(n.Content[i+1]); c != nil && c.Kind == yaml.SequenceNode {
			merged = c.Content
		}
		for _, m := range merged {
			if found := memberOf(m, name, depth+1); found != nil {
				return found
			}
		}
	}
	return nil
}

// linesOfJSON finds the lines of the places in a JSON document, which was read without an
// error before.
func (d *document) linesOfJSON(raw []byte) {
	left := make(map[jsontext.Pointer]int, len(d.paths))
	names := make(map[string]bool, len(d.paths))
	every := false
	for i, path := range d.paths {
		left[pointerTo(path)] = i
		names[d.images[i].Name] = true
		every = every || d.images[i].Problem != ""
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	line, counted := 1, 0
	for len(left) > 0 {
		token, err := dec.ReadToken()
		if err != nil {
			return
		}
		at := int(dec.InputOffset())
		line, counted = line+bytes.Count(raw[counted:at], []byte("\n")), at
		// Pointers are costly: most values are no name of an image.
		if !every && (token.Kind() != '"' || !names[token.String()]) {
			continue
		}
		pointer := dec.StackPointer()
		if i, ok := left[pointer]; ok {
			d.images[i].Places[0].Line = line
			delete(left, pointer)
		}
	}
}

func pointerTo(path []any) jsontext.Pointer {
	var p jsontext.Pointer
	for _, token := range path {
		switch token := token.(type) {
		case int:
			p = p.AppendToken(strconv.Itoa(token))
		case string:
			p = p.AppendToken(token)
		}
	}
	return p
}
