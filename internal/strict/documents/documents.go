// Package documents reads files of YAML or JSON documents for our own formats. Each becomes
// JSON, which package strict decodes, and an error names its line and column in the file.
// What two readers of YAML may understand differently is refused: anchors, aliases, merge
// keys, tags, words and numbers that are others in YAML 1.1.
package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Document is one document of a file.
type Document struct {
	JSON []byte // the document itself, or what its YAML means

	file   []byte // the whole file
	before int    // for JSON: where in the file it begins
	marks  []mark // for YAML: where what is in JSON comes from, in the order of JSON; nil: JSON is a part of the file
}

// mark says where in the file a name or value is that begins at an offset in JSON.
type mark struct{ at, line, column int }

// ReadFile reads the one document of a file of at most max bytes into to, a pointer to one of our
// formats. An error names the file, and what in it is wrong by line and column.
func ReadFile(path string, max int, to any) error {
	raw, err := strict.ReadFile(path, max)
	if err != nil {
		return err
	}
	docs, err := Read(raw, max, 1)
	if err == nil {
		err = docs[0].Unmarshal(to)
	}
	if err != nil {
		return strict.In(path, err)
	}
	return nil
}

// Read reads a file of at most max bytes with 1 to most documents. A file that begins with
// "{" is one JSON document, any other is YAML, whose documents are separated by "---".
func Read(file []byte, max, most int) ([]*Document, error) {
	if len(file) > max {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(file), max)
	}
	if bytes.HasPrefix(bytes.TrimLeft(file, " \t\r\n"), []byte("{")) {
		return []*Document{{JSON: file, file: file}}, nil
	}
	if !utf8.Valid(file) {
		return nil, errors.New("it is not UTF-8")
	}
	var out []*Document
	for dec := yaml.NewDecoder(bytes.NewReader(file)); ; {
		var node yaml.Node
		err := dec.Decode(&node)
		switch {
		case errors.Is(err, io.EOF) && len(out) == 0:
			return nil, fault(1, 1, "the file has no document")
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, syntaxFault(err)
		case isEmpty(&node):
			continue // "---" before the first document, or after the last
		case len(out) == most:
			return nil, fault(node.Content[0].Line, node.Content[0].Column, "got more than %d documents", most)
		}
		d := &Document{file: file}
		if err := d.add(&node, 0); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
}

// isEmpty reports whether a YAML document has no content but comments.
func isEmpty(n *yaml.Node) bool {
	return len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode && n.Content[0].Value == "" && n.Content[0].Style == 0
}

// IsJSON reports whether the file is JSON.
func (d *Document) IsJSON() bool { return d.marks == nil }

// Unmarshal decodes the document into v as strict.UnmarshalKnown does.
func (d *Document) Unmarshal(v any) error {
	return d.translate(strict.UnmarshalKnown(d.JSON, math.MaxInt, v))
}

// Head returns apiVersion and kind of an object of Kubernetes; empty if there are none. It
// fails for a document that is no object, and for one with duplicate members anywhere.
func (d *Document) Head() (apiVersion, kind string, err error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	err = d.translate(strict.Unmarshal(d.JSON, math.MaxInt, &head))
	return head.APIVersion, head.Kind, err
}

// translate returns an error of package strict with its place in the file.
func (d *Document) translate(err error) error {
	f, ok := errors.AsType[*strict.Fault](err)
	switch {
	case !ok || d.marks == nil && d.before == 0:
		return err
	case d.marks == nil:
		line, column := d.place(0)
		if f.Line == 1 {
			return fault(line, column+f.Column-1, "%s", f.What)
		}
		return fault(line+f.Line-1, f.Column, "%s", f.What)
	}
	// JSON made here is one line.
	line, column := d.place(f.Column - 1)
	return fault(line, column, "%s", f.What)
}

// Fault returns what is wrong with the value that a JSON pointer leads to, or with the
// nearest value around it that is there.
func (d *Document) Fault(pointer, what string) *strict.Fault {
	line, column := d.Position(pointer)
	return fault(line, column, "%s", what)
}

