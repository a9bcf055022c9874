package worker

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/source"
)

// packTree writes the directories, regular files and symbolic links below dir as
// a tar, ordered by name. Of a file's mode it keeps only whether the file is
// executable. What the commit only refers to (source.Unresolved) gets the mode 0: a build
// that reads it would be built from something else, and fails. It hashes the files as it writes them; if their git tree is not
// want, it returns an error and leaves the tar without its end.
func packTree(w io.Writer, dir string, want source.Tree) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	out, hash := tar.NewWriter(w), want.Hash()
	unresolved := map[string]bool{}
	for _, u := range want.Unresolved {
		unresolved[u.Path] = true
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: 0o644, Format: tar.FormatPAX}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			if unresolved[name] {
				h.Mode = 0
			}
			return errors.Join(hash.Dir(name), out.WriteHeader(h))
		case info.Mode().Type() == fs.ModeSymlink:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = root.Readlink(name); err != nil {
				return err
			}
			return errors.Join(hash.Symlink(name, h.Linkname), out.WriteHeader(h))
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s: got a special file, want a regular file, directory or symbolic link", name)
		}
		executable := info.Mode()&0o100 != 0
		switch {
		case unresolved[name]:
			h.Mode = 0
		case executable:
			h.Mode = 0o755
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		return hash.File(name, executable, h.Size, io.TeeReader(f, out))
	})
	if err == nil {
		err = hash.Check()
	}
	if err != nil {
		return err
	}
	return out.Close()
}

// unpackTree writes the tar of packTree to dir, and reads no byte after its end. It creates symbolic links last,
// so that no file is written through a link. It refuses other kinds of entries,
// names that are not clean and relative, and duplicate names.
func unpackTree(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var links []*tar.Header
	var total int64
	in := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		name := strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(name) || path.Clean(name) != name || name == "." || strings.Count(name, "/") > limits.TreeDepth {
			return fmt.Errorf("name: got %q, want a clean relative path of at most %d levels", h.Name, limits.TreeDepth)
		}
		if total += h.Size; n >= limits.TreeFiles || total > limits.TreeBytes || len(name) > limits.TreePath {
			return fmt.Errorf("the tree exceeds %d files, %d bytes, or %d bytes in a path", limits.TreeFiles, int64(limits.TreeBytes), limits.TreePath)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(name, mode(h, 0o755))
		case tar.TypeReg:
			err = writeFile(root, name, mode(h, 0o644), in)
		case tar.TypeSymlink:
			links = append(links, h)
		default:
			err = fmt.Errorf("type: got %q, want a regular file, directory or symbolic link", h.Typeflag)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, h := range links {
		if err := root.Symlink(h.Linkname, h.Name); err != nil {
			return err
		}
	}
	return nil
}

// mode returns the mode of an entry: 0 if nobody may read it, 0755 if it is executable,
// else other.
func mode(h *tar.Header, other fs.FileMode) fs.FileMode {
	switch perm := h.FileInfo().Mode().Perm(); {
	case perm == 0:
		return 0
	case perm&0o100 != 0:
		return 0o755
	}
	return other
}

func writeFile(root *os.Root, name string, mode fs.FileMode, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
