package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archiveOf is an archive of a directory, with what more adds to it.
func archiveOf(t *testing.T, dir, prefix string, more ...*tar.Header) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: prefix + filepath.ToSlash(rel), Size: int64(len(data)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range more {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArchive(t *testing.T) {
	ctx := context.Background()
	l := newTestLayout(t)
	entry := l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: l.blob(types.OCIConfigJSON, []byte("{}"))})
	l.index(entry)
	dir, img := l.dir, entry.Digest
	for _, prefix := range []string{"", "./"} {
		a, err := openArchive(archiveOf(t, dir, prefix))
		if err != nil {
			t.Fatal(err)
		}
		d, err := a.Resolve(ctx, img.String())
		if err != nil || d.Digest != img {
			t.Errorf("got %v, %v, want %s", d, err, img)
		}
		if _, err := a.Resolve(ctx, "sha256:"+strings.Repeat("ab", 32)); !errors.Is(err, ErrNotFound) {
			t.Errorf("another digest: got %v, want it not found", err)
		}
		if _, err := a.PushManifest(ctx, []byte(`{}`), "application/vnd.image.manifest.v1+json"); err == nil {
			t.Error("an archive was written")
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, more := range map[string]*tar.Header{
		"a file twice":           {Name: "index.json", Size: 2, Typeflag: tar.TypeReg},
		"a file under two names": {Name: "./index.json", Size: 2, Typeflag: tar.TypeReg},
		"a name that climbs":     {Name: "blobs/../../etc/passwd", Size: 2, Typeflag: tar.TypeReg},
		"an absolute name":       {Name: "/etc/passwd", Size: 2, Typeflag: tar.TypeReg},
		"an odd name":            {Name: "blobs//sha256/x", Size: 2, Typeflag: tar.TypeReg},
	} {
		if _, err := openArchive(archiveOf(t, dir, "", more)); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	// A blob that is not what its name says.
	blob := filepath.Join(dir, "blobs", "sha256", img.Hex)
	raw, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, append(raw, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := openArchive(archiveOf(t, dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Resolve(ctx, img.String()); !errors.Is(err, ErrMismatch) {
		t.Errorf("other bytes: got %v, want them refused", err)
	}
	// Cut short, or no archive at all.
	whole, err := os.ReadFile(archiveOf(t, dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 100, len(whole) / 2} {
		cut := filepath.Join(t.TempDir(), "cut.tar")
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if a, err := openArchive(cut); err == nil {
			if _, err := a.Resolve(ctx, img.String()); err == nil {
				t.Errorf("cut to %d of %d bytes: nothing is missing", n, len(whole))
			}
		}
	}
}

// TestSavedByOldDocker: the form of `docker save` before version 25, which
// go-containerregistry writes, too.
func TestSavedByOldDocker(t *testing.T) {
	img, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example.com/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app.tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openArchive(path); !errors.Is(err, ErrNoManifest) || !strings.Contains(err.Error(), id.String()) {
		t.Errorf("got %v, want the image's id %s, and that there is no manifest", err, id)
	}
}
