package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
)

func TestSave(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers API %v", api), func(t *testing.T) {
			r, top := pushed(t, newServer(t, api, nil))
			raw, _, err := r.Manifest(t.Context(), top.Digest)
			if err != nil {
				t.Fatal(err)
			}
			var index v1.IndexManifest
			if err := json.Unmarshal(raw, &index); err != nil {
				t.Fatal(err)
			}
			child := index.Manifests[0]
			for subject, content := range map[*v1.Descriptor]string{&top: "of the index", &child: "of a platform"} {
				if _, err := AttachBundle(t.Context(), r, *subject, []byte(content), "kind", time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			// What cosign v2 would have pushed: an artifact under a tag.
			signature := pushSignature(t, r, []byte(`{"critical":{}}`))
			if err := r.Tag(t.Context(), CosignSignatures.Of(top.Digest), signature); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "saved")
			l, err := CreateLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // again changes nothing
				if left, err := Save(t.Context(), l, r, top, "", nil); err != nil || len(left) > 0 {
					t.Fatalf("got %v, %v", left, err)
				}
				if err := l.Tag(t.Context(), "v1", top); err != nil {
					t.Fatal(err)
				}
			}
			if d, err := l.Resolve(t.Context(), ""); err != nil || d.Digest != top.Digest {
				t.Errorf("the image: got %s, %v, want %s", d.Digest, err, top.Digest)
			}
			if d, err := l.Resolve(t.Context(), CosignSignatures.Of(top.Digest)); err != nil || d.Digest != signature.Digest {
				t.Errorf("cosign v2's tag: got %s, %v", d.Digest, err)
			}
			for subject, content := range map[*v1.Descriptor]string{&top: "of the index", &child: "of a platform"} {
				found, err := Bundles(t.Context(), l, subject.Digest)
				if err != nil || len(found) != 1 || string(found[0].Raw) != content {
					t.Errorf("bundles %s: got %+v, %v", content, found, err)
				}
			}
			back := openRegistry(t, newServer(t, api, nil)+"/team/app", RegistryOptions{})
			if left, err := Save(t.Context(), back, l, top, "", nil); err != nil || len(left) > 0 {
				t.Errorf("back into a registry: got %v, %v", left, err)
			}
		})
	}
}

// pushSignature pushes a manifest in the form of cosign v2's signatures: one layer with
// the configuration of an image.
func pushSignature(t *testing.T, dst Target, layer []byte) v1.Descriptor {
	t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for mediaType, raw := range map[types.MediaType][]byte{types.OCIConfigJSON: []byte("{}"), attest.SimpleSigningMediaType: layer} {
		d := v1.Descriptor{MediaType: mediaType, Digest: digestOf(raw), Size: int64(len(raw))}
		if err := dst.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }); err != nil {
			t.Fatal(err)
		}
		if mediaType == types.OCIConfigJSON {
			m.Config = d
		} else {
			m.Layers = append(m.Layers, d)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dst.PushManifest(t.Context(), raw, string(m.MediaType))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// flood is a source that lists what somebody else may have pushed.
type flood struct {
	Source
	listed []v1.Descriptor
}

func (f flood) Referrers(_ context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	return f.listed, nil
}

// What is listed and is not there, is about something else, or is too much is
// named, and keeps nobody from saving the rest.
func TestSaveLeavesOut(t *testing.T) {
	r, top := pushed(t, newServer(t, true, nil))
	good, err := AttachBundle(t.Context(), r, top, []byte("good"), "kind", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good.ArtifactType = attest.BundleMediaType
	gone := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digestOf([]byte("gone")), Size: 4}
	src := flood{r, []v1.Descriptor{gone, top, good}}
	// podman would unpack this layer, and the registry serves cosign v2's tag.
	hidden := pushSignature(t, r, tarOf(t, testEntry{name: "sh"}))
	if err := r.Tag(t.Context(), CosignSignatures.Of(top.Digest), hidden); err != nil {
		t.Fatal(err)
	}
	save := func(room int) (string, *Layout) {
		l, err := CreateLayout(filepath.Join(t.TempDir(), "saved"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Copy(t.Context(), l, r, top); err != nil {
			t.Fatal(err)
		}
		_, _, left, err := (&saver{dst: l, src: src, room: room}).attached(t.Context(), top.Digest, maxAsked)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(left), l
	}
	left, l := save(maxSaved)
	if !strings.Contains(left, gone.Digest.Hex) || !strings.Contains(left, "has no subject") || !strings.Contains(left, hidden.Digest.String()+" can be run") {
		t.Errorf("got %s", left)
	}
	if found, err := Bundles(t.Context(), l, top.Digest); err != nil || len(found) != 1 {
		t.Errorf("got %+v, %v, want the good one", found, err)
	}
	src.listed = nil
	for i := range maxSaved + 10 {
		src.listed = append(src.listed, v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: digestOf(fmt.Append(nil, i)), Size: 4})
	}
	src.listed = append(src.listed, good)
	_, l = save(1)
	if found, err := Bundles(t.Context(), l, top.Digest); err != nil || len(found) != 1 {
		t.Errorf("behind a flood: got %+v, %v, want the good one", found, err)
	}
	// There is room for one: the small one.
	large, err := AttachBundle(t.Context(), r, top, bytes.Repeat([]byte("large"), 1000), "kind", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	src.listed = []v1.Descriptor{large, good}
	left, l = save(1)
	if found, err := Bundles(t.Context(), l, top.Digest); err != nil || len(found) != 1 || string(found[0].Raw) != "good" || !strings.Contains(left, "1 of the referrers") {
		t.Errorf("no room: got %+v, %v, %s; want the small one", found, err, left)
	}
}
