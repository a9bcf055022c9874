package test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/linttest"
)

// The part of docs/lint.md below this line is made from the rules and their examples, which are tests.
const lintMark = "<!-- made by UPDATE=1 go test ./test -run LintPage -->\n"

// TestLintPage: the page has each rule with the examples that the tests of the rule try.
func TestLintPage(t *testing.T) {
	const page = "../docs/lint.md"
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(raw), lintMark)
	if !ok {
		t.Fatalf("%s lacks %q", page, lintMark)
	}
	var table, sections strings.Builder
	table.WriteString("\n| rule | severity | what is found |\n|---|---|---|\n")
	for _, r := range lint.Rules(lint.Checkers(&pins.Resolver{})) {
		kind, name, _ := strings.Cut(r.ID, "/")
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r.ID, r.Severity, r.Title)
		archive := filepath.Join("../lint", kind, "testdata", name+".txtar")
		if _, err := os.Stat(archive); err != nil {
			continue // about the run itself; TestRules of its package demands the others
		}
		fmt.Fprintf(&sections, "\n### %s\n\n%s: %s. %s", r.ID, r.Severity, r.Title, r.Why)
		if r.Link != "" {
			fmt.Fprintf(&sections, " [More](%s).", r.Link)
		}
		e := linttest.Read(t, archive)
		sections.WriteString("\n\nFound:\n")
		examples(&sections, e.Bad, e.BadSh)
		sections.WriteString("\nNot found:\n")
		examples(&sections, e.Good, e.GoodSh)
	}
	want := head + lintMark + table.String() + "\n## Examples\n" + sections.String()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(raw) {
		t.Error(page + " does not have the rules as they are: UPDATE=1 go test ./test -run LintPage")
	}
}

func examples(b *strings.Builder, files map[string]string, script string) {
	if script != "" {
		fmt.Fprintf(b, "\n```text\n$ %s\n```\n", strings.ReplaceAll(strings.TrimSpace(script), "\n", "\n$ "))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(b, "\n```text\n# %s\n%s\n```\n", name, strings.TrimSuffix(files[name], "\n"))
	}
}
