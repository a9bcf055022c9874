package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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

// TestArchiveThatCannotBeWritten: what is no layout, an end of patience and a full disk
// are errors, and never a shorter archive.
func TestArchiveThatCannotBeWritten(t *testing.T) {
	l, _ := savedLayout(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteArchive(canceled, io.Discard, l.dir); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if err := WriteArchive(t.Context(), io.Discard, filepath.Join(l.dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: got %v", err)
	}
	var whole bytes.Buffer
	if err := WriteArchive(t.Context(), &whole, l.dir); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < whole.Len(); n += 512 {
		if err := WriteArchive(t.Context(), &fullAfter{n}, l.dir); !errors.Is(err, errOutage) {
			t.Fatalf("full after %d of %d bytes: got %v", n, whole.Len(), err)
		}
	}
	if err := os.Remove(filepath.Join(l.dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if err := WriteArchive(t.Context(), io.Discard, l.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no index.json: got %v", err)
	}
}

// fullAfter is a disk with room for some bytes.
type fullAfter struct{ left int }

func (f *fullAfter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errOutage
	}
	return len(p), nil
}

// TestMountedBlobs: between repositories of one registry, blobs are offered for mounting,
// and uploaded only if the registry wants that. Another registry is not told of them.
func TestMountedBlobs(t *testing.T) {
	var mounts, puts atomic.Int32
	var mount atomic.Bool
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/uploads/") {
			puts.Add(1)
		}
		if r.Method != http.MethodPost || r.URL.Query().Get("mount") == "" {
			return false
		}
		if mounts.Add(1); r.URL.Query().Get("from") != "team/app" {
			t.Errorf("mount: got %s", r.URL)
		}
		if mount.Load() {
			w.WriteHeader(http.StatusCreated)
		}
		return mount.Load()
	})
	src, top := pushed(t, host)
	other := newServer(t, true, nil)
	for to, mounted := range map[string]bool{host + "/team/one": true, host + "/team/two": false, other + "/team/app": false} {
		// The registry of this test has blobs for all repositories; another digest is new to it.
		fresh := &hidingBlobs{}
		dst := openRegistry(t, to, RegistryOptions{Transport: fresh})
		mount.Store(mounted)
		mounts.Store(0)
		puts.Store(0)
		var copied atomic.Int32
		if _, err := Save(t.Context(), dst, src, top, "", func(v1.Descriptor) { copied.Add(1) }); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		same := strings.HasPrefix(to, host)
		if (mounts.Load() == 5) != same || same && (puts.Load() == 0) != mounted || copied.Load() != 5 {
			t.Errorf("%s: got %d mounts, %d uploads, %d copied, want 5 copied", to, mounts.Load(), puts.Load(), copied.Load())
		}
	}
}

// hidingBlobs answers that a blob is not there.
type hidingBlobs struct{}

func (*hidingBlobs) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/blobs/") {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}
