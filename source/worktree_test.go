package source_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
)

// Git separates names with NUL. Space at the edge of a name is part of it.
func TestListWorkTree(t *testing.T) {
	dir := t.TempDir()
	gittest.Git(t, dir, "init", "-q")
	for _, name := range []string{" first", "last "} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := source.ListWorkTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{" first", "last "}; !slices.Equal(tree.Untracked, want) {
		t.Errorf("got %q, want %q", tree.Untracked, want)
	}
}
