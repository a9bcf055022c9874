package lint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/lint/finding"
)

// marks finds each word BAD in a file with the ending .x, and mends it.
var marks = finding.Checker{
	Rules: []finding.Rule{{ID: "test/bad", Severity: finding.Warning, Title: "BAD", Why: "It is bad."}},
	Wants: func(path string) bool { return strings.HasSuffix(path, ".x") },
	Check: func(_ context.Context, _ *finding.Tree, f *finding.File) (found []finding.Finding) {
		if bytes.Contains(f.Data, []byte("PANIC")) {
			panic("it panics")
		}
		for at := 0; ; at += 3 {
			i := bytes.Index(f.Data[at:], []byte("BAD"))
			if i < 0 {
				return found
			}
			at += i
			found = append(found, finding.Finding{Rule: "test/bad", Position: f.Position(at, at+3), Message: "BAD is bad", Edits: []finding.Edit{f.Replace(at, at+3, "good")}})
		}
	},
}

func tree(t testing.TB, files map[string]string) *finding.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := finding.OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func run1(t *testing.T, files map[string]string) *Report {
	t.Helper()
	r, err := Run(t.Context(), tree(t, files), []finding.Checker{marks})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func words(r *Report) (out []string) {
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s %s", f.Position, f.Rule))
	}
	for _, i := range r.Ignored {
		out = append(out, fmt.Sprintf("%s ignored: %s", i.Position, i.Reason))
	}
	return out
}

