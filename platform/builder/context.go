package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// OpenContext opens the build context of a recipe: a directory of the source tree, or the
// whole tree if context is empty. It refuses links on the way, so that everybody who reads
// the context reads the same directory.
func OpenContext(tree *os.Root, context string) (*os.Root, error) {
	if context = path.Clean(context); !filepath.IsLocal(context) {
		return nil, fmt.Errorf("context %q: want a directory inside the tree", context)
	}
	at := ""
	for part := range strings.SplitSeq(context, "/") {
		at = path.Join(at, part)
		switch info, err := tree.Lstat(at); {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("context %q: the source has no such directory", context)
		case err != nil:
			return nil, fmt.Errorf("context %q: %w", context, err)
		case info.Mode().Type() == fs.ModeSymlink:
			return nil, fmt.Errorf("context %q: %s is a link, want a directory", context, at)
		case !info.IsDir():
			return nil, fmt.Errorf("context %q: %s is no directory", context, at)
		}
	}
	return tree.OpenRoot(context)
}
