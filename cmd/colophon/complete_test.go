package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/await"

	"github.com/colophon-build/colophon/test/gittest"
)

// complete returns what is offered for the last of args.
func complete(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SetArgs(append([]string{"__complete"}, args...))
	if code := execute(t.Context(), root); code != exitOK {
		t.Errorf("%q: got exit code %d", args, code)
	}
	var words []string
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, ":") {
			word, _, _ := strings.Cut(line, "\t")
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// catalog is a platform with images, one of which has a hostile name.
func catalog(t *testing.T) (host string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/_catalog":
			json.NewEncoder(w).Encode(map[string]any{"repositories": []string{"team/app", "team/api", "other", "team/$(reboot)", "team/a b"}})
		case "/v2/team/app/tags/list":
			json.NewEncoder(w).Encode(map[string]any{"tags": []string{"v1", "v2", "v2`id`"}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	logIn(t, srv.URL)
	return strings.TrimPrefix(srv.URL, "http://")
}

func logIn(t *testing.T, url string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "client.json")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`{"url":%q,"token":"t","fingerprint":""}`, url)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_PLATFORM", config)
}

func TestCompletion(t *testing.T) {
	host := catalog(t)
	repo := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"commit", "-q", "--allow-empty", "-m", "x"},
		{"tag", "v1.0.0"}, {"tag", "v1.10.0"}, {"tag", "v1.9.0"}, {"tag", "@acme/web@1"}, {"tag", "v1$(touch${IFS}pwned)"}, {"tag", "v1;id"}, {"tag", "v1`id`"}, {"branch", "v1-next"},
	} {
		gittest.Git(t, repo, args...)
	}
	if err := os.WriteFile(filepath.Join(repo, ".colophon.yaml"), []byte("version: 1\nimages:\n  - name: team/web\n    context: web\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COLOPHON_TRUST", filepath.Join("..", "..", "verify", "testdata", "example", "trust"))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"rel"}, "release releases"},
		{[]string{"release", repo, "--ref", "v1."}, "v1.10.0 v1.9.0 v1.0.0"},
		{[]string{"release", repo, "--ref", "v1"}, "v1.10.0 v1.9.0 v1.0.0 v1-next"},
		{[]string{"release", repo, "--ref", "m"}, "main"},
		{[]string{"release", "/nowhere", "--ref", ""}, ""},
		{[]string{"release", repo, "--image", "t"}, "team/web"},
		{[]string{"release", repo, "--image", host + "/team"}, host + "/team/app " + host + "/team/api"},
		{[]string{"release", "--builder", "b"}, "buildkit"},
		{[]string{"release", "--progress", "p"}, "plain"},
		{[]string{"verify", host[:4]}, host + "/team/app: " + host + "/team/api: " + host + "/other:"},
		{[]string{"verify", host + "/team/ap"}, host + "/team/app: " + host + "/team/api:"},
		{[]string{"verify", host + "/team/app:"}, host + "/team/app:v1 " + host + "/team/app:v2"},
		{[]string{"why", host + "/team/app:v2"}, host + "/team/app:v2"},
		{[]string{"inspect", host + "/team/../app:"}, ""},
		{[]string{"verify", "r.example.com/"}, ""},
		{[]string{"attest", "--files", ""}, ""}, // files
		{[]string{"verify", "./"}, ""},
		{[]string{"verify", "--policy", ""}, "yaml yml json"}, // files of these extensions
		{[]string{"inspect", "--sbom=s"}, "spdx"},
		{[]string{"log", "search", "--image", host + "/team/app:"}, host + "/team/app:v1 " + host + "/team/app:v2"},
		{[]string{"log", ""}, "audit checkpoint get gossip prove search watch"},
		{[]string{"trust", "add", "si"}, "sigstore"},
		{[]string{"trust", "remove", "http"}, "http://127.0.0.1:8080"},
		{[]string{"trust", "remove", "nothing"}, ""},
		{[]string{"verify", "--trust-root", ""}, "http://127.0.0.1:8080"},
	} {
		if got := complete(t, tt.args...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.args, got, tt.want)
		}
	}
}

// TestCompletionWaitsForNobody: a platform that does not answer costs a moment, and no word.
func TestCompletionWaitsForNobody(t *testing.T) {
	quit := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-quit }))
	defer srv.Close()
	defer close(quit)
	logIn(t, srv.URL)
	await.Quick(t, "completion", 10*networkPatience, func() {
		if got := complete(t, "verify", ""); got != "" {
			t.Errorf("got %q", got)
		}
	})
	logIn(t, "http://127.0.0.1:1")
	if got := complete(t, "verify", ""); got != "" {
		t.Errorf("got %q", got)
	}
}
