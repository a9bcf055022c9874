package registry

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/distribution"
)

// Whatever a path says, the files it leads to are inside the repository's own
// directory, and the repository's is inside the store's.
func FuzzRoute(f *testing.F) {
	hex := strings.Repeat("0a", 32)
	for _, seed := range []string{
		"/v2/", "/v2", "/v2/a/tags/list", "/v2/a/b/manifests/v1", "/v2/a/b/blobs/sha256:" + hex, "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/" + hex,
		"/v2/a/referrers/sha512:" + hex + hex, "/v2/../a/tags/list", "/v2/a/manifests/..", "/v2/a/manifests/sha256:../..", "/v2/_/manifests/_", "/v2/a/_/manifests/x", "", "/", "//v2//",
	} {
		f.Add(seed)
	}
	s := &store{dir: "/store"}
	f.Fuzz(func(t *testing.T, path string) {
		req, err := route(&http.Request{Method: "GET", URL: &url.URL{Path: path}})
		if err != nil || req.name == "" {
			return
		}
		own := s.repo(req.name)
		if own != "/store/repositories/"+req.name+"/_" || strings.Contains("/"+req.name+"/", "/_/") {
			t.Fatalf("%q leads to %s", path, own)
		}
		var files []string
		if distribution.ValidTag(req.ref) {
			files = append(files, s.tag(req.name, req.ref))
		}
		if d, err := parseDigest(req.ref); err == nil {
			files = append(files, s.blob(req.name, d), s.manifest(req.name, d), s.referrer(req.name, d, d))
			if d.String() != req.ref {
				t.Fatalf("digest %q was read as %q", req.ref, d)
			}
		}
		for _, file := range files {
			if rel, err := filepath.Rel(own, file); err != nil || strings.HasPrefix(rel, "..") || rel == "." {
				t.Fatalf("%q leads to %s", path, file)
			}
		}
	})
}

// A manifest that is taken is described from its bytes alone, and by one kind.
func FuzzManifest(f *testing.F) {
	hex := strings.Repeat("0a", 32)
	d := `{"mediaType":"a/b","digest":"sha256:` + hex + `","size":1}`
	for _, seed := range []string{
		`{"schemaVersion":2,"config":` + d + `,"layers":[` + d + `]}`,
		`{"schemaVersion":2,"mediaType":"` + typeManifest + `","config":` + d + `,"layers":[],"subject":` + d + `,"annotations":{"a":"b"}}`,
		`{"schemaVersion":2,"manifests":[` + d + `]}`,
		`{"schemaVersion":2,"mediaType":"` + typeDockerList + `","manifests":[]}`,
		`{"schemaVersion":2,"manifests":[],"layers":[],"config":` + d + `}`, `{}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseManifest(raw)
		if err != nil {
			return
		}
		switch m.MediaType {
		case typeManifest, typeDockerManifest:
			if m.Config == nil || m.Manifests != nil {
				t.Fatalf("%s taken as an image", raw)
			}
		case typeIndex, typeDockerList:
			if m.Config != nil || m.Layers != nil {
				t.Fatalf("%s taken as an index", raw)
			}
		default:
			t.Fatalf("got type %q", m.MediaType)
		}
		desc := m.describe(digest{"sha256", hex}, len(raw))
		if desc.MediaType != m.MediaType || desc.Size != int64(len(raw)) {
			t.Fatalf("got %+v", desc)
		}
	})
}
