package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The drawings in docs/ are up to date.
func TestDrawingsAreCurrent(t *testing.T) {
	drawn, err := draw("../../docs/diagrams")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range drawn {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is out of date (%v): run make docs", path, err)
		}
	}
}

func TestParse(t *testing.T) {
	const ok = "title t\nrow a b\nrow a c\nbox a A | all of it\npanel plain P : a b\narrow a b\nboth b c one | two\n"
	d, err := parse(ok)
	if err != nil {
		t.Fatal(err)
	}
	if a := d.boxes["a"]; a.bottom != 1 || a.text != "all of it" || len(d.arrows) != 3 {
		t.Errorf("got %+v and %d arrows, want a box over two rows and 3 arrows", a, len(d.arrows))
	}
	for bad, want := range map[string]string{
		"row a":                                "a title",
		"title t\nrow a b\nrow c":              "1 cells, want 2",
		"title t\nrow a\nbox z Z":              "in no row",
		"title t\nrow a\narrow a z":            "in no row",
		"title t\nrow a .\nrow . b\narrow a b": "do not face",
		"title t\nrow a\npanel pink P : a":     "want a line of a diagram",
	} {
		if _, err := parse(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", bad, err, want)
		}
	}
}
