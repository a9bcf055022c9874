package oci

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// documentSeeds are an index.json, an index and a manifest with a subject.
func documentSeeds(f *testing.F) (index, list, manifest []byte) {
	var err error
	if index, err = os.ReadFile("../verify/testdata/github-container/v2.0.0/index.json"); err != nil {
		f.Fatal(err)
	}
	h := digestOf([]byte("x"))
	d := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: h, Size: 1}
	for to, v := range map[*[]byte]any{
		&list:     v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}},
		&manifest: v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: d, Layers: []v1.Descriptor{d}, Subject: &d},
	} {
		if *to, err = json.Marshal(v); err != nil {
			f.Fatal(err)
		}
		if _, err := parseUntyped(*to); err != nil {
			f.Fatal(err)
		}
	}
	return index, list, manifest
}

// FuzzDocument: a document is a manifest or an index, never both, and its
// descriptors have digests of a form that can be checked.
func FuzzDocument(f *testing.F) {
	index, list, manifest := documentSeeds(f)
	for _, raw := range [][]byte{index, list, manifest} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseUntyped(raw)
		if err != nil {
			return
		}
		mediaType := c.MediaType
		if again, err := parseContent(raw, mediaType); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("with its type, it is another document: %+v, %v, want %+v", again, err, c)
		}
		if c.Manifests != nil && (c.Layers != nil || c.Config != nil) {
			t.Errorf("taken for a manifest and for an index: %s", raw)
		}
		if c.SchemaVersion != 2 || c.MediaType != mediaType {
			t.Errorf("taken with schema version %d and type %q, want 2 and %q", c.SchemaVersion, c.MediaType, mediaType)
		}
	})
}

// FuzzLayout: hostile files of a layout never panic, and what is resolved is
// what its digest says.
func FuzzLayout(f *testing.F) {
	index, list, manifest := documentSeeds(f)
	for _, blob := range [][]byte{list, manifest} {
		h := digestOf(blob)
		c, err := parseUntyped(blob)
		if err != nil {
			f.Fatal(err)
		}
		entry := v1.Descriptor{MediaType: c.MediaType, Digest: h, Size: int64(len(blob)), Annotations: map[string]string{RefNameAnnotation: "v1"}}
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{entry}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, blob, "v1")
		f.Add(raw, blob, "")
	}
	f.Add(index, manifest, "")
	f.Fuzz(func(t *testing.T, index, blob []byte, reference string) {
		dir := t.TempDir()
		h := digestOf(blob)
		if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"oci-layout": []byte(layoutMarker), "index.json": index, blobPath(h): blob} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l, err := OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx := context.Background()
		if d, err := l.Resolve(ctx, reference); err == nil && (d.Digest != h || d.Size != int64(len(blob))) {
			t.Errorf("resolved to %+v, and the one blob is %s of %d bytes", d, h, len(blob))
		}
		found, err := l.Referrers(ctx, digestOf([]byte("x")))
		if err == nil && (len(found) > 1 || len(found) == 1 && found[0].Digest != h) {
			t.Errorf("got referrers %+v, and the one blob is %s", found, h)
		}
	})
}

// FuzzReferrersAnswer: whatever a registry answers, nothing panics, and no
// referrer comes without a digest.
func FuzzReferrersAnswer(f *testing.F) {
	_, list, manifest := documentSeeds(f)
	f.Add(list, string(types.OCIImageIndex))
	f.Add(manifest, string(types.OCIManifestSchema1))
	f.Add([]byte(`{"errors":[{"code":"NAME_UNKNOWN"}]}`), "application/json")
	var answer []byte
	var mediaType string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Write(answer)
	}))
	f.Cleanup(srv.Close)
	repo := strings.TrimPrefix(srv.URL, "http://") + "/team/app"
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		if strings.ContainsAny(kind, "\r\n") {
			return
		}
		answer, mediaType = body, kind
		r, err := OpenRegistry(repo, RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		found, err := r.Referrers(ctx, digestOf([]byte("x")))
		for _, d := range found {
			if _, bad := v1.NewHash(d.Digest.String()); bad != nil {
				t.Errorf("got a referrer %q, %v", d.Digest, err)
			}
		}
		if raw, _, err := r.Manifest(ctx, digestOf([]byte("another"))); err == nil && string(raw) != "another" {
			t.Errorf("got manifest %q", raw)
		}
		if d, err := r.Resolve(ctx, "v1"); err == nil && d.Digest != digestOf(body) {
			t.Errorf("resolved to %s, and the answer is %s", d.Digest, digestOf(body))
		}
	})
}
