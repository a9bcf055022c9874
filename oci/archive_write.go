package oci

import (
	"archive/tar"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// WriteArchive writes the layout in dir as a tar (image spec 1.1, "OCI Image Layout"), as
// Reference.Open reads it. The same layout always gives the same bytes.
func WriteArchive(ctx context.Context, w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewWriter(w)
	// First what says that it is a layout, so that readers of the first bytes know.
	for _, name := range []string{"oci-layout", "index.json"} {
		if err := addFile(t, root, name); err != nil {
			return err
		}
	}
	err = fs.WalkDir(root.FS(), "blobs", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		return addFile(t, root, name)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func addFile(t *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0)}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
