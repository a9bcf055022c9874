package builder

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
)

const (
	maxLayoutFiles = 4096     // files in one layout
	maxLayout      = 64 << 30 // bytes of one layout
)

// LayoutError means that a tar stream or a directory is not a valid OCI layout.
type LayoutError struct{ Err error }

func (e *LayoutError) Error() string { return "OCI layout: " + e.Err.Error() }
func (e *LayoutError) Unwrap() error { return e.Err }

// layoutFile matches the names of files that a layout may contain (OCI image spec, image-layout.md).
var layoutFile = lazyregexp.New(`^(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})$`)

// UnpackLayout reads the tar of an OCI layout from an untrusted builder and writes
// its files to dir. It returns a *LayoutError for names that are not of a layout,
// links, devices, duplicate files, and blobs whose digest differs from their name.
func UnpackLayout(r io.Reader, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	in := tar.NewReader(r)
	var total int64
	for n := 0; ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return &LayoutError{err}
		}
		name := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Typeflag == tar.TypeDir && (name == "" || name == "blobs" || name == "blobs/sha256") {
			continue
		}
		if h.Typeflag != tar.TypeReg || !layoutFile.MatchString(name) {
			return &LayoutError{fmt.Errorf("unexpected entry %q of type %q", h.Name, h.Typeflag)}
		}
		if n++; n > maxLayoutFiles {
			return &LayoutError{fmt.Errorf("more than %d files", maxLayoutFiles)}
		}
		if total += h.Size; total > maxLayout || h.Size > limits.LayerPacked {
			return &LayoutError{fmt.Errorf("%s: %d bytes exceed the size limit", name, h.Size)}
		}
		if err := writeLayoutFile(filepath.Join(dir, name), in); err != nil {
			return err
		}
	}
	// Read to the end, because the sender blocks until everything is read.
	_, err := io.Copy(io.Discard, r)
	return err
}

func writeLayoutFile(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return &LayoutError{fmt.Errorf("duplicate file %s", filepath.Base(path))}
	} else if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	want := filepath.Base(path)
	if got := hex.EncodeToString(h.Sum(nil)); len(want) == len(got) && got != want {
		return &LayoutError{fmt.Errorf("blob: got digest %s, want %s", got, want)}
	}
	return nil
}

// PackLayout writes the OCI layout in dir as a tar for UnpackLayout.
func PackLayout(w io.Writer, dir string) error {
	out := tar.NewWriter(w)
	names := []string{"oci-layout", "index.json"}
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		names = append(names, "blobs/sha256/"+e.Name())
	}
	for _, name := range names {
		if !layoutFile.MatchString(name) {
			return &LayoutError{fmt.Errorf("unexpected file %q", name)}
		}
		if err := packFile(out, filepath.Join(dir, name), name); err != nil {
			return err
		}
	}
	return out.Close()
}

func packFile(out *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}
