package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// GoModule returns the directory of the Go module that a package of a source tree belongs
// to: the nearest one with a go.mod, from the package's directory up to the top of the
// build context. Both are clean paths in the tree, and the package is in the context.
func GoModule(tree *os.Root, context, pkg string) (dir string, err error) {
	if info, err := tree.Stat(pkg); err != nil || !info.IsDir() {
		return "", fmt.Errorf("package %q: the source has no such directory", pkg)
	}
	for dir = pkg; ; dir = path.Dir(dir) {
		if _, err := tree.Lstat(path.Join(dir, "go.mod")); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		if dir == context || dir == "." {
			return "", fmt.Errorf("package %q: the source has no go.mod for it", pkg)
		}
	}
}
