package source

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
)

// ErrNotTheTree means that files are not those of the commit. Do not use the files.
var ErrNotTheTree = errors.New("not the files of the commit")

// Tree identifies the files of a commit. Repo.Export returns it.
type Tree struct {
	ID string // id of the commit's tree, hex; it determines all files and submodules
	// Unresolved lists what the commit refers to and does not contain. A build that reads
	// one of these would be built from something else than what its authors meant.
	Unresolved []Unresolved

	modules map[string]module // submodules by path; the parent's tree contains only their commits
	old     map[string]bool   // paths of files with the mode 100664
}

// Unresolved is a Git LFS pointer, or a submodule that could not be fetched.
type Unresolved struct {
	Path   string `json:"path"`   // in the outermost tree, with slashes
	Reason string `json:"reason"` // for people
}

// module is a submodule: its commit, whose id is in the parent's tree, and the tree of
// that commit, whose id its files hash to.
type module struct{ commit, tree string }

// treeJSON is the form of a Tree that another process of the same program reads.
type treeJSON struct {
	ID      string               `json:"id"`
	Modules map[string][2]string `json:"modules,omitempty"` // by path: commit and tree
	Old     []string             `json:"old,omitempty"`

	Unresolved []Unresolved `json:"unresolved,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (t Tree) MarshalJSON() ([]byte, error) {
	j := treeJSON{ID: t.ID, Modules: map[string][2]string{}, Old: slices.Sorted(maps.Keys(t.old)), Unresolved: t.Unresolved}
	for path, m := range t.modules {
		j.Modules[path] = [2]string{m.commit, m.tree}
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Tree) UnmarshalJSON(data []byte) error {
	var j treeJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*t = Tree{ID: j.ID, Unresolved: j.Unresolved, modules: map[string]module{}, old: map[string]bool{}}
	for path, m := range j.Modules {
		t.modules[path] = module{m[0], m[1]}
	}
	for _, path := range j.Old {
		t.old[path] = true
	}
	return nil
}

// Hash returns a TreeHash, which checks that files are those of t.
func (t Tree) Hash() *TreeHash {
	return &TreeHash{want: t, dirs: map[string][]entry{".": nil}}
}

// TreeHash computes the id of a tree from its files. Call Dir, File and Symlink for each
// of them, in any order in which a directory comes before its content, and then Check.
// A name is the path from the top, with slashes. It is not safe for concurrent use.
type TreeHash struct {
	want  Tree
	dirs  map[string][]entry // by path; "." is the top
	count int                // of files, directories and symlinks
}

// Dir adds a directory or submodule.
func (h *TreeHash) Dir(name string) error {
	if err := h.add(name, "40000", ""); err != nil {
		return err
	}
	h.dirs[name] = nil
	return nil
}

// Symlink adds a symbolic link.
func (h *TreeHash) Symlink(name, target string) error {
	id, err := h.blob(int64(len(target)), strings.NewReader(target))
	if err != nil {
		return err
	}
	return h.add(name, "120000", id)
}

// File adds a regular file. It reads content to its end, and fails if that is not size
// bytes long.
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
		return fmt.Errorf("%s comes before its directory", name)
	}
	if h.count++; h.count > limits.TreeFiles {
		return fmt.Errorf("got more than %d files", limits.TreeFiles)
	}
	h.dirs[dir] = append(h.dirs[dir], entry{mode: mode, name: path.Base(name), id: id})
	return nil
}

// Check fails with ErrNotTheTree unless the added files are exactly those of the commit.
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

// id returns the id of a directory:
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

// emptyTree returns the id of the tree without entries, in the object format of id.
func emptyTree(id string) string {
	sum := hasher(id)
	fmt.Fprintf(sum, "tree 0\x00")
	return hex.EncodeToString(sum.Sum(nil))
}

func (e entry) sortName() string {
	if e.mode == "40000" {
		return e.name + "/"
	}
	return e.name
}
