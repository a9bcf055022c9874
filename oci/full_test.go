package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// crowded is a source whose image has n referrers, each with the given annotation.
type crowded struct {
	Source
	image v1.Hash
	list  []v1.Descriptor
	raws  map[v1.Hash][]byte
}

func newCrowded(t *testing.T, src Source, image v1.Descriptor, n int, annotation string) *crowded {
	t.Helper()
	c := &crowded{src, image.Digest, nil, map[v1.Hash][]byte{}}
	for i := range n {
		raw, err := artifactManifest(image, attest.BundleMediaType, emptyConfig, map[string]string{"n": fmt.Sprint(i), "x": annotation})
		if err != nil {
			t.Fatal(err)
		}
		d := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digestOf(raw), Size: int64(len(raw))}
		c.list, c.raws[d.Digest] = append(c.list, d), raw
	}
	return c
}

func (c *crowded) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	if subject != c.image {
		return nil, nil
	}
	return c.list, nil
}

func (c *crowded) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	if raw, ok := c.raws[digest]; ok {
		return raw, string(types.OCIManifestSchema1), nil
	}
	return c.Source.Manifest(ctx, digest)
}

func (c *crowded) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest == digestOf(emptyConfig) {
		return io.NopCloser(strings.NewReader("{}")), nil
	}
	return c.Source.Blob(ctx, d)
}

// TestSaveOfMany: a layout with more attachments than an index may have manifests can
// be read, also if each attachment has annotations as large as Attachments allows.
func TestSaveOfMany(t *testing.T) {
	l := newTestLayout(t)
	image := l.image(l.newImage("amd64", fileA(t)))
	image.Platform = nil
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, many := range map[string]*crowded{
		"small": newCrowded(t, src, image, limits.IndexManifests+10, ""),
		"large": newCrowded(t, src, image, 80, strings.Repeat("x", attachedManifest-1000)),
	} {
		saved := emptyLayout(t)
		if left, err := Save(t.Context(), saved, many, image, "", nil); err != nil || len(left) > 0 {
			t.Errorf("%s: got %v, %v, want all saved", name, left, err)
		}
		found, err := Bundles(t.Context(), saved, image.Digest)
		if err != nil || len(found) != len(many.list) {
			t.Errorf("%s: got %d bundles, %v, want %d", name, len(found), err, len(many.list))
		}
	}
}

// TestFullLayout: a layout refuses an entry with which nobody could read index.json.
func TestFullLayout(t *testing.T) {
	l := newTestLayout(t)
	image := l.image(l.newImage("amd64", fileA(t)))
	image.Platform = nil
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	entries := func(n int, annotation string) (list []v1.Descriptor) {
		for range n {
			d := image
			d.Annotations = map[string]string{"x": annotation}
			list = append(list, d)
		}
		return list
	}
	l.index(entries(1, "")...)
	if err := layout.Tag(t.Context(), "v1", image); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(l.path("index.json"))
	if err != nil {
		t.Fatal(err)
	}
	left := limits.Manifest - len(raw)
	for name, test := range map[string]struct {
		entries []v1.Descriptor
		ok      bool
	}{
		"last entry":   {entries(limits.Referrers-1, ""), true},
		"one too many": {entries(limits.Referrers, ""), false},
		"last byte":    {entries(1, strings.Repeat("x", left)), true},
		"too large":    {entries(1, strings.Repeat("x", left+1)), false},
	} {
		l.index(test.entries...)
		err := layout.Tag(t.Context(), "v1", image)
		if (err == nil) != test.ok || !test.ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want it accepted: %v", name, err, test.ok)
		}
		index, err := layout.entries()
		if err != nil {
			t.Errorf("%s: the layout cannot be read: %v", name, err)
		} else if got := len(index.Manifests) - len(test.entries); (got == 1) != test.ok {
			t.Errorf("%s: got %d new entries, want one: %v", name, got, test.ok)
		}
	}
	l.index(entries(limits.Referrers+1, "")...)
	if _, err := layout.entries(); !errors.Is(err, ErrMismatch) {
		t.Errorf("more entries than there may be: got %v, want a refusal", err)
	}
}

// TestEntriesRepeatWhatIsShort: an entry has the annotations of its manifest, as other
// tools expect, unless they are long.
func TestEntriesRepeatWhatIsShort(t *testing.T) {
	layout, top := savedLayout(t)
	for n, repeated := range map[int]bool{maxEntry: true, maxEntry + 1: false} {
		entry := func(x string) (raw []byte, size int) {
			annotations := map[string]string{"x": x}
			raw, err := artifactManifest(top, attest.BundleMediaType, emptyConfig, annotations)
			if err != nil {
				t.Fatal(err)
			}
			d, err := json.Marshal(v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digestOf(raw), Size: int64(len(raw)), ArtifactType: attest.BundleMediaType, Annotations: annotations})
			if err != nil {
				t.Fatal(err)
			}
			return raw, len(d)
		}
		_, size := entry(strings.Repeat("x", 600)) // its size has as many digits
		raw, size := entry(strings.Repeat("x", 600+n-size))
		if size != n {
			t.Fatalf("got an entry of %d bytes, want %d", size, n)
		}
		d, err := layout.PushManifest(t.Context(), raw, string(types.OCIManifestSchema1))
		if err != nil {
			t.Fatal(err)
		}
		index, err := layout.entries()
		if err != nil {
			t.Fatal(err)
		}
		last := index.Manifests[len(index.Manifests)-1]
		if last.Digest != d.Digest || (last.Annotations != nil) != repeated || (last.ArtifactType != "") != repeated {
			t.Errorf("%d bytes: got %+v, want its annotations repeated: %v", n, last, repeated)
		}
	}
}
