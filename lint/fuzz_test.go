package lint_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/test/linttest"
)

// FuzzFix mends a file as --fix does, whatever is in it: mending again changes nothing, and the bytes
// outside of the edits stay.
func FuzzFix(f *testing.F) {
	archives, err := filepath.Glob("*/testdata/*.txtar")
	if err != nil || len(archives) < 50 {
		f.Fatalf("%d archives of examples, %v", len(archives), err)
	}
	for _, archive := range archives {
		e := linttest.Read(f, archive)
		for _, files := range []map[string]string{e.Bad, e.Good, e.Fixed} {
			for name, text := range files {
				f.Add(name, []byte(text))
			}
		}
	}
	for name, k := range kinds {
		f.Add(name, []byte(k.text))
	}
	checkers := lint.Checkers(linttest.Offline(f))
	tree, err := finding.OpenTree(f.Context(), f.TempDir()) // empty: what is beside the file is not tried
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { tree.Close() })
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if !filepath.IsLocal(name) || len(name) > 200 || len(data) > 64<<10 {
			return
		}
		for round := 0; ; round++ {
			edits := editsOf(t.Context(), tree, checkers, name, data)
			after, err := lint.Edit(data, edits)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if string(after) == string(data) {
				return
			}
			if round == rounds {
				t.Fatalf("%s: mending it %d times still changes it:\n%s", name, round, lint.Change{File: name, Before: data, After: after}.Diff())
			}
			outside(t, data, after, edits)
			data = after
		}
	})
}

// rounds is how many times colophon lint --fix mends: edits that overlap wait for the next time.
const rounds = 5

// editsOf returns the edits that are made of one file: those of one finding together or not at all.
func editsOf(ctx context.Context, tree *finding.Tree, checkers []finding.Checker, name string, data []byte) (edits []finding.Edit) {
	file := finding.NewFile(name, data)
	for _, c := range checkers {
		if c.Wants == nil || !c.Wants(name) {
			continue
		}
		for _, found := range c.Check(ctx, tree, file) {
			for _, e := range found.Edits {
				if e.File == name {
					edits = append(edits, e)
				}
			}
		}
	}
	return edits
}

// outside fails if a byte changed that is in no edit: without the old texts of the edits, what was there
// before is what is there without the new ones.
func outside(t *testing.T, before, after []byte, edits []finding.Edit) {
	t.Helper()
	covered := make([]bool, len(before)+1)
	for _, e := range edits {
		for i := e.Start; i < e.End; i++ {
			covered[i] = true
		}
	}
	at := 0
	for i, b := range before { // what is in no edit is in after, in this order
		if covered[i] {
			continue
		}
		for at < len(after) && after[at] != b {
			at++
		}
		if at++; at > len(after) {
			t.Fatalf("byte %d of\n%s\nis in no edit, and not in\n%s", i, before, after)
		}
	}
}
