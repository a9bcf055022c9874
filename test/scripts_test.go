package test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// served is a release as install.sh downloads it, and the digest of its SHA256SUMS.
func served(t *testing.T, program, sums string) (url, pin string) {
	t.Helper()
	dir := t.TempDir()
	name := "colophon_v1.2.0_" + runtime.GOOS + "_" + runtime.GOARCH
	sums = strings.NewReplacer("DIGEST", digestOf("the program"), "NAME", name).Replace(sums)
	for file, text := range map[string]string{name: program, "SHA256SUMS": sums} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + dir, digestOf(sums)
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// scripts/install.sh installs a file that SHA256SUMS lists, if SHA256SUMS has the digest that
// the user gave. In every other case, the program that was there stays.
func TestInstallVerifies(t *testing.T) {
	const line = "DIGEST  NAME\n"
	good := digestOf(strings.NewReplacer("DIGEST", digestOf("the program"), "NAME", "colophon_v1.2.0_"+runtime.GOOS+"_"+runtime.GOARCH).Replace(line))
	for _, c := range []struct {
		name, program, sums string
		pin                 string // "" means that of the SHA256SUMS that is served
		http                bool
		options             []string
		code                int
		want                string
	}{
		{name: "as released", program: "the program", sums: line, want: "installed "},
		{name: "changed program", program: "another program", sums: line, code: 1, want: "expected sha256 "},
		{name: "program cut short", program: "the prog", sums: line, code: 1, want: "expected sha256 "},
		{name: "changed program and SHA256SUMS", program: "another program", sums: digestOf("another program") + "  NAME\n", pin: good, code: 1, want: "SHA256SUMS: expected sha256 "},
		{name: "no line", program: "the program", sums: "DIGEST  colophon_v1.2.0_plan9_386\n", code: 1, want: "no line, or several"},
		{name: "two lines", program: "another program", sums: line + digestOf("another program") + "  NAME\n", code: 1, want: "no line, or several"},
		{name: "line without a digest", program: "the program", sums: "  NAME\n", code: 1, want: "no line, or several"},
		{name: "empty SHA256SUMS", program: "the program", sums: "", code: 1, want: "no line, or several"},
		{name: "no digest given", program: "the program", sums: line, pin: "none", code: 2, want: "--sha256 is required"},
		{name: "half a digest given", program: "the program", sums: line, pin: good[:32], code: 2, want: "expected 64 hexadecimal digits"},
		{name: "other version", program: "the program", sums: line, options: []string{"--version", "v1.2.1"}, code: 1, want: "no line, or several"},
		{name: "path as version", program: "the program", sums: line, options: []string{"--version", "../v1.2.0"}, code: 2, want: "expected one like v1.2.0"},
		{name: "plain http", program: "the program", sums: line, http: true, code: 1, want: "cannot download"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, pin := served(t, c.program, c.sums)
			if c.http {
				server := httptest.NewServer(http.FileServer(http.Dir(strings.TrimPrefix(url, "file://"))))
				defer server.Close()
				url = server.URL
			}
			args := []string{"../scripts/install.sh", "--version", "v1.2.0", "--from", url}
			switch c.pin {
			case "none":
			case "":
				args = append(args, "--sha256", pin)
			default:
				args = append(args, "--sha256", c.pin)
			}
			code, out, installed := install(t, append(args, c.options...)...)
			want := "the old program"
			if c.code == 0 {
				want = c.program
			}
			if code != c.code || !strings.Contains(out, c.want) || installed != want {
				t.Errorf("got exit %d, %q installed, output %q; want exit %d, %q installed, output with %q", code, installed, out, c.code, want, c.want)
			}
		})
	}
}

// A download of scripts/install.sh that ends early does nothing.
func TestInstallCutShort(t *testing.T) {
	text, err := os.ReadFile("../scripts/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	url, pin := served(t, "the program", "DIGEST  NAME\n")
	whole := strings.TrimSuffix(string(text), " \"$@\"\n") // the shortest text that calls main, without its arguments
	for end := range len(whole) + 1 {
		if end < len(whole) && whole[end] != '\n' && end%97 != 0 {
			continue // the end of each line, and every 97th byte
		}
		part := filepath.Join(t.TempDir(), "install.sh")
		if err := os.WriteFile(part, []byte(whole[:end]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, out, installed := install(t, part, "--version", "v1.2.0", "--from", url, "--sha256", pin); installed != "the old program" {
			t.Fatalf("the first %d bytes of install.sh installed %q: %s", end, installed, out)
		}
	}
}

// install runs an install script with a directory that has an old program, and returns the exit
// code, the output, and the program that is there then.
func install(t *testing.T, args ...string) (code int, out, installed string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "colophon"), []byte("the old program"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append(args, "--dir", dir)...)
	text, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("got %d files in the directory, want colophon alone: %v", len(left), left)
	}
	data, err := os.ReadFile(filepath.Join(dir, "colophon"))
	if err != nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text), string(data)
}
