// Package yamlfile reads YAML files of pipelines with the place of every value, so that a value
// can be found in the bytes of its file and replaced there.
package yamlfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
)

// maxNodes caps the values of a file, where an alias counts as what it stands for. The largest
// workflow of the repositories that we looked at has 3,000.
const maxNodes = 100_000

// maxBytes caps a file, whose values need fifty times its size in memory.
const maxBytes = 2 << 20

// maxDocuments caps the documents of a file.
const maxDocuments = 1000

// Error says what is wrong with a file, and where.
type Error struct {
	Line  int // counts from 1; 0: the file as a whole
	Text  string
	Limit bool // it is too large, has too much of something, or is in UTF-16: nobody knows whether its syntax is right
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Text)
}

// Wide reports whether a file is in UTF-16, as PowerShell writes what a command prints. The YAML parser and kubectl
// read it; its texts are not among its bytes, so that Parse refuses it.
func Wide(f *finding.File) bool {
	return bytes.HasPrefix(f.Data, []byte("\xff\xfe")) || bytes.HasPrefix(f.Data, []byte("\xfe\xff"))
}

// escapes are what a text between double quotes may have in the place of a letter, or between two.
var escapes = [][]byte{[]byte(`\x`), []byte(`\u`), []byte(`\U`), []byte("\\\n"), []byte("\\\r\n")}

// Escaped reports whether texts of a file may not be among its bytes, as in "api\x56ersion".
func Escaped(f *finding.File) bool {
	return slices.ContainsFunc(escapes, func(e []byte) bool { return bytes.Contains(f.Data, e) })
}

// Parse returns the root of each document of a file that has one. The error is an *Error; the
// documents before it are returned.
func Parse(f *finding.File) (roots []*yaml.Node, err error) {
	defer func() { // the parser's own panics are bugs, and the file is a stranger's
		if p := recover(); p != nil {
			err = &Error{Text: fmt.Sprintf("the YAML parser failed: %v", p)}
		}
	}()
	if len(f.Data) > maxBytes {
		return nil, &Error{Text: fmt.Sprintf("expected at most %d bytes of YAML, found %d", maxBytes, len(f.Data)), Limit: true}
	}
	if Wide(f) {
		return nil, &Error{Line: 1, Text: "expected UTF-8, found UTF-16", Limit: true}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(f.Data)))
	nodes, starts := 0, lineStarts(f)
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return roots, nil
		} else if err != nil {
			return roots, AsError(err)
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
			continue
		}
		n, err := expanded(doc.Content[0], map[*yaml.Node]int{})
		if err != nil {
			return roots, err
		}
		if nodes += n; nodes > maxNodes {
			return roots, &Error{Line: doc.Line, Text: fmt.Sprintf("more than %d values, where an alias counts as what it stands for", maxNodes), Limit: true}
		}
		if starts != nil {
			place(f, doc.Content[0], starts)
		}
		if roots = append(roots, doc.Content[0]); len(roots) > maxDocuments {
			return roots, &Error{Line: doc.Line, Text: fmt.Sprintf("more than %d documents", maxDocuments), Limit: true}
		}
	}
}

// Mapping returns the root of a file with one document, which is a mapping. The error is an *Error.
func Mapping(f *finding.File) (*yaml.Node, error) {
	roots, err := Parse(f)
	if err == nil && (len(roots) != 1 || roots[0].Kind != yaml.MappingNode) {
		err = &Error{Line: 1, Text: "expected one mapping of keys to values"}
	}
	if err != nil {
		return nil, err
	}
	return roots[0], nil
}

// lineBreaks are those of YAML 1.1, which the parser counts.
var lineBreaks = lazyregexp.New("\r\n|[\n\r\u0085\u2028\u2029]")

const byteOrderMark = "\ufeff"

// lineStarts returns the offset of each line as the parser counts them, or nil if these are the lines of
// the file. The parser does not count a byte order mark.
func lineStarts(f *finding.File) []int {
	if !bytes.ContainsAny(f.Data, "\r\u0085\u2028\u2029\ufeff") {
		return nil
	}
	text := string(f.Data)
	mark := strings.HasPrefix(text, byteOrderMark)
	breaks := lineBreaks.FindAllStringIndex(text, -1)
	if !mark && len(breaks)+1 == f.Lines() {
		return nil
	}
	starts := []int{0}
	if mark {
		starts[0] = len(byteOrderMark)
	}
	for _, b := range breaks {
		starts = append(starts, b[1])
	}
	return starts
}

// place changes the lines and columns of values to those of the file.
func place(f *finding.File, n *yaml.Node, starts []int) {
	if n.Line >= 1 && n.Line <= len(starts) {
		at := f.After(starts[n.Line-1], n.Column-1)
		p := f.Position(at, at)
		n.Line, n.Column = p.Line, p.Column
	}
	for _, c := range n.Content {
		place(f, c, starts)
	}
}

var lineOfError = lazyregexp.New(`line (\d+): `)

// AsError returns an error of the YAML library with its line, as Broken expects it.
func AsError(err error) *Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	if m := lineOfError.FindStringSubmatchIndex(text); m != nil {
		line, _ := strconv.Atoi(text[m[2]:m[3]])
		return &Error{Line: line, Text: text[m[1]:]}
	}
	return &Error{Text: text}
}