// TestIgnore: what is ignored, by whom, and what is not a valid wish to ignore.
func TestIgnore(t *testing.T) {
	for what, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":                  {map[string]string{"a.x": "good"}, ""},
		"found":                    {map[string]string{"a.x": "BAD and\n BAD", "b.y": "BAD"}, "a.x:1:1 test/bad;a.x:2:2 test/bad"},
		"on the line":              {map[string]string{"a.x": "BAD # colophon: ignore test/bad it is ours\nBAD"}, "a.x:2:1 test/bad;a.x:1:1 ignored: it is ours"},
		"above":                    {map[string]string{"a.x": "# colophon: ignore test/bad it is ours\n  # more\nBAD\nBAD"}, "a.x:4:1 test/bad;a.x:3:1 ignored: it is ours"},
		"with slashes":             {map[string]string{"a.x": "// colophon: ignore test/bad it is ours\r\nBAD\r\n"}, "a.x:2:1 ignored: it is ours"},
		"without reason":           {map[string]string{"a.x": "BAD # colophon: ignore test/bad"}, "a.x:1:1 test/bad;a.x:1:4 lint/ignore"},
		"without rule":             {map[string]string{"a.x": "BAD # colophon: ignore"}, "a.x:1:1 test/bad;a.x:1:4 lint/ignore"},
		"unknown rule":             {map[string]string{"a.x": "BAD # colophon: ignore test/worse why not"}, "a.x:1:1 test/bad;a.x:1:4 lint/ignore"},
		"itself":                   {map[string]string{"a.x": "# colophon: ignore lint/ignore why not\n"}, "a.x:1:1 lint/ignore"},
		"unused":                   {map[string]string{"a.x": "# colophon: ignore test/bad why not\ngood\nBAD"}, "a.x:1:1 lint/unused-ignore;a.x:3:1 test/bad"},
		"in another file":          {map[string]string{"a.x": "# colophon: ignore test/bad why not\nBAD", "b.x": "BAD"}, "b.x:1:1 test/bad;a.x:2:1 ignored: why not"},
		"settings":                 {map[string]string{".colophon.yaml": settingsOf("examples/**"), "examples/deep/a.x": "BAD", "b.x": "BAD"}, "b.x:1:1 test/bad;examples/deep/a.x:1:1 ignored: made to be bad"},
		"settings of a directory":  {map[string]string{".colophon.yaml": settingsOf("examples"), "examples/deep/a.x": "BAD"}, "examples/deep/a.x:1:1 ignored: made to be bad"},
		"settings of names":        {map[string]string{".colophon.yaml": settingsOf("**/a.x"), "e/deep/a.x": "BAD", "a.x": "BAD", "e/b.x": "BAD"}, "e/b.x:1:1 test/bad;a.x:1:1 ignored: made to be bad;e/deep/a.x:1:1 ignored: made to be bad"},
		"settings that are unused": {map[string]string{".colophon.yaml": settingsOf("b.x"), "a.x": "BAD"}, ".colophon.yaml:4:1 lint/unused-ignore;a.x:1:1 test/bad"},
		"broken settings":          {map[string]string{".colophon.yaml": "version: 1\nlint: {ignore: [{rule: test/bad, path: a.x}]}\n", "a.x": "BAD"}, ".colophon.yaml lint/ignore;a.x:1:1 test/bad"},
		"a checker that panics":    {map[string]string{"a.x": "PANIC", "b.x": "BAD"}, "a.x lint/failed;b.x:1:1 test/bad"},
		"not UTF-8":                {map[string]string{"a.x": "\xff\xfe BAD"}, "a.x:1:4 test/bad"},
	} {
		if got := strings.Join(words(run1(t, c.files)), ";"); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

func settingsOf(path string) string {
	return "version: 1\nlint:\n  ignore:\n    - {rule: test/bad, path: \"" + path + "\", reason: made to be bad}\n"
}

// TestFindingsAreBounded: past the limit, the report says how many are missing.
func TestFindingsAreBounded(t *testing.T) {
	r := run1(t, map[string]string{"a.x": strings.Repeat("BAD\n", limits.LintFindings+7)})
	last := slices.IndexFunc(r.Findings, func(f finding.Finding) bool { return f.Rule == ruleUnread })
	if len(r.Findings) != limits.LintFindings+1 || last < 0 || !strings.HasPrefix(r.Findings[last].Message, "7 findings are left out") {
		t.Errorf("got %d findings, want %d and one about 7 more", len(r.Findings), limits.LintFindings)
	}
}

// TestUnread: a file that is too large, and a link, are named.
func TestUnread(t *testing.T) {
	tr := tree(t, map[string]string{"a.x": "x", "b.x": "BAD"})
	if err := errors.Join(os.Truncate(filepath.Join(tr.Dir, "a.x"), 50<<20), os.Symlink("/etc/passwd", filepath.Join(tr.Dir, "c.x"))); err != nil {
		t.Fatal(err)
	}
	tr, err := finding.OpenTree(t.Context(), tr.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	r, err := Run(t.Context(), tr, []finding.Checker{marks})
	if got, want := strings.Join(words(r), ";"), "a.x lint/unread;b.x:1:1 test/bad;c.x lint/unread"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestMend: edits are made, once; a file that has changed meanwhile is not written.
func TestMend(t *testing.T) {
	tr := tree(t, map[string]string{"a.x": "1 BAD 2\r\nBAD", "b.x": "BAD\n"})
	r, err := Run(t.Context(), tr, []finding.Checker{marks})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := Mend(tr, r.Findings)
	if err != nil || len(changes) != 2 {
		t.Fatalf("got %d changes, %v, want 2", len(changes), err)
	}
	if got, want := string(changes[1].Diff()), "diff a/b.x b/b.x\n--- a/b.x\n+++ b/b.x\n@@ -1,1 +1,1 @@\n-BAD\n+good\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(tr.Dir, "b.x"), []byte("BAD changed\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	written, err := Write(tr, changes)
	if !errors.Is(err, ErrChanged) || !slices.Equal(written, []string{"a.x"}) {
		t.Errorf("got %q, %v, want a.x and ErrChanged", written, err)
	}
	for name, want := range map[string]string{"a.x": "1 good 2\r\ngood", "b.x": "BAD changed\n"} {
		raw, err := os.ReadFile(filepath.Join(tr.Dir, name))
		if err != nil || string(raw) != want {
			t.Errorf("%s: got %q, %v, want %q", name, raw, err, want)
		}
	}
	info, err := os.Stat(filepath.Join(tr.Dir, "a.x"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got mode %v, %v, want 0640", info.Mode(), err)
	}
	entries, err := os.ReadDir(tr.Dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("got %v, %v, want the two files only", entries, err)
	}
	// A link that takes the place of the file is not written through, and not replaced.
	if err := errors.Join(os.Remove(filepath.Join(tr.Dir, "b.x")), os.Symlink("a.x", filepath.Join(tr.Dir, "b.x"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(tr, changes[1:]); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
}

// TestMendTogether: the edits of a finding are made all or not at all, in each of its files.
func TestMendTogether(t *testing.T) {
	files := map[string]string{"a.x": "abcdef", "b.x": "abcdef"}
	a, b := finding.NewFile("a.x", []byte(files["a.x"])), finding.NewFile("b.x", []byte(files["b.x"]))
	first := finding.Finding{Edits: []finding.Edit{a.Replace(2, 4, "12")}}
	for what, edits := range map[string][]finding.Edit{
		"overlaps at its end":   {b.Replace(0, 1, "X"), a.Replace(5, 6, "X"), a.Replace(3, 5, "X")},
		"overlaps at its start": {b.Replace(0, 1, "X"), a.Replace(1, 3, "X")},
		"inside":                {b.Replace(0, 1, "X"), a.Replace(3, 3, "X")},
		"around":                {b.Replace(0, 1, "X"), a.Replace(0, 6, "X")},
		"the same place":        {b.Replace(0, 1, "X"), a.Replace(2, 2, "X")},
		"itself":                {b.Replace(0, 2, "X"), b.Replace(1, 3, "X")},
	} {
		changes, err := Mend(tree(t, files), []finding.Finding{first, {Edits: edits}})
		if err != nil || len(changes) != 1 || changes[0].File != "a.x" || string(changes[0].After) != "ab12ef" {
			t.Errorf("%s: got %+v, %v, want the first finding's edit alone", what, changes, err)
		}
	}
	shared := []finding.Edit{first.Edits[0], a.Replace(4, 5, "3"), b.Replace(0, 1, "0")}
	changes, err := Mend(tree(t, files), []finding.Finding{first, {Edits: shared}})
	if err != nil || len(changes) != 2 || string(changes[0].After) != "ab123f" || string(changes[1].After) != "0bcdef" {
		t.Errorf("shared edit: got %+v, %v, want all of both", changes, err)
	}
}

// TestEditRefuses: an edit that is not about these bytes changes nothing.
func TestEditRefuses(t *testing.T) {
	for _, e := range []finding.Edit{{Start: -1}, {Start: 2, End: 1}, {Start: 0, End: 9}, {Start: 0, End: 1, Old: "x"}} {
		if out, err := Edit([]byte("abc"), []finding.Edit{e}); err == nil {
			t.Errorf("%+v: got %q, want an error", e, out)
		}
	}
}

// FuzzEdit: bytes outside of edits stay, whatever they are, and mending what is mended changes nothing.
func FuzzEdit(f *testing.F) {
	f.Add([]byte("1 BAD\r\n\xffBAD"), 2, 5, "new")
	f.Add([]byte(""), 0, 0, "x")
	f.Fuzz(func(t *testing.T, data []byte, start, end int, text string) {
		file := finding.NewFile("f.x", data)
		if start < 0 || end < start || end > len(data) {
			start, end = 0, 0
		}
		out, err := Edit(data, []finding.Edit{file.Replace(start, end, text)})
		if want := string(data[:start]) + text + string(data[end:]); err != nil || string(out) != want {
			t.Fatalf("got %q, %v, want %q", out, err, want)
		}
		var edits []finding.Edit
		for _, found := range marks.Check(t.Context(), nil, finding.NewFile("f.x", bytes.ReplaceAll(data, []byte("PANIC"), nil))) {
			edits = append(edits, found.Edits...)
		}
		data = bytes.ReplaceAll(data, []byte("PANIC"), nil)
		mended, err := Edit(data, edits)
		if err != nil || !bytes.Equal(mended, bytes.ReplaceAll(data, []byte("BAD"), []byte("good"))) {
			t.Fatalf("got %q, %v", mended, err)
		}
		if left := marks.Check(t.Context(), nil, finding.NewFile("f.x", mended)); len(left) > 0 && !bytes.Contains(mended, []byte("BAD")) {
			t.Fatalf("got %d findings in %q", len(left), mended)
		}
	})
}

// TestRunRefuses: rules are declared, once.
func TestRunRefuses(t *testing.T) {
	tr := tree(t, map[string]string{"a.x": "BAD"})
	undeclared := marks
	undeclared.Rules = nil
	for what, checkers := range map[string][]finding.Checker{"twice": {marks, marks}, "undeclared": {undeclared}} {
		if _, err := Run(t.Context(), tr, checkers); err == nil {
			t.Errorf("%s: got no error", what)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, tr, []finding.Checker{marks}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
