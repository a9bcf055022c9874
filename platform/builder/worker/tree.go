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

// packTree writes directories, regular files and symbolic links below dir as a
// tar, in the order of their names. Of modes only "executable" goes along. What
// was written is hashed on its way, and fails, before the end, where it is
// not want.
func packTree(w io.Writer, dir string, want source.Tree) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	out, hash := tar.NewWriter(w), want.Hash()
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
			return errors.Join(hash.Dir(name), out.WriteHeader(h))
		case info.Mode().Type() == fs.ModeSymlink:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = root.Readlink(name); err != nil {
				return err
			}
			return errors.Join(hash.Symlink(name, h.Linkname), out.WriteHeader(h))
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file, a directory nor a link", name)
		}
		if info.Mode()&0o100 != 0 {
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
		return hash.File(name, h.Mode == 0o755, h.Size, io.TeeReader(f, out))
	})
	if err == nil {
		err = hash.Check()
	}
	if err != nil {
		return err
	}
	return out.Close()
}

// unpackTree is the other side of packTree. Links are made last, so that none
// can be on the way to a file; other kinds, names that are not clean and
// relative, and names that are there twice are errors.
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
			return fmt.Errorf("name %q is not taken", h.Name)
		}
		if total += h.Size; n >= limits.TreeFiles || total > limits.TreeBytes || len(name) > limits.TreePath {
			return fmt.Errorf("more than %d files or %d bytes", limits.TreeFiles, int64(limits.TreeBytes))
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(name, 0o755)
		case tar.TypeReg:
			err = writeFile(root, name, h.FileInfo().Mode()&0o100 != 0, in)
		case tar.TypeSymlink:
			links = append(links, h)
		default:
			err = fmt.Errorf("type %q is not taken", h.Typeflag)
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
	// To the end, so that the request is read whole.
	_, err = io.Copy(io.Discard, r)
	return err
}

func writeFile(root *os.Root, name string, executable bool, r io.Reader) error {
	mode := fs.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
