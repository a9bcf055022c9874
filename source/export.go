package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/colophon-build/colophon/internal/limits"
)

// file is an entry of a tree, with its path from the top.
type file struct {
	entry
	path string
}

// walk calls visit for every entry below a tree, level by level: a directory comes
// before its entries.
func walk(ctx context.Context, o *objects, tree string, visit func(file) error) error {
	count := 0
	level := []file{{entry: entry{id: tree}}}
	for depth := 0; len(level) > 0; depth++ {
		if depth > limits.TreeDepth {
			return fmt.Errorf("%q is nested deeper than %d: %w", level[0].path, limits.TreeDepth, errUnsafe)
		}
		ids := make([]string, len(level))
		for i, dir := range level {
			ids[i] = dir.id
		}
		o.request(ids)
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
				// A few kilobytes of tree objects can describe billions of files.
				if count++; count > limits.TreeFiles {
					return fmt.Errorf("the tree has more than %d files: %w", limits.TreeFiles, errUnsafe)
				}
				if len(f.path) > limits.TreePath {
					return fmt.Errorf("%q is longer than %d bytes: %w", f.path[:100]+"…", limits.TreePath, errUnsafe)
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

// Export writes the commit's files to dst, a directory that does not exist or is empty.
// Files get the mode 0644 or 0755, directories 0755, and all of them the committer's
// time. Submodules are in their directories; there is no .git. The content is the
// committed content, without filters and line-ending conversion, and the id of each
// object is checked. After an error dst is empty again.
//
// Symlinks are written as they are and may lead out of dst. Read dst only through an
// os.Root, which refuses to follow them there. A Git LFS pointer is written as the file
// that it is, and a submodule that could not be fetched as an empty directory;
// Tree.Unresolved lists both.
//
// Use Tree.Hash to check later that the files are still those of the commit.
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
	if err := r.export(ctx, dst, &t); err != nil {
		entries, _ := os.ReadDir(dst)
		for _, e := range entries {
			os.RemoveAll(filepath.Join(dst, e.Name()))
		}
		return Tree{}, fmt.Errorf("exporting %s@%s: %w", r.commit.URI, r.commit.ID, err)
	}
	return t, nil
}

// export writes the files, and adds submodules, old file modes and what is unresolved to t.
func (r *Repo) export(ctx context.Context, dst string, t *Tree) error {
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &exporter{root: root, dst: dst, time: r.commit.Time, tree: t}
	if err := x.repo(ctx, r, ""); err != nil {
		return err
	}
	// Set the times of directories last, the deepest first: writing into a directory
	// changes its time.
	for i := len(x.dirs) - 1; i >= 0; i-- {
		if err := x.setTime(x.dirs[i]); err != nil {
			return err
		}
	}
	return x.setTime(".")
}

// exporter is the state of one Export.
type exporter struct {
	root  *os.Root
	dst   string
	time  time.Time // of the outermost commit; all files get this time
	tree  *Tree
	dirs  []string // directories, parents first
	bytes int64    // written so far
	files int      // written so far
}

// repo writes the files of r below prefix, which is empty or ends with a slash.
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
		return fmt.Errorf("the tree has more than %d files: %w", limits.TreeFiles, errUnsafe)
	}
	o.request(blobs)
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

// entry writes one entry of a tree.
func (x *exporter) entry(ctx context.Context, r *Repo, o *objects, f file, name string) error {
	// What walks the tree, and what describes it to other processes, knows only UTF-8.
	if (f.mode == "40000" || f.mode == "160000" || f.old) && !utf8.ValidString(name) {
		return fmt.Errorf("the name of %q is not UTF-8, which only files may have: %w", name, errUnsafe)
	}
	switch f.mode {
	case "40000":
		x.dirs = append(x.dirs, name)
		return x.root.Mkdir(name, 0o755)
	case "160000":
		x.dirs = append(x.dirs, name)
		if err := x.root.Mkdir(name, 0o755); err != nil {
			return err
		}
		sub, ok := r.subs[f.path]
		if !ok {
			x.tree.modules[name] = module{f.id, emptyTree(f.id)}
			x.tree.Unresolved = append(x.tree.Unresolved, Unresolved{name, cmp.Or(r.missing[f.path], "a submodule that was not fetched")})
			return nil
		}
		x.tree.modules[name] = module{f.id, sub.commit.Tree}
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
		return fmt.Errorf("symlink %q has the target %q: %w", name, target, errUnsafe)
	}
	if err := x.root.Symlink(string(target), name); err != nil {
		return err
	}
	return x.setTime(name)
}

func (x *exporter) file(o *objects, f file, name string) error {
	perm := fs.FileMode(0o644)
	if f.mode == "100755" {
		perm = 0o755
	}
	if f.old {
		x.tree.old[name] = true
	}
	// O_EXCL: on a case-insensitive file system, two entries could be the same file.
	out, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	defer out.Close()
	head := &prefix{}
	n, err := o.copy(io.MultiWriter(out, head), f.id, "blob", limits.TreeBytes-x.bytes)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	x.bytes += n
	if isPointer(head.buf, n) && utf8.ValidString(name) {
		x.tree.Unresolved = append(x.tree.Unresolved, Unresolved{name, "a Git LFS pointer, whose content is not in the commit"})
	}
	if err := errors.Join(out.Chmod(perm), out.Close()); err != nil {
		return err
	}
	return x.setTime(name)
}

// isPointer reports whether a file of this size that starts with head is a Git LFS
// pointer. By the Git LFS specification, that is a text of less than 1024 bytes that
// starts with the version's URL.
func isPointer(head []byte, size int64) bool {
	return size < 1024 && (bytes.HasPrefix(head, []byte("version https://git-lfs.github.com/spec/")) ||
		bytes.HasPrefix(head, []byte("version https://hawser.github.com/spec/")))
}

// setTime sets the time of a file, directory or symlink. It does not follow a symlink at
// the end of the path, and Export created all directories of the path.
func (x *exporter) setTime(name string) error {
	full := filepath.Join(x.dst, name)
	if err := setTime(full, x.time); err != nil {
		return fmt.Errorf("setting the time of %s: %w", full, err)
	}
	return nil
}

// prefix keeps the first 64 bytes that are written to it.
type prefix struct{ buf []byte }

func (s *prefix) Write(p []byte) (int, error) {
	if room := 64 - len(s.buf); room > 0 {
		s.buf = append(s.buf, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
