package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/gittest"
)

// TestLocalCommit: the CLI asks the platform to release the commit that ref names in
// the user's repository.
func TestLocalCommit(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		return gittest.Git(t, dir, args...)
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "first")
	git("tag", "-a", "-m", "v1", "v1")
	first := git("rev-parse", "HEAD")
	git("commit", "-q", "--allow-empty", "-m", "second")
	second := git("rev-parse", "HEAD")
	other := t.TempDir()
	t.Setenv("GIT_DIR", other) // such as a git hook sets; must be ignored
	for ref, want := range map[string]string{
		"v1": first, "refs/tags/v1": first, "main": second,
		"v2": "", "": "", "--all": "", "--output=x": "", "main:README": "",
	} {
		if got := localCommit(t.Context(), dir, ref); got != want {
			t.Errorf("%q: got %q, want %q", ref, got, want)
		}
	}
	uri, commit, err := sourceOf(t.Context(), dir, "v1")
	if err != nil || commit != first || !strings.HasPrefix(uri, "file:///") {
		t.Errorf("got %s at %q, %v; want %s", uri, commit, err, first)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("git took a ref for an option")
	}
}

func TestAddressesWithSecrets(t *testing.T) {
	for addr, ok := range map[string]bool{
		"https://git.example.com/team/app":               true,
		"ssh://git@git.example.com/team/app":             true,
		"git@git.example.com:team/app":                   true,
		"https://user:hunter2@git.example.com/team/app":  false,
		"https://hunter2@git.example.com/team/app":       false,
		"ssh://git:hunter2@git.example.com/team/app":     false,
		"https://git.example.com/team/app?token=hunter2": false,
		"ext::sh -c hunter2@":                            false,
	} {
		uri, _, err := sourceOf(t.Context(), addr, "v1")
		exit, exits := errors.AsType[*exitError](err)
		if ok && (err != nil || uri != addr) || !ok && (!exits || exit.code != exitUsage || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %q, %v", addr, uri, err)
		}
	}
}
