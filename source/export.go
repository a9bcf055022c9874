package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/limits"
)

// file is a tree's entry at its full path.
type file struct {
	entry
	path string
}

// walk visits every entry below a tree, level by level, so that a directory
// comes before what it holds.
func walk(ctx context.Context, o *objects, tree string, visit func(file) error) error {
	count := 0
	level := []file{{entry: entry{id: tree}}}
	for depth := 0; len(level) > 0; depth++ {
		if depth > limits.TreeDepth {
			return fmt.Errorf("%q is nested deeper than %d: %w", level[0].path, limits.TreeDepth, ErrUnsafe)
		}
		ids := make([]string, len(level))
		for i, dir := range level {
			ids[i] = dir.id
		}
		o.ask(ids)
		var next []file
		for _, dir := range level {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, err := o.tree(dir.id)
			if err != nil {
				return err
			}
			for _, e := range entries {
				f := file{entry: e, path: path.Join(dir.path, e.name)}
				// A tree of a few kilobytes can name itself into billions of files.
				if count++; count > limits.TreeFiles {
					return fmt.Errorf("the tree has more than %d files: %w", limits.TreeFiles, ErrUnsafe)
				}
				if len(f.path) > limits.TreePath {
					return fmt.Errorf("%q is longer than %d bytes: %w", f.path[:100]+"…", limits.TreePath, ErrUnsafe)
				}
				if err := visit(f); err != nil {
					return err
				}
				if e.mode == "40000" {
					next = append(next, f)
				}
			}
		}
		level = next
	}
	return nil
}

// Export writes the commit's tree to dst, which is created or must be empty:
// files as 0644 or 0755, directories as 0755, everything of the committer's
// time, submodules in their places, no .git. Content is written as it was
// committed: attributes, filters and line-ending conversion have no say, and
// each object is checked against its id. Symlinks are kept, but one that leads
// out of dst is refused (ErrUnsafe), because whoever opens it would read the
// machine's files. After an error dst is empty again.
//
// Whoever hands the files on holds them to the Tree.
func (r *Repo) Export(ctx context.Context, dst string) (Tree, error) {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return Tree{}, err
	}
	if entries, err := os.ReadDir(dst); err != nil {
		return Tree{}, err
	} else if len(entries) > 0 {
		return Tree{}, fmt.Errorf("%s is not empty", dst)
	}
	t := Tree{ID: r.commit.Tree, modules: map[string]module{}, old: map[string]bool{}}
	if err := r.export(ctx, dst, t); err != nil {
		entries, _ := os.ReadDir(dst)
		for _, e := range entries {
			os.RemoveAll(filepath.Join(dst, e.Name()))
		}
		return Tree{}, fmt.Errorf("exporting %s@%s: %w", r.commit.URI, r.commit.ID, err)
	}
	return t, nil
}

// export fills in t what its id alone does not say.
func (r *Repo) export(ctx context.Context, dst string, t Tree) error {
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &exporter{root: root, dst: dst, time: r.commit.Time, tree: t}
	if err := x.repo(ctx, r, ""); err != nil {
		return err
	}
	for _, link := range x.links {
		// os.Root follows the link as a reader would, and fails where it leaves.
		_, err := root.Stat(link)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		default:
			to, _ := root.Readlink(link)
			return fmt.Errorf("symlink %q to %q leads out of the tree: %w", link, to, ErrUnsafe)
		}
	}
	// Directories last, and deepest first: writing into one changes its time.
	for i := len(x.dirs) - 1; i >= 0; i-- {
		if err := x.stamp(x.dirs[i]); err != nil {
			return err
		}
	}
	return x.stamp(".")
}

// exporter writes one tree with its submodules.
type exporter struct {
	root  *os.Root
	dst   string
	time  time.Time // of the outermost commit, so that one image has one time
	tree  Tree
	dirs  []string
	links []string
	bytes int64
	files int
}

func (x *exporter) repo(ctx context.Context, r *Repo, prefix string) error {
	g, err := newGit(r.dir)
	if err != nil {
		return err
	}
	defer g.Close()
	o, err := g.objects(ctx)
	if err != nil {
		return err
	}
	defer o.Close()
	var files []file
	var blobs []string
	err = walk(ctx, o, r.commit.Tree, func(f file) error {
		files = append(files, f)
		if f.mode != "40000" && f.mode != "160000" {
			blobs = append(blobs, f.id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if x.files += len(files); x.files > limits.TreeFiles {
		return fmt.Errorf("the tree has more than %d files: %w", limits.TreeFiles, ErrUnsafe)
	}
	o.ask(blobs)
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.entry(ctx, r, o, f, prefix+f.path); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) entry(ctx context.Context, r *Repo, o *objects, f file, name string) error {
	switch f.mode {
	case "40000":
		x.dirs = append(x.dirs, name)
		return x.root.Mkdir(name, 0o755)
	case "160000":
		sub, ok := r.subs[f.path]
		if !ok {
			return fmt.Errorf("submodule %q was not fetched", name)
		}
		x.dirs = append(x.dirs, name)
		x.tree.modules[name] = module{f.id, sub.commit.Tree}
		if err := x.root.Mkdir(name, 0o755); err != nil {
			return err
		}
		return x.repo(ctx, sub, name+"/")
	case "120000":
		return x.symlink(o, f, name)
	}
	return x.file(o, f, name)
}

func (x *exporter) symlink(o *objects, f file, name string) error {
	target, err := o.read(f.id, "blob", limits.TreePath)
	if err != nil {
		return fmt.Errorf("symlink %q: %w", name, err)
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("symlink %q has the target %q: %w", name, target, ErrUnsafe)
	}
	if err := x.root.Symlink(string(target), name); err != nil {
		return err
	}
	x.links = append(x.links, name)
	return x.stamp(name)
}

func (x *exporter) file(o *objects, f file, name string) error {
	perm := fs.FileMode(0o644)
	if f.mode == "100755" {
		perm = 0o755
	}
	if f.old {
		x.tree.old[name] = true
	}
	// O_EXCL: on a file system that folds names, two entries would be one.
	out, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	defer out.Close()
	head := &start{}
	n, err := o.copy(io.MultiWriter(out, head), f.id, "blob", limits.TreeBytes-x.bytes)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	x.bytes += n
	if isPointer(head.buf, n) {
		return fmt.Errorf("%q is %w", name, ErrLFS)
	}
	if err := errors.Join(out.Chmod(perm), out.Close()); err != nil {
		return err
	}
	return x.stamp(name)
}

// isPointer follows the Git LFS specification: a pointer is a text of less
// than 1024 bytes that begins with the version's URL.
func isPointer(head []byte, size int64) bool {
	return size < 1024 && (bytes.HasPrefix(head, []byte("version https://git-lfs.github.com/spec/")) ||
		bytes.HasPrefix(head, []byte("version https://hawser.github.com/spec/")))
}

// stamp sets the time of a file, directory or symlink itself. Every directory
// on the way was made by us, and no link is followed at the end.
func (x *exporter) stamp(name string) error {
	t := unix.NsecToTimespec(x.time.UnixNano())
	full := filepath.Join(x.dst, name)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the time of %s: %w", full, err)
	}
	return nil
}

// start keeps the first bytes of what is written.
type start struct{ buf []byte }

func (s *start) Write(p []byte) (int, error) {
	if room := 64 - len(s.buf); room > 0 {
		s.buf = append(s.buf, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
