// Package seeds runs the commands of the documents that Colophon was created from, and says
// of each whether it works.
package seeds

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestSeeds runs the command of each row, and what Colophon does instead.
func TestSeeds(t *testing.T) {
	needs.Root(t, "the sandbox of a Dockerfile")
	w := newWorld(t)
	for _, r := range rows {
		if r.is == notRun {
			continue
		}
		t.Run(r.at+" "+r.quote, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(harness.Root(t), "out/bin", r.tool)); err != nil {
				needs.Missing(t, "%v: make tools builds it", err)
			}
			code, out := w.exitCode(t, r.run)
			if want := w.expand(r.want); (code != 0) != r.fails || !strings.Contains(out, want) {
				t.Errorf("%s\ngot exit code %d, want failure %t and %q in:\n%s", r.run, code, r.fails, want, out)
			}
			if r.ours == "" {
				return
			}
			code, out = w.exitCode(t, r.ours)
			if want := w.expand(r.oursWant); code != r.oursCode || !strings.Contains(out, want) {
				t.Errorf("%s\ngot exit code %d, want %d and %q in:\n%s", r.ours, code, r.oursCode, want, out)
			}
		})
	}
}

// TestRows checks that each row says all that it must.
func TestRows(t *testing.T) {
	for _, r := range rows {
		switch {
		case (r.is == notRun) != (r.run == ""), r.is != notRun && r.want == "":
			t.Errorf("%s: is %q, runs %q and wants %q", r.at, r.is, r.run, r.want)
		case r.is == works && r.fails:
			t.Errorf("%s: works, and fails", r.at)
		case r.why == "", r.instead == "":
			t.Errorf("%s: gives no reason, or not what colophon does", r.at)
		}
	}
}

// TestQuotes checks that each row quotes its seed. The seeds are not part of the repository.
func TestQuotes(t *testing.T) {
	dir := filepath.Join(harness.Root(t), "../shared/seeds")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skip("NOT HERE: the seeds are not beside the repository, so nothing compares the quotes with them")
	}
	for _, r := range rows {
		seed, number, _ := strings.Cut(r.at, ":")
		files, err := filepath.Glob(filepath.Join(dir, seed+"_*.txt"))
		if err != nil || len(files) != 1 {
			t.Fatalf("seed %s: got files %q, want one (%v)", seed, files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(lines) || !strings.Contains(lines[n-1], r.quote) {
			t.Errorf("%s: the seed does not have %q there", r.at, r.quote)
		}
	}
}

// TestPage compares docs/seeds.md with the rows. UPDATE=1 writes it.
func TestPage(t *testing.T) {
	file := filepath.Join(harness.Root(t), "docs/seeds.md")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "Tests compare this page with the commands that they run.\n" // what follows is written by UPDATE=1 go test ./test/seeds -run TestPage
	head, _, ok := strings.Cut(string(old), begin)
	if !ok {
		t.Fatalf("%s has no line %q", file, begin)
	}
	page := head + begin + table()
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if page != string(old) {
		t.Error("docs/seeds.md and the rows of test/seeds differ: run UPDATE=1 go test ./test/seeds -run TestPage")
	}
}

func table() string {
	var b strings.Builder
	seed := ""
	for _, r := range rows {
		s, line, _ := strings.Cut(r.at, ":")
		if s != seed {
			seed = s
			fmt.Fprintf(&b, "\n## %s\n\n| line | it says | here | why | with colophon |\n|---|---|---|---|---|\n", titles[s])
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", line, strings.ReplaceAll(r.quote, "|", `\|`), r.is, r.why, strings.ReplaceAll(r.instead, "|", `\|`))
	}
	return b.String()
}
