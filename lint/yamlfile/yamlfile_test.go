package yamlfile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/test/spent"
)

// A file that would need more memory or time than it is worth is an error that says so.
func TestHostile(t *testing.T) {
	bomb := "a0: &a0 x\n"
	for i := range 30 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	for name, c := range map[string]struct{ src, want string }{
		"aliases":     {bomb, "more than 100000 values"},
		"a cycle":     {"a: &a\n  b: *a\n", "contains itself"},
		"long":        {"a: " + strings.Repeat("x", maxBytes), "expected at most 2097152 bytes"},
		"many values": {strings.Repeat("- a\n", maxNodes+1), "more than 100000 values"},
		"documents":   {strings.Repeat("---\na\n", maxDocuments+1), "more than 1000 documents"},
		"deep":        {strings.Repeat("[", 100_000), "exceeded max depth"},
		"broken":      {"a: b\nc: [\nd: e\n", "did not find expected"},
		"not UTF-8":   {"a: \xff\xfe\n", "UTF-8"},
		"unknown":     {"a: *b\n", "unknown anchor"},
	} {
		_, err := Parse(finding.NewFile("f", []byte(c.src)))
		if _, ok := errors.AsType[*Error](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A text knows where its bytes are, in every style of YAML that writes them unchanged.
func TestText(t *testing.T) {
	for _, c := range []struct {
		src   string
		exact bool
	}{
		{"k: the word here\n", true}, {"k: 'the word here'\n", true}, {"k: \"the word here\"\n", true}, {"k: |\n  the word here\n", true}, {"k: |-\n\n    first\n\n    the word here", true},
		{"- k: |+2\n      the word here\n    b\n", true}, {"k: {a: the word here}\n", true}, {"é: ü the word here\n", true}, {"k: |\r\n  a\r\n  the word here\r\n", true},
		{"k: >\n  the\n  word here\n", false}, {"k: the\n  word here\n", false}, {"k: \"the \\x77ord here\"\n", false}, {"k: 'the ''word'' here'\n", false},
	} {
		f := finding.NewFile("f", []byte(c.src))
		roots, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		text := Of(f, scalar(roots[0]))
		at := strings.Index(text.Value, "word")
		from, to, exact := text.Range(at, at+len("word"))
		if exact && c.src[from:to] != "word" || exact != c.exact {
			t.Errorf("%q: got %q, exact %t; want exact %t", c.src, c.src[from:to], exact, c.exact)
		}
		if edits := text.Replace(at, at+4, "thing"); (len(edits) == 1) != c.exact {
			t.Errorf("%q: got edits %v", c.src, edits)
		}
		if edits := text.Replace(at, at+4, "a # b"); len(edits) > 0 && !strings.ContainsAny(c.src, "|'\"") {
			t.Errorf("%q: an edit makes a comment of the rest", c.src)
		}
	}
}

func scalar(n *yaml.Node) *yaml.Node {
	for n.Kind != yaml.ScalarNode {
		n = n.Content[len(n.Content)-1]
	}
	return n
}

// Only a key that is alone on its line is deleted, and with it the mappings that it leaves empty.
func TestWithoutKey(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{"env:\n  KEY: 1\n  b: 2\nz: 1\n", "env:\n  b: 2\nz: 1\n"},
		{"env:\n  KEY: 1\nz: 1\n", "z: 1\n"},
		{"env: {KEY: 1, b: 2}\n", ""},
		{"a:\n  env:\n    KEY: 1\n", ""},
		{"s:\n  - run: x\n    env:\n      KEY: 1\n  - run: y\n", "s:\n  - run: x\n  - run: y\n"},
		{"s:\n  - env:\n      KEY: 1\n    run: x\n", ""},
		{"env:\n  KEY: |\n    1\n", ""},
		{"env:\n  KEY: a\n    b\n", ""},
		{"env: &e\n  KEY: 1\nz: *e\n", ""},
	} {
		f := finding.NewFile("f", []byte(c.src))
		roots, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		at := f.Position(strings.Index(c.src, "KEY"), 0)
		edits := WithoutKey(f, roots[0], at.Line, at.Column)
		got := ""
		for _, e := range edits {
			got = c.src[:e.Start] + e.New + c.src[e.End:]
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.src, got, c.want)
		}
	}
}

// Whatever a file contains, it is read or refused, and its texts are where they seem to be.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a: b", "- |\n  x\n  y\n", "a: &a {b: *a}", "'x': \"y\\n\"", "<<: {a: b}\na: c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		file := finding.NewFile("f", []byte(src))
		roots, _ := Parse(file)
		for _, r := range roots {
			walk(r, func(n *yaml.Node) {
				text := Of(file, n)
				from, to, exact := text.Range(0, len(text.Value))
				if from < 0 || to > len(src) || from > to || exact && !strings.Contains(text.Value, "\n") && src[from:to] != text.Value {
					t.Fatalf("%q: %d to %d of %q", text.Value, from, to, src)
				}
			})
		}
	})
}

