package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
)

// handMadeMirror writes an OCI layout whose index.json has these names, all for one blob
// that has no media type of its own.
func handMadeMirror(t *testing.T, names ...string) (dir string, blob func(text string) string) {
	t.Helper()
	dir = t.TempDir()
	blob = func(text string) string {
		path := filepath.Join(dir, "blobs", "sha256", hexSum(text))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "sha256:" + hexSum(text)
	}
	digest, err := v1.NewHash(blob("{}"))
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	for _, name := range names {
		index.Manifests = append(index.Manifests, v1.Descriptor{MediaType: "application/x-listed", Digest: digest, Size: 2, Annotations: map[string]string{refName: name}})
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, blob
}

// TestMirrorServesPulls: manifests by name and digest with their media types, blobs
// without one, and nothing else.
func TestMirrorServesPulls(t *testing.T) {
	dir, blob := handMadeMirror(t, "docker.io/library/golang:1.26", "docker.io/library/alpine:3", "ghcr.io/team/app:v1", "unnamed")
	m, err := OpenMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := m.Registries()
	slices.Sort(got)
	if fmt.Sprint(got) != "[docker.io ghcr.io]" {
		t.Errorf("registries: got %v, want each once", got)
	}
	listed, typed := blob("{}"), blob(`{"mediaType":"application/x-own"}`)
	large := blob(`{"mediaType":"application/x-own"}` + strings.Repeat(" ", limits.Manifest))
	for path, want := range map[string]string{
		"/v2/": "200 ",
		"/v2/library/golang/manifests/1.26?ns=docker.io":                               "200 application/x-listed {}",
		"/v2/x/manifests/" + listed:                                                    "200 application/x-listed {}",
		"/v2/x/blobs/" + listed:                                                        "200 application/octet-stream {}",
		"/v2/x/manifests/" + typed:                                                     `200 application/x-own {"mediaType":"application/x-own"}`,
		"/v2/x/manifests/" + blob(`{"a":1}`):                                           "404 ",
		"/v2/x/manifests/" + blob(`not JSON`):                                          "404 ",
		"/v2/x/manifests/" + blob(`{"mediaType":"application/x-own","MediaType":"x"}`): "404 ",
		"/v2/x/manifests/" + large:                                                     "404 ",
		"/v2/library/golang/blobs/1.26?ns=docker.io":                                   "404 ",
		"/v2/x/manifests/sha256:" + hexSum("none"):                                     "404 ",
		"/v2/a..b/manifests/" + listed:                                                 "404 ",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			w := httptest.NewRecorder()
			m.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			body := w.Body.String()
			status, rest, _ := strings.Cut(want, " ")
			mediaType, content, _ := strings.Cut(rest, " ")
			if method == http.MethodHead {
				if body != "" || content != "" && w.Header().Get("Content-Length") != fmt.Sprint(len(content)) {
					t.Errorf("HEAD %s: got %q of length %s", path, body, w.Header().Get("Content-Length"))
				}
				body = content
			}
			if fmt.Sprint(w.Code) != status || w.Header().Get("Content-Type") != mediaType || body != content {
				t.Errorf("%s %s: got %d, %v, %q, want %s", method, path, w.Code, w.Header(), body, want)
			}
		}
	}
	w := httptest.NewRecorder()
	if m.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v2/x/manifests/"+listed, nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("a push: got %d, want 405", w.Code)
	}
	var none *Mirror
	if resp := none.answer(httptest.NewRequest(http.MethodGet, "/v2/", nil)); resp.StatusCode != http.StatusNotFound {
		t.Errorf("no mirror: got %d, want 404", resp.StatusCode)
	}
}

// TestOpenMirrorRefuses: a layout whose index cannot be read, or names one image twice.
func TestOpenMirrorRefuses(t *testing.T) {
	a, b := hexSum("a"), hexSum("b")
	index := func(digests ...string) string {
		var list []string
		for _, d := range digests {
			list = append(list, fmt.Sprintf(`{"digest":"sha256:%s","annotations":{%q:"docker.io/x:1"}}`, d, refName))
		}
		return `{"manifests":[` + strings.Join(list, ",") + `]}`
	}
	for name, test := range map[string]struct{ index, want string }{
		"none": {"", "make base-images"}, "no JSON": {"[", "index.json"}, "duplicate": {`{"manifests":[],"manifests":[]}`, "duplicate"},
		"too large": {strings.Repeat(" ", limits.Manifest+1), "bytes"}, "two images": {index(a, b), "twice"}, "one image twice": {index(a, a), ""},
	} {
		dir := t.TempDir()
		if test.index != "" {
			if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(test.index), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := OpenMirror(dir); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}