// Position returns the line and column in the file, from 1, of the value that a JSON pointer
// leads to, or of the nearest value around it that is there.
func (d *Document) Position(pointer string) (line, column int) {
	p := d.Positions([]string{pointer})[0]
	return p.Line, p.Column
}

// Place is a place in the file; both count from 1.
type Place struct{ Line, Column int }

// Positions returns what Position returns for each of the pointers, and reads the document once.
func (d *Document) Positions(pointers []string) []Place {
	at := map[string]int{} // offset of each value that is one of them or around one; -1: not seen yet
	for _, p := range pointers {
		for ; at[p] == 0; p = p[:max(strings.LastIndexByte(p, '/'), 0)] {
			at[p] = -1
		}
	}
	dec := jsontext.NewDecoder(bytes.NewReader(d.JSON))
	for {
		next := int(dec.InputOffset())
		if _, err := dec.ReadToken(); err != nil {
			break
		}
		if kind, n := dec.StackIndex(dec.StackDepth()); kind == '{' && n%2 == 1 {
			continue // the name of a member
		}
		for next < len(d.JSON) && strings.IndexByte(" \t\r\n:,", d.JSON[next]) >= 0 {
			next++
		}
		if here := string(dec.StackPointer()); at[here] < 0 {
			at[here] = next
		}
	}
	out := make([]Place, len(pointers))
	for i, p := range pointers {
		for p != "" && at[p] < 0 {
			p = p[:max(strings.LastIndexByte(p, '/'), 0)]
		}
		out[i].Line, out[i].Column = d.place(max(at[p], 0))
	}
	return out
}

// Nulls returns the JSON pointer of the first null in the document that is not in one of the
// places, which are beginnings of pointers; ok is false if there is none.
func (d *Document) Nulls(except func(pointer string) bool) (pointer string, ok bool) {
	dec := jsontext.NewDecoder(bytes.NewReader(d.JSON))
	for {
		t, err := dec.ReadToken()
		if err != nil {
			return "", false
		}
		if t.Kind() != 'n' {
			continue // the pointer of each token would cost its depth
		}
		if here := string(dec.StackPointer()); !except(here) {
			return here, true
		}
	}
}

// Text returns where in the file a line of a text is, from line on, or false if the file has
// it in another form, as with escapes.
func (d *Document) Text(line int, text string) (at, column int, ok bool) {
	lines := bytes.Split(d.file, []byte("\n"))
	for i := line; i >= 1 && i <= len(lines) && i < line+maxTextLines; i++ {
		if n := bytes.Index(lines[i-1], []byte(text)); n >= 0 && text != "" {
			return i, n + 1, true
		}
	}
	return 0, 0, false
}

// maxTextLines limits how far from the beginning of a text its lines are looked for.
const maxTextLines = 200

func (d *Document) place(at int) (line, column int) {
	if d.marks == nil {
		before := d.file[:min(d.before+max(at, 0), len(d.file))]
		return bytes.Count(before, []byte{'\n'}) + 1, len(before) - bytes.LastIndexByte(before, '\n')
	}
	i, found := slices.BinarySearchFunc(d.marks, at, func(m mark, at int) int { return m.at - at })
	if !found {
		i = max(i-1, 0)
	}
	return d.marks[i].line, d.marks[i].column
}

func fault(line, column int, format string, args ...any) *strict.Fault {
	return &strict.Fault{Line: line, Column: column, What: fmt.Sprintf(format, args...)}
}

// syntaxRE matches the library's errors about a file that is not YAML.
var syntaxRE = lazyregexp.New(`^yaml: line ([0-9]+): `)

// syntaxFault returns where a file stops being YAML, in our words.
func syntaxFault(err error) error {
	f := fault(1, 1, "it is not YAML here: check indentation, colons and quotes")
	if m := syntaxRE.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1]) // digits
	}
	return f
}