func walk(n *yaml.Node, f func(*yaml.Node)) {
	if n.Kind == yaml.ScalarNode {
		f(n)
	}
	for _, c := range n.Content {
		walk(c, f)
	}
}

// TestOtherLineBreaks: YAML breaks lines where editors and git do not, and does not count a byte order
// mark. Positions and edits are those of the bytes of the file.
func TestOtherLineBreaks(t *testing.T) {
	for name, before := range map[string]string{"separator": "# a\u2028# b\n", "paragraph": "# a\u2029", "next line": "# a\u0085", "carriage return": "# a\r# b\r", "CRLF": "# a\r\n", "byte order mark": "\ufeff", "both": "\ufeff# \u2028o: é\r\n", "in a text": "k: \"a\u2028  b\"\n"} {
		data := before + "uses: Old\né: {b: Old2}\nlast: Old3"
		f := finding.NewFile("a.yml", []byte(data))
		roots, err := Parse(f)
		if err != nil || len(roots) != 1 {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		for _, keys := range [][]string{{"uses"}, {"é", "b"}, {"last"}} {
			n := Get(roots[0], keys...)
			if n == nil {
				t.Errorf("%s: %v is missing", name, keys)
				continue
			}
			e := Of(f, n).Replace(0, len(n.Value), "new")
			if len(e) != 1 || e[0].Start != strings.LastIndex(data, n.Value) && n.Value != "Old" || e[0].Old != n.Value {
				t.Errorf("%s: %v: got %+v", name, keys, e)
			}
			if n.Value == "Old" && e != nil && e[0].Start != len(before)+len("uses: ") {
				t.Errorf("%s: got %+v", name, e)
			}
		}
	}
}

// TestMerged: Gitea and Forgejo merge mappings. What is merged is read as what is written.
func TestMerged(t *testing.T) {
	f := finding.NewFile("a.yml", []byte("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3, z: 4}\nc: {<<: [*b, {x: 5, w: 6}], v: 7}\nd: {<<: 8, x: 9}\n"))
	roots, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "x=1 y=2", "b": "y=3 z=4 x=1", "c": "v=7 y=3 z=4 x=1 w=6", "d": "x=9"} {
		var got []string
		Pairs(Get(roots[0], name), func(key, value *yaml.Node) bool {
			got = append(got, key.Value+"="+value.Value)
			return true
		})
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: got %s, want %s", name, text, want)
		}
	}
	if got := Value(Get(roots[0], "c", "x")); got != "1" {
		t.Errorf("got %s", got)
	}
}

// TestLongLine: a file of one line, with a byte order mark or without, costs a bounded time, and so does a script of many lines.
func TestLongLine(t *testing.T) {
	flow := "[" + strings.Repeat("'a', bcdefghijklmnop, ", 40_000) + "x]\n"
	for name, src := range map[string]string{"a mark": byteOrderMark + flow, "no mark": flow, "a break of YAML alone": "# \u2028" + flow} {
		start := spent.Now()
		f := finding.NewFile("f", []byte(src))
		roots, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range Scalars(roots[0]) {
			text := Of(f, n)
			if from, to, exact := text.Range(0, len(text.Value)); !exact || src[from:to] != n.Value {
				t.Fatalf("%s: %q is at %q", name, n.Value, src[from:to])
			}
			text.Position(0, 1)
		}
		if took := spent.Now() - start; took > 20*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
	f := finding.NewFile("f", []byte("k: |\n"+strings.Repeat("  abcd\n", 200_000)))
	roots, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	text, start := Of(f, scalar(roots[0])), spent.Now()
	for at := 0; at+4 <= len(text.Value); at += 5 {
		if from, to, exact := text.Range(at, at+4); !exact || string(f.Data[from:to]) != "abcd" {
			t.Fatalf("%d is at %d", at, from)
		}
	}
	if took := spent.Now() - start; took > 10*time.Second {
		t.Errorf("a script: it took %s", took)
	}
}
