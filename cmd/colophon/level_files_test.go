package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// clone returns a working directory of a hosted repository, at its main branch, with some files
// that are not committed.
func (h *hosted) clone(files map[string]string) string {
	h.t.Helper()
	dir := filepath.Join(h.t.TempDir(), "app")
	gittest.Git(h.t, dir, "clone", "-q", h.url, ".")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	return dir
}

const leakyWorkflow = `on: push
permissions: {}
jobs:
  build:
    runs-on: ubuntu-24.04
    permissions: {id-token: write, contents: read}
    steps:
      - uses: actions/checkout@v4
      - run: docker build .
`

// TestLevelOfDirectory: files, and the commit that is checked out.
func TestLevelOfDirectory(t *testing.T) {
	h := newHosted(t, "")
	s := &stage{t: t}
	dir := h.clone(nil)
	out := s.run(exitOK, []string{"level", dir, "--forge", "gitea"}, "commit "+h.main+", refs/heads/main", "SLSA Source L4", "SLSA Build L0", "up to L3", "no Dockerfile, .colophon.yaml or workflow", "only an image and its provenance show it")
	if strings.Contains(out, "✓ L1  appropriate build platform") {
		t.Errorf("files show a requirement of the Build track:\n%s", out)
	}
	s.run(exitOK, []string{"level", dir, "--forge", "gitea", "--min-source-level", "4", "-q"}, "4")
	s.run(exitUndecided, []string{"level", dir, "--forge", "gitea", "--min-build-level", "1"}, "undecided")
	s.run(exitUndecided, []string{"level", dir, "--offline", "--min-source-level", "1"}, "the repository was not asked: --offline")

	dir = h.clone(map[string]string{".github/workflows/release.yml": leakyWorkflow, "Dockerfile": "FROM scratch\n"})
	var l levels
	text, _ := s.say(exitOK, "level", dir, "--offline", "--json")
	if err := json.Unmarshal([]byte(text), &l); err != nil || l.Build.Level != 0 || l.Build.Possible != 2 {
		t.Errorf("got %+v, %v", l, err)
	}
	s.run(exitRejected, []string{"level", dir, "--offline", "--min-build-level", "3"}, "✗ L3  provenance unforgeable", ".github/workflows/release.yml:9:9", "[workflow/build-with-token]")
}

// TestLevelOfDirectoryAndImage: the files tick other boxes than the image.
func TestLevelOfDirectoryAndImage(t *testing.T) {
	s := stageWith(t, func(p *prooftest.Platform, _ *prooftest.Store, r *prooftest.Release) {
		p.Level = 3
		r.Provenance.BuildDefinition.InternalParameters = json.RawMessage(roomOfL3)
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	dir := t.TempDir()
	for name, text := range map[string]string{".colophon.yaml": "version: 1\n", "Dockerfile": "FROM scratch\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page := filepath.Join(t.TempDir(), "level.md")
	s.run(exitOK, []string{"level", dir, "--image", s.image, "--resolutions", s.file("r.json", []byte("{}")), "--report", "markdown=" + page}, "SLSA Build L3")
	md := string(read(t, page))
	for _, want := range []string{"- [x] The repository says how the image is built. (met: .colophon.yaml, Dockerfile)", "- [x] Provenance names the artifact by digest", "- [ ] A policy says which images may run"} {
		if !strings.Contains(md, want) {
			t.Errorf("want %q in\n%s", want, md)
		}
	}
}

// TestLevelDirectoryAttacks: a directory decides neither who gets a token, nor what this machine
// runs, nor what is printed.
func TestLevelDirectoryAttacks(t *testing.T) {
	h := newHosted(t, "")
	s := &stage{t: t}
	dir := h.clone(nil)
	git := func(args ...string) {
		t.Helper()
		gittest.Git(t, dir, args...)
	}
	var asked atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer thief.Close()
	git("remote", "set-url", "origin", thief.URL+"/team/app")
	token := s.file("token", []byte("hunter2-hunter2"))
	s.run(exitUsage, []string{"level", dir, "--forge", "gitea", "--forge-token-file", token}, "the directory must not choose who gets a token", "--source")
	if asked.Load() > 0 {
		t.Error("the host that the directory names was asked")
	}
	s.run(exitOK, []string{"level", dir, "--forge", "gitea", "--forge-token-file", token, "--source", h.url}, "SLSA Source L4")

	// Credentials in the address are not printed, and the directory is read without it.
	git("remote", "set-url", "origin", strings.Replace(thief.URL, "//", "//ada:hunter2@", 1)+"/team/app")
	if out := s.run(exitOK, []string{"level", dir}, "SLSA Source L0"); strings.Contains(out, "hunter2") {
		t.Errorf("a password is printed:\n%s", out)
	}
	// Programs that the configuration names do not run.
	ran := filepath.Join(t.TempDir(), "ran")
	for _, key := range []string{"core.fsmonitor", "core.sshCommand", "remote.origin.uploadpack"} {
		git("config", key, "touch "+ran)
	}
	git("config", "remote.origin.url", "ext::sh -c touch% "+ran)
	s.run(exitOK, []string{"level", dir}, `the remote "origin" cannot be used`)
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the repository's configuration ran")
	}
}
