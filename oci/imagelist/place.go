package imagelist

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
)

// Place is where a document names an image.
type Place struct {
	Kind      string // of the object: Deployment; of a compose file: service or model
	Namespace string // of the object, if it says so
	Name      string // of the object
	Path      string // of the field, from the object: spec.template.spec.containers[0].image
	Line      int    // in the document, from 1

	Pointer string  `json:"-"` // of the field, from the document (RFC 6901); empty in a list
	Object  *Object `json:"-"` // that is handed to the API server; nil in a list and a compose file
}

// Object is an object as the API server gets it: a document, or an item of a list. What it is
// made of, such as the pods of a Deployment, is no Object of its own. All images in one have the
// same pointer.
type Object struct {
	APIVersion, Kind string
	Content          map[string]any // decoded YAML or JSON
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
	fields  Fields
	partial bool    // see List
	images  []Image // each with one place
	paths   [][]any // of the images, from the document's root: names of members and indices
}

// addTo adds the images to l.
func (d *document) addTo(l *List) error {
	if len(d.images) > maxNamed {
		return errNamed
	}
	for _, i := range d.images {
		if err := l.Add(i); err != nil {
			return err
		}
	}
	return nil
}

// maxNamed is the maximum number of images that a document names, duplicates included.
const maxNamed = 10 * limits.Images

var errNamed = fmt.Errorf("it names more than %d images", maxNamed)

func (d *document) add(o object, i Image, path []any) {
	if len(d.images) > maxNamed {
		return // addTo says so
	}
	i.Places = []Place{{Kind: o.kind, Namespace: o.namespace, Name: o.id, Path: pathText(path[o.start:]), Pointer: pointer(path), Object: o.handed}}
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
	ref, err := Reference(name)
	if err != nil && hasParameters(o, name) {
		d.add(o, Image{Name: name, Parameters: true, Problem: fmt.Sprintf("%s: %q has parameters, which the controller of the %s fills in", placeText(o, path), name, o.kind)}, path)
		return
	}
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

var plainName = lazyregexp.New(`^[A-Za-z_][A-Za-z0-9_-]*$`)

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

// pointer returns a path as a JSON pointer (RFC 6901).
func pointer(path []any) string {
	var b strings.Builder
	for _, token := range path {
		b.WriteByte('/')
		if name, ok := token.(string); ok {
			_, _ = pointerEscapes.WriteString(&b, name)
		} else {
			fmt.Fprint(&b, token)
		}
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// spot is a value in a document, in which or at which images are named.
type spot struct {
	images []int         // indices of those that are named here
	below  map[any]*spot // by the name of the member or the index
}

// spots returns the root of the document, with the places of all images.
func (d *document) spots() *spot {
	root := &spot{}
	for i, path := range d.paths {
		at := root
		for _, token := range path {
			if at.below == nil {
				at.below = make(map[any]*spot)
			}
			if at.below[token] == nil {
				at.below[token] = &spot{}
			}
			at = at.below[token]
		}
		at.images = append(at.images, i)
	}
	return root
}

// mark sets the line of all images in a spot. Those further down get a better one, if it is found.
func (d *document) mark(at *spot, line int) {
	for _, i := range at.images {
		d.images[i].Places[0].Line = line
	}
	for _, below := range at.below {
		d.mark(below, line)
	}
}

// linesOfYAML finds the lines of the places in a YAML value. It looks at each value once, as
// the decoder did.
func (d *document) linesOfYAML(n *yaml.Node, at *spot) {
	d.mark(at, n.Line)
	if n = content(n); n == nil {
		return
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if below := at.below[i]; below != nil {
				d.linesOfYAML(item, below)
			}
		}
	case yaml.MappingNode:
		d.linesOfMembers(n, at, make(map[*spot]bool, len(at.below)), 0)
	}
}

// mergeDepth is how deeply mappings are looked up that are merged ("<<") into others.
const mergeDepth = 16

// linesOfMembers finds the lines of places in the members of a mapping that were not found yet.
func (d *document) linesOfMembers(n *yaml.Node, at *spot, found map[*spot]bool, depth int) {
	if n = content(n); n == nil || n.Kind != yaml.MappingNode || depth > mergeDepth || len(found) == len(at.below) {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		for _, name := range []string{n.Content[i].Value, notText + n.Content[i].Value} {
			if below := at.below[name]; below != nil && !found[below] {
				found[below] = true
				d.linesOfYAML(n.Content[i+1], below)
			}
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
			d.linesOfMembers(m, at, found, depth+1)
		}
	}
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

// linesOfJSON finds the lines of the places in a JSON document, which was read without an
// error before.
func (d *document) linesOfJSON(raw []byte, root *spot) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	line, counted := 1, 0
	var value func(at *spot)
	value = func(at *spot) {
		if at == nil {
			_ = dec.SkipValue()
			return
		}
		token, err := dec.ReadToken()
		if err != nil {
			return
		}
		end := int(dec.InputOffset())
		line, counted = line+bytes.Count(raw[counted:end], []byte("\n")), end
		d.mark(at, line)
		for i := 0; (token.Kind() == '{' || token.Kind() == '[') && dec.PeekKind() > 0 && dec.PeekKind() != '}' && dec.PeekKind() != ']'; i++ {
			if token.Kind() == '[' {
				value(at.below[i])
				continue
			}
			name, err := dec.ReadToken()
			if err != nil {
				return
			}
			value(at.below[name.String()])
		}
		if token.Kind() == '{' || token.Kind() == '[' {
			_, _ = dec.ReadToken() // its end
		}
	}
	value(root)
}
