package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
)

// TestContentTrust: inspect and policy init say what Docker Content Trust knows of an image, on
// this machine or at a server that the user names, and count none of it as proof.
func TestContentTrust(t *testing.T) {
	var digest, other string
	s := stageWith(t, func(_ *prooftest.Platform, store *prooftest.Store, r *prooftest.Release) {
		digest, other = neighbour(t, store, "v7").Digest.String(), neighbour(t, store, "moved").Digest.String()
	})
	at := func(tag string) string { return s.host + "/team/app:" + tag }
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	sum := func(digest string) string {
		raw, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	metadata := fmt.Sprintf(`{"signed":{"_type":"Targets","expires":"2029-01-02T03:04:05Z","targets":{"v7":{"hashes":{"sha256":%q}},"moved":{"hashes":{"sha256":%q}},"evil\u001b[2J":{"hashes":{"sha256":%q}}}},"signatures":[]}`, sum(digest), sum(digest), sum(other))

	asked := 0
	notary := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/v2/"+s.host+"/team/app/_trust/tuf/targets.json" {
			fmt.Fprint(w, metadata)
		} else if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	defer notary.Close()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_CONTENT_TRUST", "1")
	t.Setenv("DOCKER_CONTENT_TRUST_SERVER", notary.URL)
	if out := s.run(exitOK, []string{"inspect", at("v7")}); strings.Contains(out, "Content Trust") || asked != 0 {
		t.Errorf("asked %d times, got\n%s", asked, out)
	}
	s.run(exitOK, []string{"inspect", at("v7"), "--notary-server", notary.URL}, "Docker Content Trust, not verified: tag v7 is this image; until 2029-01-02T03:04:05Z, says "+notary.URL, "colophon sign")
	s.run(exitOK, []string{"inspect", at("moved"), "--notary-server", notary.URL}, "tag moved is ANOTHER image, "+digest)
	s.run(exitRejected, []string{"policy", "init", at("v7"), "--notary-server", notary.URL}, "Docker Content Trust signed it", "docs/policy.md")
	s.run(exitFailure, []string{"inspect", at("v7"), "--notary-server", "http://notary.example.com"}, "want https://HOST")
	if asked == 0 {
		t.Error("the server was not asked")
	}

	dir := filepath.Join(os.Getenv("DOCKER_CONFIG"), "trust", "tuf", s.host, "team", "app", "metadata")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "targets.json"), []byte(metadata), 0o600); err != nil {
		t.Fatal(err)
	}
	before := asked
	var in inspection
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"inspect", at("v7"), "--json"})), &in); err != nil || len(in.ContentTrust) != 1 || in.ContentTrust[0].Digest != digest || len(in.ContentTrust[0].Tags) != 2 || in.Verified {
		t.Errorf("JSON: got %+v, %v", in.ContentTrust, err)
	}
	s.run(exitRejected, []string{"policy", "init", at("v7")}, "Docker Content Trust signed it")
	if out := s.run(exitOK, []string{"inspect", s.host + "/team/app@" + other}, "this image is tag evil"); strings.Contains(out, "\x1b") {
		t.Errorf("a tag controls the terminal: %q", out)
	}
	s.run(exitOK, []string{"inspect", at("v1.2.0")}, "3 signed tags, and none of them is this image")
	if asked != before {
		t.Error("a server was asked, and nobody named one")
	}
	s.run(exitRejected, []string{"verify", at("v7"), "--source", prooftest.Source}) // it proves nothing
}
