package oci

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/test/await"
)

// TestLayoutOpensOnlyFiles: a layout from a stranger can neither hang its
// reader nor have it read the rest of the machine.
func TestLayoutOpensOnlyFiles(t *testing.T) {
	l := newTestLayout(t)
	l.index()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, link, dir := digestOf([]byte("fifo")), digestOf([]byte("secret")), digestOf([]byte("dir"))
	l.write("blobs/sha256/x", nil)
	path := func(h v1.Hash) string { return filepath.Join(l.dir, blobPath(h)) }
	if err := errors.Join(syscall.Mkfifo(path(fifo), 0o600), os.Symlink(secret, path(link)), os.Mkdir(path(dir), 0o700)); err != nil {
		t.Fatal(err)
	}
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]v1.Hash{"FIFO": fifo, "link out": link, "directory": dir} {
		done := make(chan error, 2)
		go func() {
			rc, err := layout.Blob(t.Context(), v1.Descriptor{Digest: h, Size: 6})
			if err == nil {
				_, err = io.ReadAll(rc)
				rc.Close()
			}
			done <- err
			_, _, err = layout.Manifest(t.Context(), h)
			done <- err
		}()
		for range 2 {
			select {
			case err := <-done:
				if err == nil || errors.Is(err, ErrNotFound) {
					t.Errorf("%s: got %v, want a refusal", name, err)
				}
			case <-time.After(await.Patience):
				t.Fatalf("%s: hangs", name)
			}
		}
	}
	f, _, err := layout.files.open(blobPath(fifo))
	if !errors.Is(err, ErrMismatch) {
		t.Errorf("FIFO: got %v, %v; want a refusal that says what it is", f, err)
	}
}

func TestLayoutResolve(t *testing.T) {
	l := newTestLayout(t)
	a := l.image(l.newImage("amd64", tarOf(t, testEntry{name: "a"})))
	b := l.image(l.newImage("amd64", tarOf(t, testEntry{name: "b"})))
	a.Platform, b.Platform = nil, nil
	a.Annotations = map[string]string{RefNameAnnotation: "v1"}
	lying := a
	lying.Annotations, lying.Size = map[string]string{RefNameAnnotation: "lies"}, 1
	l.index(a, b, lying)
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{"v1", a.Digest.String()} {
		if d, err := layout.Resolve(t.Context(), reference); err != nil || d.Digest != a.Digest || d.Size != a.Size || d.MediaType != types.OCIManifestSchema1 {
			t.Errorf("%q: got %+v, %v", reference, d, err)
		}
	}
	if _, err := layout.Resolve(t.Context(), "lies"); !errors.Is(err, ErrMismatch) {
		t.Errorf("an entry of another size: got %v, want ErrMismatch", err)
	}
	if _, err := layout.Resolve(t.Context(), "v2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: got %v, want ErrNotFound", err)
	}
	if d, err := layout.Resolve(t.Context(), ""); err == nil {
		t.Errorf("two images and no name: got %s, want an error", d.Digest)
	}
}

// What `cosign save` wrote: every entry is marked, none has a tag.
func TestLayoutSavedByCosign(t *testing.T) {
	l := newTestLayout(t)
	image := l.image(l.newImage("amd64", tarOf(t, testEntry{name: "a"})))
	atts := l.image(l.newImage("amd64", tarOf(t, testEntry{name: "b"})))
	image.Platform, atts.Platform = nil, nil
	image.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/image"}
	atts.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/atts"}
	tag := "sha256-" + image.Digest.Hex + ".att"
	lying, unmarked, other := image, image, atts
	lying.Size = 1
	unmarked.Annotations = nil
	other.Annotations = image.Annotations
	for name, test := range map[string]struct {
		entries []v1.Descriptor
		names   map[string]v1.Hash // those of others are errors
	}{
		"image and attestations": {[]v1.Descriptor{atts, image}, map[string]v1.Hash{"": image.Digest, tag: atts.Digest}},
		"image alone":            {[]v1.Descriptor{image}, map[string]v1.Hash{"": image.Digest}},
		"two images":             {[]v1.Descriptor{image, other}, nil},
		"attestations alone":     {[]v1.Descriptor{atts}, map[string]v1.Hash{"": atts.Digest}},
		"attestations twice":     {[]v1.Descriptor{image, atts, atts}, nil},
		"an entry of another":    {[]v1.Descriptor{unmarked, atts}, nil},
		"another size":           {[]v1.Descriptor{lying, atts}, map[string]v1.Hash{tag: atts.Digest}},
	} {
		l.index(test.entries...)
		layout, err := OpenLayout(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{"", tag, "v1"} {
			want, ok := test.names[reference]
			if d, err := layout.Resolve(t.Context(), reference); (err == nil) != ok || ok && d.Digest != want {
				t.Errorf("%s: %q: got %s, %v, want %s", name, reference, d.Digest, err, want)
			}
		}
	}
}

// Copying an image to a layout that has a damaged blob repairs the blob.
func TestLayoutIsRepaired(t *testing.T) {
	dir := t.TempDir()
	l, err := CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	d := v1.Descriptor{Digest: digestOf(content), Size: int64(len(content))}
	opened := 0
	push := func() {
		t.Helper()
		opened++
		if err := l.PushBlob(t.Context(), d, func() (io.ReadCloser, error) {
			opened--
			return io.NopCloser(bytes.NewReader(content)), nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, filepath.FromSlash(blobPath(d.Digest)))
	for _, damaged := range []string{"c0ntent", "conten", ""} {
		push()
		if err := os.WriteFile(path, []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		push()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("got %q, %v over %q, want %q", got, err, damaged, content)
		}
	}
	opened = 0
	if push(); opened != 1 {
		t.Error("an intact blob was copied again")
	}
}

// TestLayoutReadsDocumentsOnce: a document that was compared with its digest is not read again, and
// what was not found, or was damaged, is looked for each time.
func TestLayoutReadsDocumentsOnce(t *testing.T) {
	l := newTestLayout(t)
	l.index()
	right := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	digest := digestOf(right)
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer layout.Close()
	if _, _, err := layout.Manifest(t.Context(), digest); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
	damaged := bytes.Replace(right, []byte("[]"), []byte("[ ]"), 1)
	for _, step := range []struct {
		name    string
		content []byte
		ok      bool
	}{{"damaged", damaged, false}, {"right", right, true}, {"damaged after it was read", damaged, true}} {
		l.write(blobPath(digest), step.content)
		raw, _, err := layout.Manifest(t.Context(), digest)
		if step.ok && (err != nil || !bytes.Equal(raw, right)) {
			t.Errorf("%s: got %q and %v, want the right bytes", step.name, raw, err)
		}
		if !step.ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want ErrMismatch", step.name, err)
		}
	}
	again, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, _, err := again.Manifest(t.Context(), digest); !errors.Is(err, ErrMismatch) {
		t.Errorf("opened again: got %v, want ErrMismatch", err)
	}
}
