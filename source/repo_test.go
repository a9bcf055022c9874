package source

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
)

// repo is a repository that a test fills with git.
type repo struct {
	t   *testing.T
	dir string
	env []string // of git, beside what gittest sets
}

func newRepo(t *testing.T, initArgs ...string) *repo {
	t.Helper()
	r := &repo{t: t, dir: filepath.Join(t.TempDir(), "repo"), env: []string{
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=1700000000 +0100",
		"GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com", "GIT_COMMITTER_DATE=1700000060 +0100",
		"GIT_ALLOW_PROTOCOL=file",
	}}
	r.git(append([]string{"init", "-q", "-b", "main"}, initArgs...)...)
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return gittest.With(r.t, r.env, r.dir, args...)
}

func (r *repo) in(stdin string, args ...string) string {
	r.t.Helper()
	return gittest.In(r.t, stdin, r.dir, args...)
}

func (r *repo) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// commit writes one file, commits everything, and returns the commit's id.
func (r *repo) commit(name, content string) string {
	r.t.Helper()
	r.write(name, content)
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "change "+name)
	return r.git("rev-parse", "HEAD")
}

// commitTree commits a tree that git's index would refuse.
// entries are "mode SP name NUL hex-id".
func (r *repo) commitTree(branch string, entries ...[3]string) string {
	r.t.Helper()
	var raw strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&raw, "%s %s\x00", e[0], e[1])
		for i := 0; i < len(e[2]); i += 2 {
			var b byte
			fmt.Sscanf(e[2][i:i+2], "%02x", &b)
			raw.WriteByte(b)
		}
	}
	tree := r.in(raw.String(), "hash-object", "-w", "-t", "tree", "--literally", "--stdin")
	id := r.git("commit-tree", "-m", "hostile", tree)
	r.git("update-ref", "refs/heads/"+branch, id)
	return id
}

func (r *repo) blob(content string) string { return r.in(content, "hash-object", "-w", "--stdin") }
func (r *repo) uri() string                { return FileURI(r.dir) }

// serve serves the directory above the repository over http, with git's own server.
func (r *repo) serve() string { return r.serveThrough(func(h http.Handler) http.Handler { return h }) }

// serveOldProtocol is like serve, with a server that knows only protocol version 0.
func (r *repo) serveOldProtocol() string {
	return r.serveThrough(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			req.Header.Del("Git-Protocol")
			h.ServeHTTP(w, req)
		})
	})
}

func (r *repo) serveThrough(wrap func(http.Handler) http.Handler) string {
	srv := httptest.NewServer(wrap(r.backend()))
	r.t.Cleanup(srv.Close)
	return srv.URL + "/repo"
}

func (r *repo) backend() http.Handler {
	return githttp.Handler(r.t, filepath.Dir(r.dir))
}

func fetch(t *testing.T, r Request) (*Repo, Commit, error) {
	t.Helper()
	return Fetch(t.Context(), t.TempDir(), r)
}

func mustFetch(t *testing.T, r Request) (*Repo, Commit) {
	t.Helper()
	repo, c, err := fetch(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return repo, c
}

// canary makes a program that creates a file when it runs.
func canary(t *testing.T) (program string, ran func() bool) {
	t.Helper()
	dir := t.TempDir()
	program, trace := filepath.Join(dir, "canary"), filepath.Join(dir, "ran")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ntouch "+trace+"\ntimeout 2 cat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, func() bool { return exists(trace) }
}

// hang returns the address of a server that accepts requests and never answers.
func hang(t *testing.T) string {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(stop) })
	return srv.URL + "/repo"
}
