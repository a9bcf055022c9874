package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const subject = `package subject

import "errors"

func Sign(n int) (string, error) {
	out := "none"
	if n < 0 && n != -7 {
		return "", errors.New("negative")
	}
	switch {
	case n > 9 ||
		n == 5:
		out = "big"
	}
	return out, nil
}
`

const subjectTest = `package subject

import "testing"

func TestSign(t *testing.T) {
	if out, err := Sign(10); out != "big" || err != nil {
		t.Error(out, err)
	}
	if _, err := Sign(-1); err == nil {
		t.Error("negative")
	}
}
`

// TestMutate: a small package with a weak test, from its source to the survivors.
func TestMutate(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module subject\n\ngo 1.26\n", "subject.go": subject, "subject_test.go": subjectTest} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	all, err := mutate(".", nil, 1, time.Minute, func(int, mutant) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var output strings.Builder
	for _, o := range all {
		got = append(got, string(o.state)+" "+o.kind+" "+o.text)
		if o.state != killed {
			fmt.Fprintf(&output, "%s: %s\n", o.state, o.mutant)
		}
	}
	slices.Sort(got)
	want := []string{
		`killed condition negated case n > 9 ||`,
		`killed condition negated if n < 0 && n != -7 {`,
		`killed && and || exchanged case n > 9 ||`,
		`killed condition negated if n < 0 && n != -7 {`,
		`killed return of an error removed return "", errors.New("negative")`,
		`killed statement removed out = "big"`,
		`killed && and || exchanged if n < 0 && n != -7 {`,
		`reached by no test boundary moved case n > 9 ||`, // no test has n = 9
		`survived boundary moved if n < 0 && n != -7 {`,
		`reached by no test condition negated n == 5:`,
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	run := filepath.Join(dir, "run.log")
	if err := os.WriteFile(run, []byte("package mutants killed\n"+output.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	listed, err := readListed(run)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if listed[o.key()] != (o.state != killed) {
			t.Errorf("%s: %s: listed: got %t", o.state, o.mutant, listed[o.key()])
		}
	}
	if _, err := readListed(filepath.Join(dir, "go.mod")); err == nil {
		t.Error("a file without mutants lists some")
	}
}

func TestExplained(t *testing.T) {
	if _, err := parseExplained(explained); err != nil {
		t.Error(err)
	}
	got, err := parseExplained("# a comment\n\na/b.go\tF\tcondition negated\tif x {\tx is always true\n")
	if m := (mutant{file: "/src/a/b.go", fn: "F", kind: negated, text: "if x {"}); err != nil || got[m.key()] != "x is always true" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"a\tb\tc\td", "a\tb\tc\td\t", "a b c d e", "a\tb\tc\td\te\tf"} {
		if _, err := parseExplained(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}
