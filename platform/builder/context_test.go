package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenContext: a context is a directory of the tree, and no link leads to it.
func TestOpenContext(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "services/web"), 0o700), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "services/web/mark"), nil, 0o600), os.WriteFile(filepath.Join(outside, "mark"), nil, 0o600),
		os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink("../web", filepath.Join(dir, "services/web/self")), os.Symlink("services", filepath.Join(dir, "in"))); err != nil {
		t.Fatal(err)
	}
	tree, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for context, want := range map[string]string{
		"": "", ".": "", "services/web": "", "./services/web/": "",
		"out": "out is a link", "in/web": "in is a link", "services/web/self": "services/web/self is a link", "file": "no directory", "file/x": "file is no directory",
		"services/x": "no such directory", "..": "inside the tree", "services/../../x": "inside the tree", outside: "inside the tree", "../" + filepath.Base(outside): "inside the tree",
	} {
		root, err := OpenContext(tree, context)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", context, err, want)
		}
		if err != nil {
			continue
		}
		if _, err := root.Lstat("mark"); strings.Contains(context, "web") && err != nil {
			t.Errorf("%s: %v", context, err)
		}
		root.Close()
	}
}
