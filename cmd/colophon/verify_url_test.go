package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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
		"/bad/MODULE.bazel": good + " ", "/bad/MODULE.bazel.intoto.jsonl": proof, "/alone/MODULE.bazel": good,
		"/team%2Fapp/MODULE.bazel": good, "/team%2Fapp/MODULE.bazel.intoto.jsonl": proof, "/huge/MODULE.bazel": good, "/huge/MODULE.bazel.intoto.jsonl": proof}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		if r.URL.Path == "/huge/MODULE.bazel" {
			w.Header().Set("Content-Length", "17179869185")
		}
		content, ok := files[r.URL.EscapedPath()]
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
	s.run(exitOK, verify("/team%2Fapp/MODULE.bazel"), "accepted") // as GitLab names the packages of a project
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

// TestVerifyURLReferer: the host to which a server leads does not learn the address, whose query
// may be a credential.
func TestVerifyURLReferer(t *testing.T) {
	var learned atomic.Value
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { learned.Store(r.Header) }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer srv.Close()
	u, err := url.Parse(srv.URL + "/file?token=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch(t.Context(), u, func(io.Reader) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(learned.Load()); strings.Contains(got, "s3cret") {
		t.Errorf("the other host got %s", got)
	}
}

// everyNameIsHere has all names of hosts lead to this machine.
func everyNameIsHere(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // of the question's name (RFC 1035, 4.1)
			for end < n && buf[end] != 0 {
				end += 1 + int(buf[end])
			}
			question := buf[12 : end+5]
			answer := append([]byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if buf[end+2] == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
			}
			conn.WriteTo(answer, from)
		}
	}()
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = old
		conn.Close()
	})
}

// A server elsewhere may not lead the download to a service of this machine, by an address
// or by a name that leads here. The host that the user names may be here.
func TestVerifyURLRedirectedHere(t *testing.T) {
	var reached atomic.Int64
	here := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "of this machine") }))
	defer here.Close()
	here.Config.ConnState = func(net.Conn, http.ConnState) { reached.Add(1) }
	_, port, _ := net.SplitHostPort(here.Listener.Addr().String())
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
			return
		}
		io.WriteString(w, "of elsewhere")
	}))
	defer elsewhere.Close()
	everyNameIsHere(t)
	standard := http.DefaultTransport.(*http.Transport)
	old := standard.TLSClientConfig
	standard.TLSClientConfig = elsewhere.Client().Transport.(*http.Transport).TLSClientConfig
	defer func() { standard.TLSClientConfig = old }()
	_, from, _ := net.SplitHostPort(elsewhere.Listener.Addr().String())
	get := func(to string) (got string, err error) {
		u, err := url.Parse("https://example.com:" + from + "/file?to=" + url.QueryEscape(to)) // a name in the certificate
		if err != nil {
			t.Fatal(err)
		}
		err = fetch(t.Context(), u, func(body io.Reader) error {
			raw, err := io.ReadAll(body)
			got = string(raw)
			return err
		})
		return got, err
	}
	if got, err := get(""); err != nil || got != "of elsewhere" {
		t.Fatalf("the file itself: got %q, %v", got, err)
	}
	if got, err := get("https://example.com:" + from + "/other"); err != nil || got != "of elsewhere" {
		t.Errorf("a redirect on the same host: got %q, %v", got, err)
	}
	for _, to := range []string{"https://127.0.0.1:" + port, "https://[::1]:" + port, "https://localhost:" + port, "https://service.example.org:" + port, "https://example.com:" + port} {
		if got, err := get(to); err == nil || !strings.Contains(err.Error(), "to this machine") {
			t.Errorf("%s: got %q, %v, want an error", to, got, err)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("a service of this machine was asked %d times", n)
	}
}