// expanded counts the values below n as a reader sees them that follows aliases, and fails if a mapping has a key
// twice. seen has the counts below anchors; -1 while one is being counted.
func expanded(n *yaml.Node, seen map[*yaml.Node]int) (int, error) {
	if n.Kind == yaml.AliasNode {
		return expanded(n.Alias, seen)
	}
	if count, ok := seen[n]; ok {
		if count < 0 {
			return 0, &Error{Line: n.Line, Text: fmt.Sprintf("the anchor %q contains itself", n.Anchor)}
		}
		return count, nil
	}
	if n.Anchor != "" {
		seen[n] = -1
	}
	if err := twice(n); err != nil {
		return 0, err
	}
	sum := 1
	for _, c := range n.Content {
		count, err := expanded(c, seen)
		if err != nil {
			return 0, err
		}
		if sum += count; sum > maxNodes {
			return 0, &Error{Line: n.Line, Text: fmt.Sprintf("more than %d values, where an alias counts as what it stands for", maxNodes), Limit: true}
		}
	}
	if n.Anchor != "" {
		seen[n] = sum
	}
	return sum, nil
}

// twice fails if a mapping has a key twice: some readers take the first value, others the last.
func twice(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Value == "<<" {
			continue
		}
		if seen[key.Value] {
			return &Error{Line: key.Line, Text: fmt.Sprintf("the key %q is there twice", key.Value)}
		}
		seen[key.Value] = true
	}
	return nil
}

// Resolve returns what an alias stands for, and other nodes as they are.
func Resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// Pairs calls f for each key of a mapping, with its value, until f returns false. The keys of a merged
// mapping ("<<") come last, without those that are written in the mapping or were merged before.
func Pairs(n *yaml.Node, f func(key, value *yaml.Node) bool) {
	if n = Resolve(n); n != nil && n.Kind == yaml.MappingNode {
		pairs(n, nil, f)
	}
}

// pairs does so for one mapping. seen has the keys of those into which it is merged; nil: into none.
func pairs(n *yaml.Node, seen map[string]bool, f func(key, value *yaml.Node) bool) bool {
	var merged, own []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], Resolve(n.Content[i+1])
		switch {
		case key.Value == "<<" && key.Kind == yaml.ScalarNode:
			merged = append(merged, List(value)...)
		case !seen[key.Value]:
			own = append(own, key)
			if !f(key, value) {
				return false
			}
		}
	}
	if seen == nil && len(merged) > 0 {
		seen = map[string]bool{}
	} else if seen == nil {
		return true
	}
	for _, key := range own {
		seen[key.Value] = true
	}
	for _, m := range merged {
		if m.Kind == yaml.MappingNode && !pairs(m, seen, f) {
			return false
		}
	}
	return true
}

// Get follows keys through mappings, and returns nil if one is missing. A merged mapping ("<<")
// counts where its keys are not written themselves.
func Get(n *yaml.Node, keys ...string) *yaml.Node {
	for _, name := range keys {
		if n = member(Resolve(n), name); n == nil {
			return nil
		}
	}
	return Resolve(n)
}

// member returns the value of a key, without what Pairs needs: it is what linters do most.
func member(n *yaml.Node, name string) (found *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	merges := false
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch key := n.Content[i]; {
		case key.Value == "<<" && key.Kind == yaml.ScalarNode:
			merges = true
		case key.Value == name:
			return Resolve(n.Content[i+1])
		}
	}
	if merges {
		Pairs(n, func(key, value *yaml.Node) bool {
			if key.Value == name {
				found = value
			}
			return found == nil
		})
	}
	return found
}

// List returns the items of a sequence, and any other value as a list of itself.
func List(n *yaml.Node) []*yaml.Node {
	n = Resolve(n)
	switch {
	case n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return nil
	case n.Kind != yaml.SequenceNode:
		return []*yaml.Node{n}
	}
	out := make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		out = append(out, Resolve(c))
	}
	return out
}

// Value returns the text of a scalar, and "" for anything else.
func Value(n *yaml.Node) string {
	if n = Resolve(n); n != nil && n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return ""
}

// Broken returns the finding that a file cannot be read. err is that of Parse, or an *Error.
func Broken(f *finding.File, rule string, err error) finding.Finding {
	out := finding.Finding{Rule: rule, Position: finding.Position{File: f.Path}, Message: err.Error(), Mend: "mend the syntax; nothing else in this file was checked"}
	if e, ok := err.(*Error); ok && e.Line > 0 {
		out.Position = f.Position(f.LineStart(e.Line), f.LineEnd(e.Line))
		out.Message = e.Text
	}
	return out
}

// Checker returns a checker of files that read parses. A file that it cannot read is a finding of the
// rule broken.
func Checker[T any](rules []finding.Rule, wants func(path string) bool, broken string, read func(*finding.File) (T, error), check func(context.Context, *finding.Tree, T) []finding.Finding) finding.Checker {
	return finding.Checker{Rules: rules, Wants: wants, Check: func(ctx context.Context, t *finding.Tree, f *finding.File) []finding.Finding {
		parsed, err := read(f)
		if err != nil {
			return []finding.Finding{Broken(f, broken, err)}
		}
		return check(ctx, t, parsed)
	}}
}

// Scalars returns the scalars in a node, which may be one, or a list of lists of them.
func Scalars(n *yaml.Node) (out []*yaml.Node) {
	n = Resolve(n)
	switch {
	case n == nil:
	case n.Kind == yaml.ScalarNode:
		out = append(out, n)
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			out = append(out, Scalars(c)...)
		}
	}
	return out
}
