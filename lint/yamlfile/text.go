package yamlfile

import (
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
)

// Text is the value of a scalar, which knows where its bytes are in the file.
type Text struct {
	Value string
	File  *finding.File

	start  int    // offset of the scalar in the file
	single int    // offset of Value, if the file has it unchanged, else -1
	starts []line // of a block
}

// line is where a line of a block starts.
type line struct{ value, file int }

// At returns the text of the scalar that begins at a line and column.
func At(f *finding.File, line, column int, value string) Text {
	t := Text{Value: value, File: f, start: f.Offset(line, column), single: -1}
	rest := f.Data[t.start:]
	has := func(prefix string) bool { return len(rest) >= len(prefix) && string(rest[:len(prefix)]) == prefix }
	switch {
	case value == "" || len(rest) == 0:
	case has(value) && !strings.Contains(value, "\n"):
		t.single = t.start
	case (rest[0] == '"' || rest[0] == '\'') && has(string(rest[:1])+value+string(rest[:1])):
		t.single = t.start + 1
	case rest[0] == '|':
		t.starts = block(f, line+1, value)
	}
	return t
}

// Of returns the text of a scalar.
func Of(f *finding.File, n *yaml.Node) Text { return At(f, n.Line, n.Column, n.Value) }

// block finds the lines of a literal block in a file: each line without the indentation. It
// returns nil if the file does not have them, as when a line has an escape of another reader.
func block(f *finding.File, n int, value string) (starts []line) {
	indent, from := -1, 0
	for text := range strings.SplitSeq(strings.TrimRight(value, "\n"), "\n") {
		raw := f.Line(n)
		at := f.LineStart(n)
		n++
		if text == "" {
			if strings.TrimLeft(raw, " ") != "" {
				return nil
			}
			starts = append(starts, line{from, at})
			from++
			continue
		}
		if indent < 0 {
			indent = len(raw) - len(text)
		}
		if indent < 0 || len(raw) < indent || raw[indent:] != text {
			return nil
		}
		starts = append(starts, line{from, at + indent})
		from += len(text) + 1
	}
	return starts
}

// Range returns where the bytes from start to end of Value are in the file. If exact is false
// they cannot be told apart there, and the range is that of the scalar's first line.
func (t Text) Range(start, end int) (from, to int, exact bool) {
	if t.single >= 0 && start >= 0 && end <= len(t.Value) {
		return t.single + start, t.single + end, true
	}
	if from, ok := t.place(start); ok {
		if to, ok := t.place(end); ok {
			return from, to, true
		}
	}
	line := t.File.Position(t.start, t.start).Line
	return t.start, max(t.start, t.File.LineEnd(line)), false
}

func (t Text) place(at int) (int, bool) {
	if at < 0 || at > len(t.Value) {
		return 0, false
	}
	i := sort.Search(len(t.starts), func(i int) bool { return t.starts[i].value > at }) - 1
	if i < 0 || i+1 == len(t.starts) && strings.Contains(t.Value[t.starts[i].value:at], "\n") {
		return 0, false // the last ones may be empty
	}
	return t.starts[i].file + at - t.starts[i].value, true
}

// Position returns the place of the bytes from start to end of Value.
func (t Text) Position(start, end int) finding.Position {
	from, to, _ := t.Range(start, end)
	return t.File.Position(from, to)
}

// Replace returns the edit that replaces the bytes from start to end of Value, and no edit if the
// file does not have them as they are, or if the new text would need quotes.
func (t Text) Replace(start, end int, text string) []finding.Edit {
	from, to, exact := t.Range(start, end)
	if !exact || strings.ContainsAny(text, "\r\n") {
		return nil
	}
	if t.single >= 0 && !t.fits(start, end, text) {
		return nil
	}
	return []finding.Edit{t.File.Replace(from, to, text)}
}

// fits reports whether a scalar on one line still means its value with other text in it.
func (t Text) fits(start, end int, text string) bool {
	value := t.Value[:start] + text + t.Value[end:]
	raw := value
	if t.single > t.start {
		quote := string(t.File.Data[t.start])
		raw = quote + value + quote
	}
	var n yaml.Node
	if yaml.Unmarshal([]byte(raw), &n) != nil || len(n.Content) != 1 {
		return false
	}
	return n.Content[0].Kind == yaml.ScalarNode && n.Content[0].Value == value && n.Content[0].LineComment == ""
}

// WithoutKey returns the edit that deletes a key with a value on the same line from a mapping, and
// the mapping's own key if nothing else is in it. It returns none if the key at a line and column
// shares its line with another, or if more would be empty.
func WithoutKey(f *finding.File, root *yaml.Node, line, column int) []finding.Edit {
	path := find(root, line, column)
	if len(path) == 0 {
		return nil
	}
	last := len(path) - 1
	if len(path[last].mapping.Content) == 2 { // nothing else is in it
		if last--; last < 0 || len(path[last].mapping.Content) == 2 {
			return nil
		}
	}
	at, end := path[last], path[len(path)-1]
	if at.mapping.Style&yaml.FlowStyle != 0 || end.value.Line != end.key.Line || end.value.Kind != yaml.ScalarNode || end.value.Anchor != "" || at.value.Anchor != "" ||
		end.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || strings.TrimLeft(f.Line(at.key.Line)[:at.key.Column-1], " ") != "" {
		return nil
	}
	if next := f.Line(end.key.Line + 1); end.value.Style == 0 && indented(next, end.key.Column) {
		return nil // a value of several lines
	}
	return []finding.Edit{f.Replace(f.LineStart(at.key.Line), f.LineStart(end.key.Line+1), "")}
}

func indented(line string, column int) bool {
	text := strings.TrimLeft(line, " ")
	return text != "" && len(line)-len(text) >= column
}

type pair struct{ mapping, key, value *yaml.Node }

// find returns the keys from the root to that at a line and column, which are in no sequence but
// as its last step.
func find(n *yaml.Node, line, column int) []pair {
	if n.Kind == yaml.SequenceNode {
		for i, c := range n.Content {
			if i+1 == len(n.Content) || n.Content[i+1].Line > line {
				return find(c, line, column)
			}
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		p := pair{n, key, value}
		if key.Line == line && key.Column == column {
			return []pair{p}
		}
		if i+2 < len(n.Content) && n.Content[i+2].Line <= line {
			continue
		}
		if below := find(value, line, column); below != nil {
			if value.Kind == yaml.SequenceNode {
				return below // what is above a sequence stays
			}
			return append([]pair{p}, below...)
		}
		return nil
	}
	return nil
}
