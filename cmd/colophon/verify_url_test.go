package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestVerifyURL verifies a file on a server with the bundle beside it, as a release of GitHub
// has both. File and bundle are a real attestation (testdata/README.md).
func TestVerifyURL(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", "sigstore", "--timeout", "1ms"})
	read := func(name string) string {
		t.Helper()
		raw, err := os.ReadFile("testdata/github-attestation/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good, proof := read("MODULE.bazel"), read("MODULE.bazel.intoto.jsonl")
	files := map[string]string{"/dl/MODULE.bazel": good, "/dl/MODULE.bazel.intoto.jsonl": proof, "/dl/MODULE.bazel.sigstore.json": "<html>not found</html>",
		"/bad/MODULE.bazel": good + " ", "/bad/MODULE.bazel.intoto.jsonl": proof, "/alone/MODULE.bazel": good, "/huge/MODULE.bazel": good, "/huge/MODULE.bazel.intoto.jsonl": proof}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		if r.URL.Path == "/huge/MODULE.bazel" {
			w.Header().Set("Content-Length", "17179869185")
		}
		content, ok := files[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.WriteString(w, content)
	}))
	defer srv.Close()
	kept := filepath.Join(t.TempDir(), "MODULE.bazel")
	verify := func(path string, more ...string) []string {
		return append([]string{"verify", srv.URL + path, "--source", "github.com/aspect-build/rules_lint", "--skip-source"}, more...)
	}
	absent := func() {
		t.Helper()
		if entries, err := os.ReadDir(filepath.Dir(kept)); err != nil || len(entries) > 0 {
			t.Errorf("%v is there, %v", entries, err)
		}
	}
	s.run(exitOK, verify("/dl/MODULE.bazel"), srv.URL+"/dl/MODULE.bazel", "accepted")
	s.run(exitRejected, verify("/bad/MODULE.bazel", "--save", kept), "rejected")
	s.run(exitUndecided, verify("/alone/MODULE.bazel", "--save", kept), "there is no bundle beside it", "--bundle FILE")
	s.run(exitUndecided, verify("/none/MODULE.bazel", "--bundle", "testdata/github-attestation/MODULE.bazel.intoto.jsonl", "--save", kept), "not exist")
	s.run(exitUndecided, verify("/dl/MODULE.bazel", "--offline", "--save", kept), "--offline uses no network")
	s.run(exitUsage, []string{"verify", "http://files.example.com/a", "--any-source"}, "expected https://HOST/PATH")
	s.run(exitUsage, []string{"verify", "https://user:secret@files.example.com/a", "--any-source"}, "without user")
	s.run(exitUsage, []string{"verify", s.image, "--any-source", "--save", kept}, "--save is for the file at a URL")
	s.run(exitUndecided, verify("/x?to=http://files.example.com/", "--bundle", "testdata/github-attestation/MODULE.bazel.intoto.jsonl"), "plain http")
	s.run(exitUndecided, verify("/huge/MODULE.bazel", "--save", kept), "17179869185 bytes")
	absent()
	s.run(exitOK, verify("/dl/MODULE.bazel", "--save", kept), "accepted")
	if got, err := os.ReadFile(kept); err != nil || string(got) != good {
		t.Errorf("kept %.40q, %v", got, err)
	}
	s.run(exitOK, verify("/alone/MODULE.bazel", "--bundle", "testdata/github-attestation/MODULE.bazel.intoto.jsonl"), "accepted")
}
