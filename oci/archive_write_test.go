package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// An archive of a layout is the same image to every reader.
func TestWriteArchive(t *testing.T) {
	l, top := savedLayout(t)
	if err := l.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	for _, w := range []*bytes.Buffer{&one, &two} {
		if err := WriteArchive(t.Context(), w, l.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("archives of the same layout differ")
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, one.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := ParseReference(file + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	src, err := ref.Open(RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.(*Layout).Close()
	if d, err := src.Resolve(t.Context(), "v1"); err != nil || d.Digest != top.Digest {
		t.Errorf("resolve: got %v, %v, want %s", d, err, top.Digest)
	}
	if err := Copy(t.Context(), emptyLayout(t), src, top); err != nil {
		t.Errorf("copying out of the archive: %v", err)
	}
}
