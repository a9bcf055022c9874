package golang

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// TestUpgradedToolchain: an upgrade of the host's packages replaces the toolchain while the platform runs.
// The record names the programs that built, and a build that had two of them fails.
func TestUpgradedToolchain(t *testing.T) {
	real, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	// A go command that says of its tools that they are elsewhere, where they can be replaced.
	dir, tools := t.TempDir(), t.TempDir()
	command := filepath.Join(dir, "go")
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1 $2\" = 'env -json' ] || exec %[1]s \"$@\"\n%[1]s \"$@\" | /bin/sed 's#\"GOTOOLDIR\": \".*\"#\"GOTOOLDIR\": \"%[2]s\"#'\n", real, tools)
	if err := os.WriteFile(command, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	upgrade := func(version string) {
		for _, name := range []string{"asm", "compile", "link"} {
			if err := os.WriteFile(filepath.Join(tools, name), []byte(name+version), 0o755); err != nil {
				t.Error(err)
			}
		}
	}
	upgrade("1")
	b := newBuilder(t, Config{Go: command})
	check := func(got []attest.ResourceDescriptor) {
		t.Helper()
		if len(got) != 4 {
			t.Fatalf("got %v", got)
		}
		for _, tool := range got[1:] { // the first one is go
			if want, err := builder.FileDigest(filepath.Join(tools, tool.Name)); err != nil || tool.Digest["sha256"] != want {
				t.Errorf("got %v, want %s (%v)", tool, want, err)
			}
		}
	}
	for _, version := range []string{"1", "22"} {
		upgrade(version)
		got, err := b.measure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		check(got)
	}
	here := b.goroot
	b.goroot = "/usr/lib/go-1.25"
	if got, err := b.measure(t.Context()); err == nil || !strings.Contains(err.Error(), "start the platform again") {
		t.Errorf("in another place: got %v, %v", got, err)
	}
	b.goroot = here
	needs.Long(t)
	tree := writeTree(t, map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() {}\n"})
	build := func(during func()) (*builder.Result, error) {
		return b.Build(t.Context(), builder.Request{Recipe: attest.Recipe{Builder: "golang"}, Tree: tree, Epoch: epoch, Layout: t.TempDir(), Log: func(builder.Event) { during() }})
	}
	if result, err := build(func() { upgrade("333") }); err == nil || !strings.Contains(err.Error(), "the toolchain changed") {
		t.Errorf("got %v, %v", result, err)
	}
	result, err := build(func() {})
	if err != nil {
		t.Fatal(err)
	}
	check(result.Tools)
}
