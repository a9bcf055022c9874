package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	mux := http.NewServeMux()
	err := Register(mux, Config{
		URL: "http://127.0.0.1:8080", Version: "<b>1</b>", Fingerprint: "sha256:abc",
		Builders: []Builder{{ID: "http://127.0.0.1:8080/builders/x/v1", BuildType: "https://example.com/x", Level: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/":              "sha256:abc",
		"/builders/x/v1": "Build L2",
		"/builders/y/v1": "",
		"/other":         "",

		"/schemas/policy.json":    `"title": "Colophon policy`,
		"/schemas/recipes.json":   `"buildArgs"`,
		"/schemas/schemas.go":     "",
		"/schemas/..%2fREADME.md": "",
		"/schemas/":               "",
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if want == "" {
			if w.Code != http.StatusNotFound {
				t.Errorf("%s: got %d, want 404", path, w.Code)
			}
			continue
		}
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d %s, want %q in it", path, w.Code, w.Body, want)
		}
		if strings.Contains(w.Body.String(), "<b>1") {
			t.Errorf("%s: a value is not escaped", path)
		}
	}
}
