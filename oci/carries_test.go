package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
)

// artifact attaches an artifact that is not a bundle, in the form of other tools.
func artifact(t *testing.T, dst Target, subject v1.Descriptor, artifactType, config, layer types.MediaType, content string) v1.Descriptor {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": artifactType,
		"config":  pushRaw(t, dst, config, "{}"),
		"layers":  []v1.Descriptor{pushRaw(t, dst, layer, content)},
		"subject": v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dst.PushManifest(t.Context(), raw, string(types.OCIManifestSchema1))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// dress attaches to an image, and to one of its platforms, all that the pieces and other
// signers attach.
func dress(t *testing.T, r *Registry, top v1.Descriptor) {
	t.Helper()
	raw, _, err := r.Manifest(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []v1.Descriptor{top, index.Manifests[0]} {
		for _, kind := range []string{"https://sigstore.dev/cosign/sign/v1", attest.PredicateSLSA1, attest.PredicateSPDX, attest.PredicateCDX, "https://cosign.sigstore.dev/attestation/vuln/v1", "https://example.com/own"} {
			if _, err := AttachBundle(t.Context(), r, subject, []byte(kind), kind, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		for _, tag := range []CosignTag{CosignSignatures, CosignAttestations, CosignSBOM} {
			d := pushSignature(t, r, fmt.Appendf(nil, `{%q:1}`, tag))
			if err := r.Tag(t.Context(), tag.Of(subject.Digest), d); err != nil {
				t.Fatal(err)
			}
		}
		notation := artifact(t, r, subject, "application/vnd.cncf.notary.signature", "application/vnd.cncf.notary.signature", "application/jose+json", `{"payload":""}`)
		sbom := artifact(t, r, subject, "application/spdx+json", types.MediaType("application/vnd.oci.empty.v1+json"), "application/spdx+json", `{"spdxVersion":"SPDX-2.3"}`)
		// Somebody signed the signature and the SBOM, as notation and cosign can.
		artifact(t, r, notation, "application/vnd.cncf.notary.signature", "application/vnd.cncf.notary.signature", "application/jose+json", `{"payload":"again"}`)
		signed, err := AttachBundle(t.Context(), r, sbom, []byte("of the SBOM"), "https://sigstore.dev/cosign/sign/v1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		artifact(t, r, signed, "application/x.note", "application/vnd.oci.empty.v1+json", "text/plain", "third hand")
		old := pushSignature(t, r, []byte(`{"of":"the SBOM"}`))
		if err := r.Tag(t.Context(), CosignSignatures.Of(sbom.Digest), old); err != nil {
			t.Fatal(err)
		}
	}
}

// worn returns all that is attached to an image, to its platforms and to what is attached.
func worn(ctx context.Context, t *testing.T, src Source, top v1.Descriptor) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	raw, _, err := src.Manifest(ctx, top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	queue := []v1.Hash{top.Digest}
	for _, m := range index.Manifests {
		queue = append(queue, m.Digest)
	}
	for len(queue) > 0 {
		subject := queue[0]
		queue = queue[1:]
		list, err := Attachments(ctx, src, subject, CosignSignatures, CosignAttestations, CosignSBOM)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.Err != nil {
				t.Errorf("attached to %s: %v", subject, a.Err)
			}
			all[fmt.Sprintf("%s %s%s %s", subject, a.Tag, a.ArtifactType, a.Descriptor.Digest)] = true
			if a.Tag == "" {
				queue = append(queue, a.Descriptor.Digest)
			}
		}
	}
	return all
}

// Save carries all that is attached from a registry to a layout, an archive, a registry without
// the referrers API, and back.
func TestSaveCarriesAll(t *testing.T) {
	ctx := t.Context()
	r, top := pushed(t, newServer(t, true, nil))
	dress(t, r, top)
	want := worn(ctx, t, r, top)
	if len(want) != 2*(6+3+2+1+1+1+1) {
		t.Fatalf("attached: %d", len(want))
	}
	copied := func(name string, dst Target, src Source) {
		t.Helper()
		left, err := Save(ctx, dst, src, top, "", nil)
		if err != nil || len(left) > 0 {
			t.Fatalf("%s: got %v, %v", name, left, err)
		}
		if err := dst.Tag(ctx, "v1", top); err != nil {
			t.Fatal(err)
		}
		got := worn(ctx, t, dst, top)
		for _, item := range slices.Sorted(maps.Keys(want)) {
			if !got[item] {
				t.Errorf("%s lost %s", name, item)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "layout")
	layout, err := CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	copied("layout", layout, r)
	file := filepath.Join(t.TempDir(), "archive.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteArchive(ctx, f, dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	archive, err := openArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	old := openRegistry(t, newServer(t, false, nil)+"/team/app", RegistryOptions{})
	copied("registry without the API", old, archive)
	copied("registry", openRegistry(t, newServer(t, true, nil)+"/team/app", RegistryOptions{}), old)
}

// pushRaw pushes a blob.
func pushRaw(t *testing.T, dst Target, mediaType types.MediaType, content string) v1.Descriptor {
	t.Helper()
	d := v1.Descriptor{MediaType: mediaType, Digest: digestOf([]byte(content)), Size: int64(len(content))}
	if err := dst.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }); err != nil {
		t.Fatal(err)
	}
	return d
}

// A referrer may have the annotation that names entries of a layout. It takes no name from the
// image.
func TestReferrerNamesNoEntry(t *testing.T) {
	ctx := t.Context()
	r, top := pushed(t, newServer(t, true, nil))
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": "application/x.note",
		"config":      pushRaw(t, r, "application/vnd.oci.empty.v1+json", "{}"),
		"layers":      []v1.Descriptor{pushRaw(t, r, "text/plain", "note")},
		"subject":     v1.Descriptor{MediaType: top.MediaType, Digest: top.Digest, Size: top.Size},
		"annotations": map[string]string{RefNameAnnotation: "v1", imageNameAnnotation: "docker.io/library/app:v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PushManifest(ctx, raw, string(types.OCIManifestSchema1)); err != nil {
		t.Fatal(err)
	}
	layout := emptyLayout(t)
	if left, err := Save(ctx, layout, r, top, "", nil); err != nil || len(left) > 0 {
		t.Fatalf("got %v, %v", left, err)
	}
	if err := layout.Tag(ctx, "v1", top); err != nil {
		t.Errorf("the image: %v", err)
	}
	for _, tag := range []string{"v1", ""} {
		if d, err := layout.Resolve(ctx, tag); err != nil || d.Digest != top.Digest {
			t.Errorf("%q: got %s, %v, want %s", tag, d.Digest, err, top.Digest)
		}
	}
	index, err := layout.entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range index.Manifests {
		if e.Annotations[imageNameAnnotation] != "" {
			t.Errorf("entry %s has the name %q", e.Digest, e.Annotations[imageNameAnnotation])
		}
	}
}

// What is attached to the referrers of an image is asked for up to a number, and what is not
// asked is named.
func TestSaveAsksSome(t *testing.T) {
	l := newTestLayout(t)
	image := l.image(l.newImage("amd64", fileA(t)))
	image.Platform = nil
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	dst := openRegistry(t, newServer(t, true, nil)+"/team/app", RegistryOptions{})
	left, err := (&saver{dst: dst, src: newCrowded(t, src, image, 5, ""), room: maxSaved}).tree(t.Context(), []v1.Hash{image.Digest}, 2)
	if err != nil || len(left) != 1 || !strings.Contains(left[0].Error(), "what is attached to 3 of the referrers") {
		t.Errorf("got %v, %v", left, err)
	}
}
