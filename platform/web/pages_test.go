package web

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

const evil = `<script>alert(1)</script>"'`

// port is a platform's port: a registry that everybody may pull from, but for private
// repositories, and releases that those with the token may see.
func port(t *testing.T) *http.ServeMux {
	t.Helper()
	mux := http.NewServeMux()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	done := api.Run{
		ID: strings.Repeat("1", 32), State: api.Released, Actor: evil, Image: "127.0.0.1:8080/team/app", Source: evil, Ref: "v1" + evil, Commit: evil, Asked: at, Started: at, Ended: at,
		Result: &api.Release{Image: "127.0.0.1:8080/team/app", Digest: "sha256:1", Tags: []string{"v1", "v2"}, Level: 3},
	}
	failed := api.Run{ID: strings.Repeat("2", 32), State: api.Failed, Actor: "client", Image: "elsewhere.example/app", Asked: at, Error: &api.Error{Message: evil}}
	never := failed
	never.ID, never.Image = strings.Repeat("4", 32), "127.0.0.1:8080/never/released"
	token := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer token" {
				http.Error(w, "secret-free", http.StatusUnauthorized)
				return
			}
			h(w, r)
		}
	}
	mux.HandleFunc("GET /v2/_catalog", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"repositories":["team/app","odd/a%2fb","odd/`+"<b>"+`"]}`)
	})
	mux.HandleFunc("GET /v2/{name...}", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.PathValue("name"), "private/") {
			if _, password, ok := r.BasicAuth(); !ok || password != "token" {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
		}
		switch name := r.PathValue("name"); {
		case strings.HasSuffix(name, "/manifests/v1"):
			w.Header().Set("Docker-Content-Digest", "sha256:1")
		case strings.HasSuffix(name, "/manifests/v2"): // it was removed and pushed again
			w.Header().Set("Docker-Content-Digest", "sha256:2")
		case strings.HasPrefix(name, "never/"):
			http.NotFound(w, r)
		default:
			fmt.Fprint(w, `{"tags":["v1","v2"]}`)
		}
	})
	mux.HandleFunc("GET "+api.PathReleases, token(func(w http.ResponseWriter, r *http.Request) {
		runs := []api.Run{done, failed, never}
		if r.URL.Query().Get("image") != "" {
			runs = runs[:1]
		}
		json.NewEncoder(w).Encode(api.Runs{Releases: runs})
	}))
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", token(func(w http.ResponseWriter, r *http.Request) {
		for _, run := range []api.Run{done, failed, never} {
			if run.ID == r.PathValue("id") {
				json.NewEncoder(w).Encode(run)
				return
			}
		}
		http.NotFound(w, r)
	}))
	mux.HandleFunc("GET "+api.PathReleases+"/{id}/log", token(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(api.Event{Phase: "build", Step: evil, Line: "the secret of the build \x1b[2J"})
	}))
	for _, path := range []string{"/.well-known/colophon.json", "/trusted_root.json", "/signing_config.json", "/tuf/1.root.json", "/.well-known/openid-configuration", "/api/v2/checkpoint", "/readyz", "/metrics"} {
		mux.HandleFunc("GET "+path, func(http.ResponseWriter, *http.Request) {}) // of other roles
	}
	err := Register(mux, Config{
		URL: "http://127.0.0.1:8080", Version: evil, Fingerprint: "sha256:abc",
		Builders: []Builder{{ID: "http://127.0.0.1:8080/builders/x/v1", BuildType: "https://example.com/x", Level: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return mux
}

func get(mux *http.ServeMux, path, password string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	if password != "" {
		r.SetBasicAuth("any", password)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

var links = regexp.MustCompile(`href="([^"]*)"`)

// Every link of every page leads somewhere, for those who may see it.
func TestNoDeadLinks(t *testing.T) {
	mux := port(t)
	seen, todo := map[string]bool{}, []string{"/"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		w := get(mux, path, "token")
		if w.Code != http.StatusOK {
			t.Errorf("%s: got %d", path, w.Code)
		}
		if strings.Contains(w.Body.String(), "<script") || strings.Contains(w.Body.String(), "<b>") || strings.ContainsRune(w.Body.String(), 0x1b) {
			t.Errorf("%s: a text is not escaped: %s", path, w.Body)
		}
		for _, m := range links.FindAllStringSubmatch(w.Body.String(), -1) {
			to := strings.TrimPrefix(html.UnescapeString(m[1]), "http://127.0.0.1:8080")
			if strings.HasPrefix(to, "https://example.com/") || seen[to] {
				continue
			}
			if !strings.HasPrefix(to, "/") {
				t.Errorf("%s links to %q", path, m[1])
			}
			seen[to] = true
			todo = append(todo, to)
		}
	}
	for _, path := range []string{"/repositories/team/app", "/repositories/odd/a%252fb", "/releases/" + strings.Repeat("1", 32) + "/log", "/releases/" + strings.Repeat("2", 32), "/builders/x/v1"} {
		if !seen[path] {
			t.Errorf("no page links to %s: %v", path, seen)
		}
	}
}

// A page shows nothing that its viewer may not read.
func TestPagesOfStrangers(t *testing.T) {
	mux := port(t)
	id := strings.Repeat("1", 32)
	for _, password := range []string{"", "wrong"} {
		for _, path := range []string{"/releases", "/releases/" + id, "/releases/" + id + "/log", "/repositories/private/app"} {
			w := get(mux, path, password)
			if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" || strings.Contains(w.Body.String(), "secret of") || strings.Contains(w.Body.String(), "v1") {
				t.Errorf("%s: got %d %s", path, w.Code, w.Body)
			}
		}
		w := get(mux, "/repositories/team/app", password)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "<code>v1</code>") || strings.Contains(w.Body.String(), id) {
			t.Errorf("tags: got %d %s", w.Code, w.Body)
		}
	}
	if w := get(mux, "/repositories/team/app", "token"); strings.Count(w.Body.String(), "accepted and released") != 1 || !strings.Contains(w.Body.String(), `accepted and released 2026-01-02 03:04:05Z, <a href="/releases/`+id) {
		t.Errorf("tags: got %s", w.Body)
	}
	for _, path := range []string{"/", "/repositories", "/releases", "/releases/" + id} {
		h := get(mux, path, "token").Header()
		if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %v", path, h)
		}
	}
	if w := get(mux, "/releases/"+strings.Repeat("3", 32), "token"); w.Code != http.StatusNotFound {
		t.Errorf("unknown release: got %d", w.Code)
	}
}
