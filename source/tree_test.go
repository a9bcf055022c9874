package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hashDir adds all files of a directory to h.
func hashDir(h *TreeHash, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return h.Dir(name)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			return errors.Join(err, h.Symlink(name, target))
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return h.File(name, info.Mode()&0o100 != 0, info.Size(), f)
	})
}

func exported(t *testing.T, r *repo, ref string) (Tree, string) {
	t.Helper()
	repo, _ := mustFetch(t, Request{URI: r.uri(), Ref: ref})
	dst := t.TempDir()
	tree, err := repo.Export(t.Context(), dst)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.git("rev-parse", ref+"^{tree}"); tree.ID != want {
		t.Errorf("%s: got tree %s, git says %s", ref, tree.ID, want)
	}
	return tree, dst
}

// The id of exported files is the one that git computes.
func TestTreeHash(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			init := "--object-format=" + format
			inner, r := newRepo(t, init), newRepo(t, init)
			inner.commit("in/file", "inner")
			// A directory sorts as "a/", behind "a-b" and "a.b"; a submodule as "m", before them.
			for _, name := range []string{"a/b", "a/c/d/e", "a-b", "a.b", "a0", "A", "ä", "m-n", "m.n", "m0", "empty", "with space", ".gitattributes"} {
				r.write(name, strings.Repeat(name, len(name)))
			}
			r.write("empty", "")
			r.write("run.sh", "#!/bin/sh\n")
			os.Chmod(filepath.Join(r.dir, "run.sh"), 0o755)
			os.Symlink("a/c", filepath.Join(r.dir, "a/link"))
			os.Symlink("nowhere", filepath.Join(r.dir, "dangling"))
			r.commit("x", "x")
			r.git("tag", "plain")
			r.git("submodule", "add", "-q", inner.uri(), "m")
			r.git("submodule", "add", "-q", inner.uri(), "a/m")
			r.commit("x", "y")
			r.git("tag", "modules")
			// Trees that git makes no longer, but has.
			blob, none := r.blob("old"), r.in("", "mktree")
			r.commitTree("nothing")
			r.commitTree("emptied", [3]string{"40000", "d", none}, [3]string{"100644", "f", blob})
			r.commitTree("old", [3]string{"100664", "f", blob}, [3]string{"100644", "g", blob})
			for _, ref := range []string{"plain", "modules", "nothing", "emptied", "old"} {
				tree, dir := exported(t, r, ref)
				h := tree.Hash()
				if err := errors.Join(hashDir(h, dir), h.Check()); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
			}
		})
	}
}

// Each change of the exported files is detected.
func TestTreeHashTampered(t *testing.T) {
	inner, r := newRepo(t), newRepo(t)
	inner.commit("in", "inner")
	r.write("run.sh", "#!/bin/sh\n")
	r.write("d/file", "content")
	os.Symlink("d", filepath.Join(r.dir, "link"))
	r.git("submodule", "add", "-q", inner.uri(), "m")
	r.commit("x", "x")
	for what, change := range map[string]func(dir string) error{
		"a byte":              func(dir string) error { return os.WriteFile(dir+"/d/file", []byte("Content"), 0o644) },
		"a byte of submodule": func(dir string) error { return os.WriteFile(dir+"/m/in", []byte("Inner"), 0o644) },
		"no submodule":        func(dir string) error { return os.RemoveAll(dir + "/m") },
		"one file more":       func(dir string) error { return os.WriteFile(dir+"/d/more", nil, 0o644) },
		"one directory more":  func(dir string) error { return os.Mkdir(dir+"/d/more", 0o755) },
		"one file less":       func(dir string) error { return os.Remove(dir + "/x") },
		"an executable bit":   func(dir string) error { return os.Chmod(dir+"/run.sh", 0o755) },
		"another name":        func(dir string) error { return os.Rename(dir+"/x", dir+"/y") },
		"another directory":   func(dir string) error { return os.Rename(dir+"/x", dir+"/d/x") },
		"another target":      func(dir string) error { return errors.Join(os.Remove(dir+"/link"), os.Symlink("m", dir+"/link")) },
		"a link for a file":   func(dir string) error { return errors.Join(os.Remove(dir+"/x"), os.Symlink("x", dir+"/x")) },
		"a file for a link": func(dir string) error {
			return errors.Join(os.Remove(dir+"/link"), os.WriteFile(dir+"/link", []byte("d"), 0o644))
		},
	} {
		tree, dir := exported(t, r, "main")
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		h := tree.Hash()
		if err := hashDir(h, dir); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := h.Check(); !errors.Is(err, ErrNotTheTree) || !strings.Contains(err.Error(), "got tree ") || !strings.Contains(err.Error(), "want ") {
			t.Errorf("%s: got %v, want ErrNotTheTree with both ids", what, err)
		}
	}
}

// A file whose directory was not added is refused, because the id would not cover it.
func TestTreeHashOrder(t *testing.T) {
	h := Tree{ID: strings.Repeat("0", 40)}.Hash()
	if err := h.File("d/f", false, 0, strings.NewReader("")); err == nil {
		t.Error("a file came before its directory")
	}
	if err := h.File("f", false, 1, strings.NewReader("")); err == nil {
		t.Error("a file was shorter than its size")
	}
	if err := (Tree{}).Hash().Check(); !errors.Is(err, ErrNotTheTree) {
		t.Errorf("nothing to compare with: got %v", err)
	}
}
