// Package linttest tries the rules of package lint on the examples that docs/lint.md shows. The
// examples of the rule KIND/NAME are in testdata/NAME.txtar of the package that has it:
//
//	-- bad/FILE --     a repository in which the rule finds something
//	-- good/FILE --    one in which it finds nothing. If there is none: fixed
//	-- fixed/FILE --   what --fix makes of bad; only files that it changes. Only of rules that have edits
//	-- bad.sh --       commands (sh -e) that run in the directory of bad first; of git, for example
//	-- good.sh --      the same, of good
package linttest

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
)

// Examples are those of one rule.
type Examples struct {
	Bad, Good, Fixed map[string]string // content by path; Good is never empty
	BadSh, GoodSh    string
}

// Read returns the examples in an archive.
func Read(t testing.TB, archive string) *Examples {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatalf("%v: every rule needs examples", err)
	}
	e := &Examples{Bad: map[string]string{}, Good: map[string]string{}, Fixed: map[string]string{}}
	for _, f := range a.Files {
		kind, name, _ := strings.Cut(f.Name, "/")
		files := map[string]map[string]string{"bad": e.Bad, "good": e.Good, "fixed": e.Fixed}[kind]
		switch {
		case f.Name == "bad.sh":
			e.BadSh = string(f.Data)
		case f.Name == "good.sh":
			e.GoodSh = string(f.Data)
		case files == nil || name == "":
			t.Fatalf("%s: expected bad/FILE, good/FILE, fixed/FILE, bad.sh or good.sh, found %s", archive, f.Name)
		default:
			files[name] = string(f.Data)
		}
	}
	if len(e.Good) == 0 {
		maps.Copy(e.Good, e.Bad)
		maps.Copy(e.Good, e.Fixed)
	}
	if len(e.Bad)+len(e.BadSh) == 0 || len(e.Good)+len(e.GoodSh) == 0 {
		t.Fatalf("%s: expected a bad and a good repository", archive)
	}
	return e
}

// Rules tries each rule of a checker on its examples. beside are checkers whose rules c finds too.
func Rules(t *testing.T, c finding.Checker, beside ...finding.Checker) {
	if len(c.Rules) == 0 {
		t.Fatal("the checker has no rules")
	}
	for _, rule := range c.Rules {
		_, name, _ := strings.Cut(rule.ID, "/")
		t.Run(name, func(t *testing.T) {
			try(t, append([]finding.Checker{c}, beside...), rule, Read(t, filepath.Join("testdata", name+".txtar")))
		})
	}
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".txtar")
		if !slices.ContainsFunc(c.Rules, func(r finding.Rule) bool { return strings.HasSuffix(r.ID, "/"+name) }) {
			t.Errorf("%s: there is no rule of this name", archive)
		}
	}
}

func try(t *testing.T, c []finding.Checker, rule finding.Rule, e *Examples) {
	bad := Write(t, e.Bad, e.BadSh)
	found := of(Run(t, bad, c...), rule.ID)
	if len(found) == 0 {
		t.Errorf("%s finds nothing in bad", rule.ID)
	}
	good := Run(t, Write(t, e.Good, e.GoodSh), c...)
	for _, f := range of(good, rule.ID) {
		t.Errorf("%s finds something in good: %s: %s", rule.ID, f.Position, f.Message)
	}
	edits := slices.ContainsFunc(found, func(f finding.Finding) bool { return len(f.Edits) > 0 })
	if edits != rule.Fixes || rule.Fixes != (len(e.Fixed) > 0) {
		t.Fatalf("%s: got edits: %v, in the rule: %v, fixed files: %d; want all or none", rule.ID, edits, rule.Fixes, len(e.Fixed))
	}
	if !edits {
		return
	}
	for round := range 2 { // the second changes nothing
		tree := open(t, bad)
		r, err := lint.Run(t.Context(), tree, c)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := lint.Mend(tree, of(r, rule.ID))
		if err != nil {
			t.Fatal(err)
		}
		if round == 1 && len(changes) > 0 {
			t.Errorf("%s: mending twice changes %s again:\n%s", rule.ID, changes[0].File, changes[0].Diff())
		}
		if _, err := lint.Write(tree, changes); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{}
	maps.Copy(want, e.Bad)
	maps.Copy(want, e.Fixed)
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(bad, name)); err != nil || string(got) != text {
			t.Errorf("%s: --fix makes of %s, %v:\n%s\nwant:\n%s", rule.ID, name, err, got, text)
		}
	}
}

func of(r *lint.Report, rule string) (found []finding.Finding) {
	for _, f := range slices.Concat(r.Findings, r.Undecided) {
		if f.Rule == rule {
			found = append(found, f)
		}
	}
	return found
}

// Run checks a directory.
func Run(t testing.TB, dir string, c ...finding.Checker) *lint.Report {
	t.Helper()
	r, err := lint.Run(t.Context(), open(t, dir), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, dir string) *finding.Tree {
	t.Helper()
	tree, err := finding.OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// Write writes files into a new directory, runs a script there, and returns the directory.
func Write(t testing.TB, files map[string]string, script string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if script != "" {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-e", "-c", script)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	return dir
}
