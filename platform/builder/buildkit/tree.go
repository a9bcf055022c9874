package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"github.com/colophon-build/colophon/platform/builder"
)

// sourceTree is the source tree as the daemon reads it. The daemon, which a build may have
// taken over, chooses what is read. The root refuses to follow links out of the tree.
type sourceTree struct {
	fsutil.FS
	root  *os.Root
	epoch int64 // nanoseconds since 1970

	mu  sync.Mutex
	odd []string // names that the protocol cannot express, for people; at most maxOdd
}

const maxOdd = 5

func newSourceTree(root *os.Root, epoch time.Time) *sourceTree {
	return &sourceTree{FS: fsutil.NewRootFS(fsutil.NewRoot(root)), root: root, epoch: epoch.UnixNano()}
}

// Walk treats a directory that nobody may read as empty: a submodule that was not
// fetched, which the attestor found to be excluded from the build's context. If target is
// a link, Walk visits the link itself; fsutil resolves it within the tree. It also visits a
// file whose name is not UTF-8 itself, because io/fs, on which fsutil rests, has no such names.
func (t *sourceTree) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	name := strings.TrimPrefix(path.Clean("/"+target), "/")
	info, err := t.root.Lstat(name)
	if err != nil && !utf8.ValidString(name) {
		return err
	}
	if err == nil && (info.Mode().Type() == fs.ModeSymlink || info.Mode().IsRegular() && !utf8.ValidString(name)) {
		st := &types.Stat{Path: name, Mode: uint32(info.Mode()), Size: info.Size()}
		if info.Mode().Type() == fs.ModeSymlink {
			if st.Linkname, err = t.root.Readlink(name); err != nil {
				return err
			}
		}
		if err := fn(name, sourceEntry{&fsutil.DirEntryInfo{Stat: st}, t}, nil); err != fs.SkipDir && err != fs.SkipAll {
			return err
		}
		return nil
	}
	return t.FS.Walk(ctx, target, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) && d != nil && d.IsDir() {
			return nil
		}
		if d != nil {
			d = sourceEntry{d, t}
		}
		return fn(name, d, err)
	})
}

// explain names the files that BuildKit's protocol cannot express, if err says that there
// was one among those that the build reads, and checkNames could not know it.
func (t *sourceTree) explain(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.odd) == 0 || !strings.Contains(err.Error(), "UTF-8") {
		return err
	}
	return &builder.Error{Step: "source", Err: fmt.Errorf("the build reads a name that is not UTF-8, which BuildKit cannot express (one of %s): rename it, or list it in .dockerignore", strings.Join(t.odd, ", "))}
}

// note remembers an entry that the protocol, whose strings are UTF-8, cannot express.
func (t *sourceTree) note(st *types.Stat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	what := quoteOdd(st)
	if len(t.odd) < maxOdd && !slices.Contains(t.odd, what) {
		t.odd = append(t.odd, what)
	}
}

// isOdd reports whether the protocol cannot express an entry.
func isOdd(st *types.Stat) bool { return !utf8.ValidString(st.Path) || !utf8.ValidString(st.Linkname) }

// quoteOdd names such an entry for people.
func quoteOdd(st *types.Stat) string {
	if utf8.ValidString(st.Path) {
		return strconv.Quote(st.Path) + ", a link to " + strconv.Quote(st.Linkname)
	}
	return strconv.Quote(st.Path)
}

// sourceEntry is a file, directory or link of a sourceTree.
type sourceEntry struct {
	fs.DirEntry
	tree *sourceTree
}

// Info gives the entry only the metadata that git has: no owners, one time, and whether a
// file is executable.
func (e sourceEntry) Info() (fs.FileInfo, error) {
	info, err := e.DirEntry.Info()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*types.Stat)
	if !ok {
		return nil, fmt.Errorf("%q: got no metadata", e.Name())
	}
	if isOdd(st) {
		e.tree.note(st)
	}
	st.Uid, st.Gid, st.ModTime = 0, 0, e.tree.epoch
	mode := fs.FileMode(st.Mode)
	switch {
	case mode.IsDir():
		mode = mode&fs.ModeType | 0o755
	case mode.IsRegular() && mode&0o100 != 0:
		mode = 0o755
	case mode.IsRegular():
		mode = 0o644
	}
	st.Mode = uint32(mode)
	return &fsutil.StatInfo{Stat: st}, nil
}
