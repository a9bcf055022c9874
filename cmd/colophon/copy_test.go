package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
)

// TestCopy copies an image with its proofs from a registry to everywhere and on, and
// verifies each copy.
func TestCopy(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	dir := t.TempDir()
	layout, archive, again := filepath.Join(dir, "layout"), filepath.Join(dir, "app.tar"), filepath.Join(dir, "again.tar")
	from := s.image
	var digest string
	for _, to := range []string{s.host + "/other/app:v2", layout, archive, again, s.host + "/back/app", s.host + "/back/app:v3"} {
		out := s.run(exitOK, []string{"copy", from, to}, "  1")
		name, d, ok := strings.Cut(strings.TrimSpace(out), "@")
		if digest == "" {
			digest = d
		}
		if !ok || d != digest || !strings.HasPrefix(name, to) {
			t.Fatalf("copy to %s: got %q, want %s and the digest %s", to, out, to, digest)
		}
		s.run(exitOK, []string{"verify", name, "--source", prooftest.Source, "--skip-source"}, "✓ sbom", "accepted")
		s.run(exitOK, []string{"copy", from, to}) // changes nothing
		from = name
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".copy-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	var c copied
	out := s.run(exitOK, []string{"copy", s.image, s.host + "/json/app", "--json"})
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Image != s.host+"/json/app:v1.2.0" || c.Digest != digest || c.Tag != "v1.2.0" {
		t.Errorf("--json: got %s, %v", out, err)
	}
	s.run(exitUsage, []string{"copy", s.image, s.host + "/x/app@" + digest}, "expected no digest")
	s.run(exitUsage, []string{"copy", s.image, "host.example.com/UPPER"}, "lower case")
	s.run(exitFailure, []string{"copy", s.host + "/team/app:v9", layout}, `has no "v9"`)
}

// TestPromote copies only what the policy accepts.
func TestPromote(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	policy := func(text string) string { return s.file("policy.json", []byte(text)) }
	to := s.host + "/prod/app"
	for _, refused := range []struct {
		code int
		args []string
		word string
	}{
		{exitRejected, []string{"copy", s.image, to, "--policy", policy(`{"source":"https://git.example.com/team/other"}`)}, "✗ provenance"},
		{exitUndecided, []string{"copy", s.image, to, "--policy", policy(`{"source":"https://git.example.com/team/app","requireSource":true}`)}, "? source"},
		{exitUsage, []string{"copy", s.image, to, "--policy", policy(`{"sauce":"x"}`)}, "sauce"},
	} {
		s.run(refused.code, refused.args, refused.word)
		s.run(exitUndecided, []string{"verify", to + ":v1.2.0", "--any-source"}, "? image")
	}
	s.run(exitOK, []string{"copy", s.image, to, "--policy", policy(`{"source":"https://git.example.com/team/app"}`), "-q"}, to+"@sha256:")
	s.run(exitOK, []string{"verify", to + ":v1.2.0", "--source", prooftest.Source, "--skip-source"}, "accepted")
}

// TestCopyLogsIn: the registry of the platform gets the platform's token, and no other one
// does, whatever its name and whatever it asks for.
func TestCopyLogsIn(t *testing.T) {
	s := newStage(t)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	asked := func() (*httptest.Server, *[]string) {
		var got []string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, ok := r.BasicAuth(); ok {
				got = append(got, user+":"+password)
			} else if a := r.Header.Get("Authorization"); a != "" {
				got = append(got, a)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(srv.Close)
		return srv, &got
	}
	own, toOwn := asked()
	other, toOther := asked()
	host := func(srv *httptest.Server) string { return strings.TrimPrefix(srv.URL, "http://") }
	t.Setenv("COLOPHON_PLATFORM", s.file("client.json", []byte(`{"url":"`+own.URL+`","token":"secret-token","fingerprint":""}`)))
	for _, srv := range []*httptest.Server{own, other} {
		s.run(exitFailure, []string{"copy", s.image, host(srv) + "/prod/app"}, "hint: log in to the registry", "docker login "+host(srv))
	}
	s.run(exitFailure, []string{"copy", s.image, host(other) + "/" + strings.ReplaceAll(host(own), ":", "/") + "/app"}, "401")
	if len(*toOwn) == 0 || (*toOwn)[0] != "colophon:secret-token" {
		t.Errorf("the platform's registry got %q", *toOwn)
	}
	if len(*toOther) > 0 {
		t.Errorf("another registry got %q", *toOther)
	}
}
