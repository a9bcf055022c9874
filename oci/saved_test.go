package oci

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
)

// cosignSaved is a layout as `cosign save` writes it: the image, and blobs that
// index.json does not list. test/interop has the layouts of the real cosign.
type cosignSaved struct {
	*testLayout
	image v1.Descriptor
}

func newCosignSaved(t *testing.T) *cosignSaved {
	l := newTestLayout(t)
	image := l.image(l.newImage("amd64", tarOf(t, testEntry{name: "a"})))
	image.Platform, image.Annotations = nil, map[string]string{"kind": "dev.cosignproject.cosign/image"}
	l.index(image)
	return &cosignSaved{l, image}
}

// attach stores the manifest of a bundle about subject, and returns its digest.
func (c *cosignSaved) attach(subject v1.Descriptor, content string) v1.Hash {
	bundle := c.blob(attest.BundleMediaType, []byte(content))
	empty := c.blob(types.OCIEmptyJSON, emptyConfig)
	return c.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: empty, Layers: []v1.Descriptor{bundle},
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest}}).Digest
}

func (c *cosignSaved) open() *Layout {
	c.t.Helper()
	l, err := OpenLayout(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { l.Close() })
	return l
}

// TestUnlistedReferrers: the blobs of a layout that cosign saved are searched for
// manifests about the image, and for nothing else.
func TestUnlistedReferrers(t *testing.T) {
	c := newCosignSaved(t)
	want := c.attach(c.image, `{"a":1}`)
	other := c.image
	other.Digest.Hex = strings.Repeat("ab", 32)
	c.attach(other, `{"b":1}`)
	c.blob("application/octet-stream", []byte("not a manifest about sha256:"+c.image.Digest.Hex))
	c.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{c.image}})
	l := c.open()
	got, err := l.Referrers(t.Context(), c.image.Digest)
	if err != nil || len(got) != 1 || got[0].Digest != want {
		t.Fatalf("got %v, %v, want %s alone", got, err, want)
	}
	list, err := Attachments(t.Context(), l, c.image.Digest)
	if err != nil || len(list) != 1 || list[0].Err != nil {
		t.Fatalf("got %+v, %v, want one that is read", list, err)
	}
	if err := l.CheckSole(t.Context(), "", c.image); err != nil {
		t.Errorf("what index.json does not list is taken by no tool: %v", err)
	}
	if d, err := l.Resolve(t.Context(), ""); err != nil || d.Digest != c.image.Digest {
		t.Errorf("the image: got %s, %v", d.Digest, err)
	}
}

// TestUnlistedReferrersElsewhere: in a layout of another tool, index.json lists all.
func TestUnlistedReferrersElsewhere(t *testing.T) {
	c := newCosignSaved(t)
	c.attach(c.image, `{"a":1}`)
	c.image.Annotations = nil
	c.index(c.image)
	if got, err := c.open().Referrers(t.Context(), c.image.Digest); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v, want none", got, err)
	}
}

// TestUnlistedBlobsThatClaim: blobs that nobody lists and that claim to be about the
// image are refused or left out like listed ones.
func TestUnlistedBlobsThatClaim(t *testing.T) {
	t.Run("an image", func(t *testing.T) {
		c := newCosignSaved(t)
		evil := c.newImage("amd64", tarOf(t, testEntry{name: "evil"}))
		evil.manifest.Subject = &v1.Descriptor{MediaType: c.image.MediaType, Size: c.image.Size, Digest: c.image.Digest}
		c.testLayout.image(evil)
		l := c.open()
		if d, err := l.Resolve(t.Context(), ""); err != nil || d.Digest != c.image.Digest {
			t.Errorf("got %s, %v, want the image", d.Digest, err)
		}
		left, err := Save(t.Context(), c.target(t), l, c.image, "", nil)
		if err != nil || len(left) != 1 || !strings.Contains(left[0].Error(), "can be run as an image") {
			t.Errorf("save: got %v, %v, want it left out", left, err)
		}
	})
	t.Run("other bytes than its name", func(t *testing.T) {
		c := newCosignSaved(t)
		d := c.attach(c.image, `{"a":1}`)
		path := filepath.Join(c.dir, "blobs", "sha256", d.Hex)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw[:len(raw)-1], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.open().Referrers(t.Context(), c.image.Digest); !errors.Is(err, ErrMismatch) {
			t.Errorf("got %v, want ErrMismatch", err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		c := newCosignSaved(t)
		raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: c.image, Layers: []v1.Descriptor{},
			Annotations: map[string]string{"x": strings.Repeat("x", attachedManifest)}, Subject: &c.image})
		if err != nil {
			t.Fatal(err)
		}
		c.blob(types.OCIManifestSchema1, raw)
		if got, err := c.open().Referrers(t.Context(), c.image.Digest); err != nil || len(got) != 0 {
			t.Errorf("got %v, %v, want none", got, err)
		}
	})
}

func (c *cosignSaved) target(t *testing.T) *Layout {
	t.Helper()
	l, err := CreateLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
