package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// A small bundle stands in the manifest that attaches it, a large one does not,
// and both are read back from where they are.
func TestSmallBundlesAreInline(t *testing.T) {
	t.Parallel()
	r, top := pushed(t, newServer(t, true, nil))
	small, large := []byte("small"), bytes.Repeat([]byte("x"), maxInline+1)
	for _, content := range [][]byte{small, large} {
		if _, err := AttachBundle(t.Context(), r, top, content, attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := Bundles(t.Context(), r, top.Digest)
	if err != nil || len(found) != 2 {
		t.Fatalf("got %d bundles, %v, want 2", len(found), err)
	}
	inline := 0
	for _, b := range found {
		if b.Err != nil || !bytes.Equal(b.Raw, small) && !bytes.Equal(b.Raw, large) {
			t.Errorf("bundle %s: got %d bytes, %v", b.Descriptor.Digest, len(b.Raw), b.Err)
		}
		if len(b.Layers[0].Data) > 0 {
			inline++
			if !bytes.Equal(b.Raw, small) {
				t.Error("the large bundle is inline")
			}
		}
		// Clients that do not know the data member fetch the blob.
		if raw, err := readBlob(t.Context(), r, b.Layers[0], limits.Bundle); err != nil || !bytes.Equal(raw, b.Raw) {
			t.Errorf("blob %s: got %d bytes, %v", b.Layers[0].Digest, len(raw), err)
		}
	}
	if inline != 1 {
		t.Errorf("got %d inline bundles, want the small one", inline)
	}
}

// Whoever writes a manifest chooses the data in its descriptors: it counts only
// where it matches digest and size.
func TestInlineDataMustMatch(t *testing.T) {
	t.Parallel()
	r, _ := pushed(t, newServer(t, true, nil))
	honest := []byte("what the digest names")
	for name, d := range map[string]v1.Descriptor{
		"other bytes":  {Digest: digestOf(honest), Size: int64(len(honest)), Data: []byte("what somebody wrote!!")},
		"shorter":      {Digest: digestOf(honest), Size: int64(len(honest)), Data: honest[:4]},
		"another size": {Digest: digestOf(honest), Size: 4, Data: honest},
		"too large":    {Digest: digestOf(honest), Size: int64(len(honest)), Data: honest},
	} {
		max := limits.Bundle
		if name == "too large" {
			max = 4
		}
		if raw, err := Content(t.Context(), r, d, max); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %q, %v, want ErrMismatch", name, raw, err)
		}
	}
	if raw, err := Content(t.Context(), r, v1.Descriptor{Digest: digestOf(honest), Size: int64(len(honest)), Data: honest}, limits.Bundle); err != nil || !bytes.Equal(raw, honest) {
		t.Errorf("got %q, %v", raw, err)
	}
}

// lister is a source whose list of referrers has data.
type lister struct {
	Source
	list    []v1.Descriptor
	fetched []v1.Hash
}

func (l *lister) Referrers(context.Context, v1.Hash) ([]v1.Descriptor, error) { return l.list, nil }

func (l *lister) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	l.fetched = append(l.fetched, digest)
	return l.Source.Manifest(ctx, digest)
}

// A list of referrers may have their manifests in it: what has not the digest is fetched.
func TestListedManifests(t *testing.T) {
	t.Parallel()
	r, top := pushed(t, newServer(t, true, nil))
	d, err := AttachBundle(t.Context(), r, top, []byte("a bundle"), attest.PredicateSLSA1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := r.Manifest(t.Context(), d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	other, err := BundleManifest(top, []byte("b bundle"), attest.PredicateSLSA1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		size    int64
		data    []byte
		fetched int
	}{
		"the manifest":    {d.Size, raw, 0},
		"none":            {d.Size, nil, 1},
		"another one":     {d.Size, other, 1},
		"of another size": {d.Size + 1, raw, 1},
	} {
		src := &lister{Source: r, list: []v1.Descriptor{{MediaType: d.MediaType, Digest: d.Digest, Size: tt.size, Data: tt.data}}}
		found, err := Attachments(t.Context(), src, top.Digest)
		if err != nil || len(found) != 1 || found[0].Err != nil || len(found[0].Layers) != 1 || string(found[0].Layers[0].Data) != "a bundle" || found[0].Descriptor.Size != d.Size {
			t.Errorf("%s: got %+v, %v", name, found, err)
		}
		if len(src.fetched) != tt.fetched {
			t.Errorf("%s: %d manifests were fetched, want %d", name, len(src.fetched), tt.fetched)
		}
	}
	list, _ := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{{Digest: d.Digest, Size: d.Size, Data: raw, Annotations: map[string]string{"a": "b"}}}})
	if l := (referrerList{}); l.add(list) != nil || l.entries[0].Data == nil {
		t.Error("a small list loses its data")
	}
	if l := (referrerList{bytes: maxListed}); l.add(list) != nil || l.entries[0].Digest != d.Digest || l.entries[0].Data != nil || l.entries[0].Annotations != nil {
		t.Error("of a long list, more than the digests is kept")
	}
}
