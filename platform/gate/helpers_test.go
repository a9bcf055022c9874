package gate_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// TestHelpers: the gate reads its upstream with the credentials of a program, for the verdict and for
// the content; clients that send their own get nothing by it.
func TestHelpers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	program := "#!/bin/sh\necho run >> " + dir + "/runs\necho '{\"Username\":\"robot\",\"Secret\":\"s3cret\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-ours"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	private := func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if _, password, _ := r.BasicAuth(); password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}
	for _, ask := range []bool{false, true} {
		c := newScene(t, func(g *gate.Config) {
			helpers, err := verdicts.HelperPrograms{g.Upstream: "ours"}.Find()
			if err != nil {
				t.Fatal(err)
			}
			g.Helpers, g.AskClients = helpers, ask
			if !ask {
				g.Verdicts = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Helpers: helpers})
			}
		})
		if !ask {
			c.store = c.config.Verdicts
			c.use(rules)
		}
		c.upstream(private)
		if ask {
			r := &http.Request{Header: http.Header{}}
			r.SetBasicAuth("ada", "guess")
			c.want(401, "", manifests("v1.2.0"), "Authorization", r.Header.Get("Authorization"))
			continue
		}
		index := c.parts(c.want(200, "", manifests("v1.2.0")).body)
		child := c.parts(c.want(200, "", manifests(index.Manifests[0].Digest.String())).body)
		c.want(200, "", blobs(child.Layers[0]))
		if strings.Contains(c.log.Text(), "s3cret") {
			t.Error("the secret is in the log")
		}
	}
	if runs, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || string(runs) != "run\n" {
		t.Errorf("the program ran %q, %v, want once, and never for clients that send their own", runs, err)
	}
}

// TestHelperSettings: programs that clients would share, or that are for another registry, are refused.
func TestHelperSettings(t *testing.T) {
	base := gate.Settings{Upstream: "https://registry.example.com", Policies: "p", Trust: "t", CredentialHelpers: verdicts.HelperPrograms{"registry.example.com": "x"}}
	if s := base; s.Check() != nil {
		t.Error(s.Check())
	}
	for want, change := range map[string]func(*gate.Settings){
		"clients send their own":     func(s *gate.Settings) { s.Login = "upstream" },
		"expected one of them":       func(s *gate.Settings) { s.Credentials = "file" },
		"with * only before its las": func(s *gate.Settings) { s.CredentialHelpers = verdicts.HelperPrograms{"*": "x"} },
	} {
		s := base
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