// add appends what a YAML node means to d.JSON.
func (d *Document) add(n *yaml.Node, depth int) error {
	switch {
	case depth > limits.JSONDepth:
		return fault(n.Line, n.Column, "nested deeper than %d levels", limits.JSONDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fault(n.Line, n.Column, "got an anchor or alias, want none: write it out")
	case n.Style&yaml.TaggedStyle != 0:
		return fault(n.Line, n.Column, "got the tag %s, want none", n.Tag)
	case n.Kind == yaml.DocumentNode:
		return d.add(n.Content[0], depth)
	}
	d.marks = append(d.marks, mark{len(d.JSON), n.Line, n.Column})
	switch n.Kind {
	case yaml.ScalarNode:
		return d.scalar(n)
	case yaml.SequenceNode:
		d.JSON = append(d.JSON, '[')
		for i, item := range n.Content {
			if i > 0 {
				d.JSON = append(d.JSON, ',')
			}
			if err := d.add(item, depth+1); err != nil {
				return err
			}
		}
		d.JSON = append(d.JSON, ']')
		return nil
	}
	d.JSON = append(d.JSON, '{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		if i > 0 {
			d.JSON = append(d.JSON, ',')
		}
		name := n.Content[i]
		if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
			return fault(name.Line, name.Column, "want the name of a member")
		}
		if err := d.name(name); err != nil {
			return err
		}
		d.JSON = append(d.JSON, ':')
		if err := d.add(n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	d.JSON = append(d.JSON, '}')
	return nil
}

func (d *Document) name(n *yaml.Node) error {
	if n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 || n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 && (n.Tag != "!!str" || ambiguous(n.Value)) {
		return fault(n.Line, n.Column, "got the name %s, want a string: put it in quotes", n.Value)
	}
	d.marks = append(d.marks, mark{len(d.JSON), n.Line, n.Column})
	return d.text(n)
}

func (d *Document) text(n *yaml.Node) (err error) {
	if d.JSON, err = jsontext.AppendQuote(d.JSON, n.Value); err != nil {
		return fault(n.Line, n.Column, "it is not UTF-8")
	}
	return nil
}

// ambiguous reports whether a plain scalar is a boolean, a number or null to other readers:
// to those of YAML 1.1, which kubectl is.
func ambiguous(text string) bool {
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return sexagesimal.MatchString(text)
}

var (
	sexagesimal = lazyregexp.New(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
	plainInt    = lazyregexp.New(`^(0|-?[1-9][0-9]{0,17})$`)
	plainFloat  = lazyregexp.New(`^-?(0|[1-9][0-9]*)\.[0-9]+$`)
)

func (d *Document) scalar(n *yaml.Node) error {
	quoted := n.Style&^yaml.FlowStyle != 0 // or a block
	unclear := func() error {
		return fault(n.Line, n.Column, "got %s, which readers of YAML understand differently: put it in quotes, or write it as in JSON", n.Value)
	}
	switch n.Tag {
	case "!!str":
		if !quoted && ambiguous(n.Value) {
			return unclear()
		}
		return d.text(n)
	case "!!timestamp": // a string to readers of JSON and to kubectl
		return d.text(n)
	case "!!null":
		d.JSON = append(d.JSON, "null"...)
	case "!!bool":
		if n.Value != "true" && n.Value != "false" {
			return unclear()
		}
		d.JSON = append(d.JSON, n.Value...)
	case "!!int":
		if !plainInt.MatchString(n.Value) {
			return unclear()
		}
		d.JSON = append(d.JSON, n.Value...)
	case "!!float":
		if !plainFloat.MatchString(n.Value) {
			return unclear()
		}
		d.JSON = append(d.JSON, n.Value...)
	default:
		return fault(n.Line, n.Column, "got the tag %s, want none", n.Tag)
	}
	return nil
}

// YAML writes a value that encoding/json can write as YAML, with the members in the order in
// which its type has them.
func YAML(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	// JSON is YAML: what is parsed here keeps its order, and is then written in block style.
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil {
		return nil, err
	}
	plain(&node)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&node); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// plain removes the style of JSON from a node: block style, and quotes only where needed.
func plain(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0
		if strings.Contains(n.Value, "\n") {
			n.Style = yaml.LiteralStyle
		} else if ambiguous(n.Value) {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, c := range n.Content {
		plain(c)
	}
}
