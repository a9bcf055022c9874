package platform

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/registry"
)

// TestFillArchive: the archive of a registry that is older than it gets what the registry has.
func TestFillArchive(t *testing.T) {
	var reg *registry.Registry
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reg.ServeHTTP(w, r) }))
	defer srv.Close()
	config := registry.Config{URL: srv.URL, Dir: t.TempDir(), Authorize: func(string) (string, registry.Role) { return "ci", registry.Push }}
	restart := func() {
		t.Helper()
		if reg != nil {
			reg.Close()
		}
		var err error
		if reg, err = registry.New(config); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	defer func() { reg.Close() }()
	push := func(method, path string, body []byte, mediaType string) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer token")
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s %s", method, path, resp.Status, answer)
		}
	}
	digest := func(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
	statement, empty := []byte(`{"_type":"https://in-toto.io/Statement/v1"}`), []byte("{}")
	for _, blob := range [][]byte{statement, empty} {
		push("POST", "/v2/team/app/blobs/uploads/?digest="+digest(blob), blob, "application/octet-stream")
	}
	image := digest([]byte("image"))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.in-toto+json","digest":%q,"size":%d}],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":1}}`,
		digest(empty), len(empty), digest(statement), len(statement), image)
	push("PUT", "/v2/team/app/manifests/"+digest(manifest), manifest, "application/vnd.oci.image.manifest.v1+json")

	quiet := slog.New(slog.DiscardHandler)
	kept, err := archive.Open(archive.Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	config.Archive = kept.Manifest
	restart()
	fillArchive(t.Context(), kept, reg, quiet)
	mux := http.NewServeMux()
	kept.Register(mux, func(string) (bool, bool) { return true, false })
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/api/colophon/v1/archive?subject="+image, nil))
	if got := w.Body.String(); !bytes.Contains(w.Body.Bytes(), []byte(digest(statement))) || bytes.Contains(w.Body.Bytes(), []byte("filling")) {
		t.Errorf("got %s, want the statement", got)
	}
	if err := kept.Fill(context.Background(), func(context.Context) error { return io.EOF }); err != nil {
		t.Errorf("the archive is not filled: %v", err)
	}
}
