package source

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
)

// ErrNotTheTree says that files are not those of the commit: whoever was handed
// them may not go on.
var ErrNotTheTree = errors.New("not the files of the commit")

// Tree is what the exported files of a commit are held to.
type Tree struct {
	ID string // of the commit's tree, hex; it alone says what the files must be

	modules map[string]module // by path, since the parent's tree names only their commits
	old     map[string]bool   // paths of files with the mode 100664
}

// module is a submodule's commit, which is in its parent's tree, and that
// commit's tree, which is what its files hash to.
type module struct{ commit, tree string }

// Hash begins to compute the id of files that are being handed over.
func (t Tree) Hash() *TreeHash {
	return &TreeHash{want: t, dirs: map[string][]entry{".": nil}}
}

// TreeHash computes the id that git has for a tree from its files, told one
// after the other: a name is the path from the top, with slashes, and comes
// after the directory that it is in. Not for concurrent use.
type TreeHash struct {
	want  Tree
	dirs  map[string][]entry // by path; "." is the top
	count int
}

// Dir tells of a directory. Git has none but those of trees and submodules.
func (h *TreeHash) Dir(name string) error {
	if err := h.add(name, "40000", ""); err != nil {
		return err
	}
	h.dirs[name] = nil
	return nil
}

// Symlink tells of a symbolic link.
func (h *TreeHash) Symlink(name, target string) error {
	id, err := h.blob(int64(len(target)), strings.NewReader(target))
	if err != nil {
		return err
	}
	return h.add(name, "120000", id)
}

// File tells of a regular file and reads its content to the end.
func (h *TreeHash) File(name string, executable bool, size int64, content io.Reader) error {
	id, err := h.blob(size, content)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	mode := "100644"
	switch {
	case executable:
		mode = "100755"
	case h.want.old[name]:
		mode = "100664"
	}
	return h.add(name, mode, id)
}

func (h *TreeHash) blob(size int64, content io.Reader) (id string, err error) {
	sum := hasher(h.want.ID)
	fmt.Fprintf(sum, "blob %d\x00", size)
	if n, err := io.Copy(sum, content); err != nil {
		return "", err
	} else if n != size {
		return "", fmt.Errorf("got %d bytes, want %d", n, size)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (h *TreeHash) add(name, mode, id string) error {
	dir := path.Dir(name)
	if _, told := h.dirs[dir]; !told {
		return fmt.Errorf("%s came before its directory", name)
	}
	if h.count++; h.count > limits.TreeFiles {
		return fmt.Errorf("more than %d files", limits.TreeFiles)
	}
	h.dirs[dir] = append(h.dirs[dir], entry{mode: mode, name: path.Base(name), id: id})
	return nil
}

// Check fails, with ErrNotTheTree, unless what it was told is the commit's
// tree, all of it and nothing else.
func (h *TreeHash) Check() error {
	got, err := h.id(".")
	if err != nil {
		return err
	}
	if got != h.want.ID {
		return fmt.Errorf("%w: got tree %s, want %s", ErrNotTheTree, got, h.want.ID)
	}
	return nil
}

// id is that of a directory and all below it.
//
//	object = "tree" SP size NUL tree
//
// with the grammar of parseTree. Git sorts entries by the bytes of their names,
// as if those of directories (but not of submodules) ended with a slash.
func (h *TreeHash) id(dir string) (string, error) {
	entries := h.dirs[dir]
	for i := range entries {
		e := &entries[i]
		if e.mode != "40000" {
			continue
		}
		name := path.Join(dir, e.name)
		var err error
		if e.id, err = h.id(name); err != nil {
			return "", err
		}
		if m, ok := h.want.modules[name]; ok {
			if e.id != m.tree {
				return "", fmt.Errorf("%w: submodule %q: got tree %s, want %s", ErrNotTheTree, name, e.id, m.tree)
			}
			e.mode, e.id = "160000", m.commit
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.sortName(), b.sortName()) })
	var raw []byte
	for _, e := range entries {
		id, err := hex.DecodeString(e.id)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path.Join(dir, e.name), err)
		}
		raw = append(fmt.Appendf(raw, "%s %s\x00", e.mode, e.name), id...)
	}
	sum := hasher(h.want.ID)
	fmt.Fprintf(sum, "tree %d\x00", len(raw))
	sum.Write(raw)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func (e entry) sortName() string {
	if e.mode == "40000" {
		return e.name + "/"
	}
	return e.name
}
