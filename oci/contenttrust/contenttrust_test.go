package contenttrust_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/oci/contenttrust"
)

const repository = "registry.example.com/team/app"

// targets returns metadata in the form of Notary v1 that names one tag.
func targets(tag, content string) (metadata, digest string) {
	sum := sha256.Sum256([]byte(content))
	return fmt.Sprintf(`{"signed":{"_type":"Targets","delegations":{"keys":{},"roles":[]},"expires":"2029-01-02T03:04:05.678+01:00","targets":{%q:{"hashes":{"sha256":%q},"length":7}},"version":3},"signatures":[{"keyid":"x","method":"ecdsa","sig":"eA=="}]}`,
		tag, base64.StdEncoding.EncodeToString(sum[:])), "sha256:" + hex.EncodeToString(sum[:])
}

// keep writes metadata where docker keeps it, and returns the directory trust.
func keep(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for role, text := range files {
		path := filepath.Join(dir, "tuf", repository, "metadata", role+".json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLocal: what docker keeps on this machine.
func TestLocal(t *testing.T) {
	one, digest := targets("v1", "one")
	older, _ := targets("v1", "older")
	more, other := targets("v2", "other")
	for what, tt := range map[string]struct {
		files map[string]string
		tags  map[string]string
		says  string
	}{
		"nothing":            {nil, nil, ""},
		"root alone":         {map[string]string{"root": "{}"}, nil, ""},
		"targets":            {map[string]string{"targets": one}, map[string]string{"v1": digest}, ""},
		"a delegation first": {map[string]string{"targets": older, "targets/releases": one}, map[string]string{"v1": digest}, ""},
		"both":               {map[string]string{"targets": more, "targets/releases": one}, map[string]string{"v1": digest, "v2": other}, ""},
		"another type":       {map[string]string{"targets": strings.Replace(one, "Targets", "Root", 1)}, nil, "want Targets"},
		"short digest":       {map[string]string{"targets": `{"signed":{"_type":"Targets","targets":{"v1":{"hashes":{"sha256":"eA=="}}}}}`}, nil, "want 32"},
		"twice":              {map[string]string{"targets": strings.Replace(one, `{"signed"`, `{"signed":{},"signed"`, 1)}, nil, "duplicate"},
		"huge":               {map[string]string{"targets": strings.Repeat(" ", 16<<20+1)}, nil, "more than"},
		"no JSON":            {map[string]string{"targets": "<html>"}, nil, "JSON"},
	} {
		got, err := contenttrust.Local(keep(t, tt.files), repository)
		switch {
		case tt.says != "":
			if err == nil || got != nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: got %v, %v, want %q", what, got, err, tt.says)
			}
		case err != nil:
			t.Errorf("%s: %v", what, err)
		case tt.tags == nil:
			if got != nil {
				t.Errorf("%s: got %+v", what, got)
			}
		case got == nil || fmt.Sprint(got.Tags) != fmt.Sprint(tt.tags) || got.Expires.Format("2006-01-02") != "2029-01-02":
			t.Errorf("%s: got %+v, want %v", what, got, tt.tags)
		}
	}
	if got, err := contenttrust.Local(filepath.Join(t.TempDir(), "none"), repository); got != nil || err != nil {
		t.Errorf("no directory: got %v, %v", got, err)
	}
	dir := keep(t, map[string]string{"targets": one})
	if got, err := contenttrust.Local(filepath.Join(dir, "tuf", "registry.example.com"), "../../registry.example.com/team/app"); got != nil {
		t.Errorf("out of the directory: got %v, %v", got, err)
	}
}

// TestAsk: a server that wants an anonymous token, as that of Docker Hub does.
func TestAsk(t *testing.T) {
	one, digest := targets("v1", "one")
	var asked []string
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		switch {
		case r.URL.Path == "/token":
			if !strings.HasPrefix(r.URL.Query().Get("scope"), "repository:registry.example.com/") || r.Header.Get("Authorization") != "" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			fmt.Fprint(w, `{"token":"t"}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+srv.URL+`/token",service="notary"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v2/"+repository+"/_trust/tuf/targets.json":
			fmt.Fprint(w, one)
		case strings.Contains(r.URL.Path, "broken"):
			http.Error(w, "no", http.StatusInternalServerError)
		default:
			http.NotFound(w, r)
		}
	}))
	defer srv.Close()
	got, err := contenttrust.Ask(t.Context(), http.DefaultTransport, srv.URL+"/", repository)
	if err != nil || got == nil || got.Tags["v1"] != digest || got.Where != srv.URL {
		t.Errorf("got %+v, %v (%v)", got, err, asked)
	}
	if got, err := contenttrust.Ask(t.Context(), http.DefaultTransport, srv.URL, "registry.example.com/other"); got != nil || err != nil {
		t.Errorf("unknown repository: got %v, %v", got, err)
	}
	if _, err := contenttrust.Ask(t.Context(), http.DefaultTransport, srv.URL, "registry.example.com/broken"); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("broken: got %v", err)
	}
	for _, server := range []string{"http://notary.example.com", "notary.example.com", "https://user@notary.example.com", "https://notary.example.com/path", "ftp://x", ""} {
		if _, err := contenttrust.Ask(t.Context(), http.DefaultTransport, server, repository); err == nil || !strings.Contains(err.Error(), "want https://HOST") {
			t.Errorf("%q: got %v", server, err)
		}
	}
}

// TestAskKeepsTLS: a server elsewhere does not have this machine ask a service of its own, and no
// error has the query of the address to which a server leads.
func TestAskKeepsTLS(t *testing.T) {
	reached := false
	here := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer here.Close()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, here.URL+"/?s3cret", http.StatusFound)
		}
	}))
	defer srv.Close()
	got, err := contenttrust.Ask(t.Context(), srv.Client().Transport, srv.URL, repository)
	if got != nil || err == nil || strings.Contains(err.Error(), "s3cret") || reached {
		t.Errorf("got %v, %v; reached: %v", got, err, reached)
	}
}

// TestRepository: docker names its own registry in another way than registries do.
func TestRepository(t *testing.T) {
	for name, want := range map[string]string{"index.docker.io/library/alpine": "docker.io/library/alpine", "ghcr.io/a/b": "ghcr.io/a/b"} {
		if got := contenttrust.Repository(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
