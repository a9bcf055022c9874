package finding

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/test/gittest"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *Tree {
	t.Helper()
	tree, err := OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// TestTree: the tree has the files of the directory, and of no dependency; links are listed and
// not followed.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"b": "b", "a/Dockerfile": "FROM scratch\n", "node_modules/x/Dockerfile": "", "a/vendor/y": "", "testdata/z": "", ".gitea/w": ""})
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret": "s"})
	for link, target := range map[string]string{"out": filepath.Join(outside, "secret"), "in": "b", "up": outside} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tree := open(t, dir)
	if got, want := tree.Files(), []string{".gitea/w", "a/Dockerfile", "b"}; !slices.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
	if got, want := tree.Links(), []string{"in", "out", "up"}; !slices.Equal(got, want) {
		t.Errorf("got links %q, want %q", got, want)
	}
	for _, name := range []string{"out", "up/secret", "../x", "node_modules/x/Dockerfile", "none", "a"} {
		if f, err := tree.Read(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, %v, want that it is not there", name, f, err)
		}
	}
	f, err := tree.Read("a/Dockerfile")
	again, _ := tree.Read("a/Dockerfile")
	if err != nil || string(f.Data) != "FROM scratch\n" || f != again {
		t.Errorf("got %v, %v, want the file, read once", f, err)
	}
	// What becomes a link out of the tree after it was listed is not read.
	if err := errors.Join(os.Remove(filepath.Join(dir, "b")), os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "b"))); err != nil {
		t.Fatal(err)
	}
	if f, err := tree.Read("b"); !errors.Is(err, ErrNotRead) {
		t.Errorf("got %v, %v, want ErrNotRead", f, err)
	}
}

// TestTreeOfGit: git says which files belong to the repository. The repository's own settings run
// no program.
func TestTreeOfGit(t *testing.T) {
	dir := t.TempDir()
	gittest.Git(t, dir, "init", "-q")
	ran := filepath.Join(dir, "ran")
	write(t, dir, map[string]string{
		".gitignore": "out/\n", "out/Dockerfile": "", "tracked": "", "new": "", "gone": "", "sub/Dockerfile": "",
		"monitor": "#!/bin/sh\ntouch '" + ran + "'\n",
	})
	if err := os.Chmod(filepath.Join(dir, "monitor"), 0o755); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "add", ".gitignore", "tracked", "gone", "sub")
	gittest.Git(t, dir, "config", "core.fsmonitor", filepath.Join(dir, "monitor"))
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, dir)
	if got, want := tree.Files(), []string{".gitignore", "gone", "monitor", "new", "sub/Dockerfile", "tracked"}; !slices.Equal(got, want) {
		t.Errorf("got files %q, want %q", got, want)
	}
	if !tree.Tracked("tracked") || tree.Tracked("new") || tree.Git == nil {
		t.Error("got that git tracks new, or not tracked")
	}
	if _, err := tree.Read("gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
	if _, err := os.Lstat(ran); err == nil {
		t.Error("the repository's file system monitor ran")
	}
	if got, want := open(t, filepath.Join(dir, "sub")).Files(), []string{"Dockerfile"}; !slices.Equal(got, want) {
		t.Errorf("got files %q of a directory in it, want %q", got, want)
	}
	// A directory that git ignores has files all the same.
	if got, want := open(t, filepath.Join(dir, "out")).Files(), []string{"Dockerfile"}; !slices.Equal(got, want) {
		t.Errorf("got files %q of an ignored directory, want %q", got, want)
	}
}

// TestTreeIsBounded: what is too large is named, and the rest is read.
func TestTreeIsBounded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": strings.Repeat("x", 100), "b": strings.Repeat("x", 60), "c": strings.Repeat("x", 60), "d": "x"})
	tree := &Tree{Dir: dir, maxFiles: 10, maxFile: 64, maxSum: 100}
	if err := tree.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]error{"a": ErrNotRead, "b": nil} {
		if _, err := tree.Read(name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	if _, err := tree.Read("c"); !errors.Is(err, ErrNotRead) {
		t.Errorf("c: got %v, want ErrNotRead: all together are too large", err)
	}
	few := &Tree{Dir: dir, maxFiles: 2}
	if err := few.open(t.Context()); err != nil || !few.Cut || len(few.Files()) != 2 {
		t.Errorf("got %q, cut: %v, %v, want 2 files, cut", few.Files(), few.Cut, err)
	}
	few.Close()
	if tree := open(t, dir); tree.maxFiles != limits.LintFiles || tree.maxFile != limits.LintFile || tree.maxSum != limits.LintBytes {
		t.Error("a tree has other limits than those of internal/limits")
	}
	// A file of 50 MB, without its bytes on disk.
	if err := os.Truncate(filepath.Join(dir, "d"), 50<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Read("d"); !errors.Is(err, ErrNotRead) || !strings.Contains(err.Error(), "52428800 bytes") {
		t.Errorf("got %v, want that 52428800 bytes are too many", err)
	}
}

// TestOpenTreeFails: no directory, no tree.
func TestOpenTreeFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	write(t, filepath.Dir(file), map[string]string{"f": ""})
	for _, dir := range []string{file, filepath.Join(file, "none"), ""} {
		if tree, err := OpenTree(context.Background(), dir); err == nil {
			tree.Close()
			t.Errorf("%q: got a tree, want an error", dir)
		}
	}
}

// TestPositions: lines and columns count from 1, and columns count characters, whatever the bytes are.
func TestPositions(t *testing.T) {
	f := NewFile("f", []byte("ab\r\nä€c\n\xff\xfex\n"))
	for _, c := range []struct {
		text string
		want string
	}{{"b", "f:1:2-1:3"}, {"€c", "f:2:2-2:4"}, {"x", "f:3:3-3:4"}, {"ab\r\nä", "f:1:1-2:2"}} {
		start := strings.Index(string(f.Data), c.text)
		p := f.Position(start, start+len(c.text))
		if got := fmt.Sprintf("%s-%d:%d", p, p.EndLine, p.EndColumn); got != c.want {
			t.Errorf("%q: got %s, want %s", c.text, got, c.want)
		}
		if at := f.Offset(p.Line, p.Column); at != start {
			t.Errorf("%q: got offset %d, want %d", c.text, at, start)
		}
	}
	if f.Lines() != 4 || f.Line(1) != "ab" || f.Line(4) != "" || f.Line(5) != "" || f.Line(0) != "" || f.Offset(9, 9) != len(f.Data) {
		t.Errorf("got %d lines, %q, %q", f.Lines(), f.Line(1), f.Line(4))
	}
	if p := f.Position(-5, 500); p.Line != 1 || p.EndLine != 4 {
		t.Errorf("got %+v, want the whole file", p)
	}
}
