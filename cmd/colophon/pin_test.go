package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/test/gittest"
)

// TestPin lists, shows and writes an update, and an alarm ends with exit code 3.
func TestPin(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	server := t.TempDir()
	repo := filepath.Join(server, "o/action")
	git := func(args ...string) string {
		t.Helper()
		return gittest.Git(t, repo, args...)
	}
	git("init", "-q", "-b", "main")
	git("config", "uploadpack.allowAnySHA1InWant", "true")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("tag", "v1.0.0")
	git("commit", "-q", "--allow-empty", "-m", "two \x1b[2J")
	git("tag", "v1.1.0")
	one, two := git("rev-parse", "v1.0.0"), git("rev-parse", "v1.1.0")

	dir := t.TempDir()
	file := filepath.Join(dir, ".github/workflows/a.yml")
	src := "on: push\njobs:\n  a:\n    steps:\n    - uses: o/action@" + one + " # v1.0.0\n"
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(src), 0o644); err != nil {
		t.Fatal(err)
	}
	pin := func(code int, args ...string) (answer, said string) {
		t.Helper()
		var out, errs bytes.Buffer
		root := newRootCommand()
		root.SetOut(&out)
		root.SetErr(&errs)
		root.SetArgs(append([]string{"pin", dir, "--github", "file://" + server}, args...))
		if got := execute(t.Context(), root); got != code {
			t.Fatalf("pin %v: exit code %d, want %d: %s%s", args, got, code, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	if out, said := pin(0); !strings.Contains(out, "a.yml:5:13: waiting: o/action\n  is   v1.0.0 "+one) || !strings.Contains(said, "1 name, 1 waiting") {
		t.Errorf("got %s%s", out, said)
	}
	if out, _ := pin(0, "--cooldown", "0", "--diff"); !strings.Contains(out, "\n+    - uses: o/action@"+two+" # v1.1.0\n") {
		t.Errorf("got %s", out)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != src {
		t.Errorf("--diff has written: %s, %v", raw, err)
	}
	out, _ := pin(0, "--cooldown", "0d", "--update")
	if !strings.Contains(out, two[:12]+" ") || !strings.Contains(out, " Ada: two ") || strings.ContainsRune(out, '\x1b') {
		t.Errorf("got %q", out)
	}
	want := strings.Replace(src, one+" # v1.0.0", two+" # v1.1.0", 1)
	if raw, err := os.ReadFile(file); err != nil || string(raw) != want {
		t.Errorf("got %s, %v", raw, err)
	}
	var a pinAnswer
	out, _ = pin(0, "--json", "--update")
	if err := json.Unmarshal([]byte(out), &a); err != nil || len(a.Pins) != 1 || a.Pins[0].State != lint.PinCurrent || len(a.Written) != 0 {
		t.Errorf("got %s, %v", out, err)
	}
	for _, bad := range []string{"7", "-1d", "7w", "99999d"} {
		pin(2, "--cooldown", bad)
	}
	pin(0, "--offline")
	// The tag is moved, and the answers of the cache are gone.
	git("tag", "-f", "v1.1.0", one)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if out, said := pin(3, "--diff", "--cooldown", "0"); out != "" || !strings.Contains(said, "a.yml:5:13: ALARM: moved: o/action\n") {
		t.Errorf("--diff: got %q and %q, want the alarm on standard error", out, said)
	}
	if out, _ := pin(3, "--update", "--cooldown", "0"); !strings.Contains(out, "ALARM: moved: o/action\n") {
		t.Errorf("got %s", out)
	}
}
