package oci

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestScratch: a layout that is not synced is as complete and as strict as others.
func TestScratch(t *testing.T) {
	src, top := pushed(t, newServer(t, true, nil))
	dir := filepath.Join(t.TempDir(), "scratch")
	l, err := CreateScratch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	content := []byte("content")
	d := v1.Descriptor{Digest: digestOf(content), Size: int64(len(content))}
	wrong := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("cOntent"))), nil }
	if err := l.PushBlob(t.Context(), d, wrong); !errors.Is(err, ErrMismatch) {
		t.Errorf("other content: got %v", err)
	}
	if left, err := Save(t.Context(), l, src, top, "v1", nil); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	again, err := OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Resolve(t.Context(), "v1"); err != nil || got.Digest != top.Digest {
		t.Errorf("got %s, %v, want %s", got.Digest, err, top.Digest)
	}
	if err := Copy(t.Context(), emptyLayout(t), again, top); err != nil {
		t.Error(err)
	}
}
