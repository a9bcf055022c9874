package documents

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/test/spent"
)

type inner struct {
	Name  string         `json:"name,omitempty"`
	Level int            `json:"level,omitempty"`
	Any   map[string]any `json:"any,omitempty"`
}

type outer struct {
	Kind string  `json:"kind"`
	Flag bool    `json:"flag,omitempty"`
	List []inner `json:"list,omitempty"`
}

// TestFaultsHaveAPlace: what is wrong in YAML has the line and column of the file.
func TestFaultsHaveAPlace(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"kind: a\nsauce: b\n", `F:2:1: there is no member "sauce"`},
		{"kind: a\nlist:\n  - nam: b\n", `F:3:5: there is no member "nam"; did you mean "name"?`},
		{"kind: a\nlist:\n  - name: b\n    name: c\n", `F:4:5: duplicate member "name"`},
		{"kind: a\nlist:\n  - name: 3\n", `F:3:11: list.0.name: got a number, want a string`},
		{"kind: a\nlist:\n  name: b\n", `F:3:3: list: got an object, want an array`},
		{"kind: a\n---\nkind: b\nflog: true\n", `F:4:1: there is no member "flog"; did you mean "flag"?`},
		{"{\"kind\": \"a\",\n \"flog\": true}", `F:2:2: there is no member "flog"; did you mean "flag"?`},
		{"kind: &x a\n", "anchor"},
		{"kind: *x\n", "F:1:"},
		{"kind: a\nlist: [{<<: {name: a}}]\n", "want the name of a member"},
		{"kind: !!str a\n", "F:1:7: got the tag"},
		{"kind: !x a\n", "F:1:7: got the tag"},
		{"kind: a\nflag: yes\n", "F:2:7: got yes, which readers of YAML understand differently"},
		{"kind: no\n", "F:1:7: got no, which"},
		{"kind: 1:30\n", "got 1:30, which"},
		{"kind: a\nlist: [{level: 010}]\n", "F:2:16: got 010, which"},
		{"kind: a\nlist: [{level: 0x10}]\n", "got 0x10, which"},
		{"kind: a\nlist: [{any: {a: .inf}}]\n", "got .inf, which"},
		{"kind: a\nflag: True\n", "got True, which"},
		{"on: a\n", "F:1:1: got the name on"},
		{"? [a]\n: b\n", "want the name of a member"},
		{"kind: 'a\n", "it is not YAML here"},
		{"kind: a\n\tflag: x\n", "it is not YAML here"},
		{"kind: \xff\n", "UTF-8"},
		{"# nothing\n", "F:1:1: the file has no document"},
		{"", "the file has no document"},
		{"a\n---\nb\n---\nc\n---\nd\n", "F:7:1: got more than 3 documents"},
		{"kind: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested deeper"},
		{strings.Repeat("#", 5001), "want at most 5000"},
	} {
		docs, err := Read([]byte(tt.file), 5000, 3)
		for _, d := range docs {
			if err == nil {
				err = d.Unmarshal(new(outer))
			}
		}
		if err == nil || !strings.Contains(strict.In("F", err).Error(), tt.want) {
			t.Errorf("%q: got %v, want %s", tt.file, err, tt.want)
		}
	}
}

// TestYAMLIsJSON: YAML means what its JSON means, and is written so that it means the same.
func TestYAMLIsJSON(t *testing.T) {
	docs, err := Read([]byte("kind: a # b\nlist:\n- {name: \"x\", level: 3}\n- name: >-\n    one\n    two\n  any:\n    \"1\": ~\n    f: 1.5\n    when: 2026-12-01\n    s: \"yes\"\n    l: |\n      x\n---\n"), 5000, 1)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"kind":"a","list":[{"name":"x","level":3},{"name":"one two","any":{"1":null,"f":1.5,"when":"2026-12-01","s":"yes","l":"x\n"}}]}`
	if string(docs[0].JSON) != want {
		t.Fatalf("got %s, want %s", docs[0].JSON, want)
	}
	var v outer
	if err := docs[0].Unmarshal(&v); err != nil {
		t.Fatal(err)
	}
	raw, err := YAML(v)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(raw, 5000, 1)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	var w outer
	if err := again[0].Unmarshal(&w); err != nil || w.List[1].Any["s"] != "yes" || w.List[1].Any["l"] != "x\n" || w.List[0].Level != 3 {
		t.Errorf("got %+v, %v of %s", w, err, raw)
	}
	for pointer, want := range map[string][2]int{"/list/1/any/f": {9, 8}, "/list/0/level": {3, 22}, "/list/7": {2 + 1, 1}, "": {1, 1}, "/list/1": {4, 3}} {
		if line, column := docs[0].Position(pointer); line != want[0] || column != want[1] {
			t.Errorf("%s: got %d:%d, want %d:%d", pointer, line, column, want[0], want[1])
		}
	}
	if at, ok := docs[0].Nulls(func(string) bool { return false }); !ok || at != "/list/1/any/1" {
		t.Errorf("nulls: got %q, %t", at, ok)
	}
}

// FuzzRead: YAML that is taken becomes JSON that means the same again.
func FuzzRead(f *testing.F) {
	f.Add([]byte("kind: a\nlist: [{name: b}]\n"))
	f.Add([]byte("a: |\n  x\nb: [1, 2.5, true, ~]\n---\nc: d\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		docs, err := Read(file, 1<<16, 8)
		if err != nil {
			return
		}
		for _, d := range docs {
			if d.marks == nil {
				continue
			}
			var v any
			if err := strict.Unmarshal(d.JSON, 1<<20, &v); err != nil && !strings.Contains(err.Error(), "duplicate") {
				t.Errorf("%q: got JSON %q, %v", file, d.JSON, err)
			}
			d.Position("/list/0")
		}
	})
}

// TestLongMapping: a mapping with as many members as a file can have is read in proportion to
// them, and the places of many values in it are found at once.
func TestLongMapping(t *testing.T) {
	var file strings.Builder
	const members = 70_000
	pointers := []string{"", "/any", "/any/none", "/none/at/all"}
	file.WriteString("any:\n")
	for i := range members {
		fmt.Fprintf(&file, "  m%d: 1\n", i)
		pointers = append(pointers, fmt.Sprintf("/any/m%d", i))
	}
	start := spent.Now()
	docs, err := Read([]byte(file.String()), 1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := docs[0].Unmarshal(new(inner)); err != nil {
		t.Fatal(err)
	}
	places := docs[0].Positions(pointers)
	for i, want := range []Place{{1, 1}, {2, 3}, {2, 3}, {1, 1}, {2, 7}, {3, 7}} {
		if places[i] != want {
			t.Errorf("%q: got %+v, want %+v", pointers[i], places[i], want)
		}
	}
	if last := places[len(places)-1]; last != (Place{members + 1, 11}) {
		t.Errorf("got %+v as the last place", last)
	}
	if took := spent.Now() - start; took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}
