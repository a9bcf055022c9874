package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// script writes an executable shell script.
func script(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeGo prints what go prints: TestCompileShowsProgress gives it one package to compile of
// two files, and one module to download.
const fakeGo = `case "$*" in
*-deps*)
	echo "go: downloading example.com/m v1.0.0" >&2
	printf 'example.com/m/p\t%s\nexample.com/m/p\t%s\n\n' "$PWD/go.mod" "$PWD/go.sum" ;;
*-export*)
	echo example.com/m/p >&2
	if [ -n "$FAIL" ]; then echo 'p.go:1:1: syntax error' >&2; exit 1; fi ;;
esac
`

// scripts/compile.sh counts what go downloads and compiles, and hides none of its errors.
func TestCompileShowsProgress(t *testing.T) {
	fake := script(t, filepath.Join(t.TempDir(), "go"), fakeGo)
	for _, c := range []struct {
		name, fail string
		ok         bool
		want       []string
	}{
		{"compiled", "", true, []string{"downloaded 1 modules in ", "compiled 1 packages in "}},
		{"refused", "1", false, []string{"p.go:1:1: syntax error\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command("../scripts/compile.sh", "example.com/m/p")
			cmd.Env = append(os.Environ(), "GO="+fake, "FAIL="+c.fail)
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("got error %v, want none: %t", err, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("got %q, want %q", out, want)
				}
			}
		})
	}
}
