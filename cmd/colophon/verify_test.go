package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// stage is a loopback registry with one released image, and an empty trust store.
type stage struct {
	t     *testing.T
	p     *prooftest.Platform
	image string // HOST/team/app:v1.2.0
	host  string
	stop  func()
	asked *atomic.Int64 // requests to the registry
}

func newStage(t *testing.T) *stage { return stageOf(t, func(*prooftest.Release) {}) }

// stageOf returns a stage whose release change has modified.
func stageOf(t *testing.T, change func(*prooftest.Release)) *stage {
	return stageWith(t, func(_ *prooftest.Platform, _ *prooftest.Store, r *prooftest.Release) { change(r) })
}

// stageWith is like stageOf, and change can also store more beside the release.
func stageWith(t *testing.T, change func(*prooftest.Platform, *prooftest.Store, *prooftest.Release)) *stage {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	handler, asked := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))), new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); handler.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	p, store := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(store)
	change(p, store, r)
	r.Attach(prooftest.Kinds...)
	dst, err := oci.OpenRegistry(host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store.Push(context.Background(), dst)
	return &stage{t: t, p: p, image: host + "/team/app:v1.2.0", host: host, stop: srv.Close, asked: asked}
}

// run runs one command. It fails the test unless the command exits with code and
// prints all words on stdout or stderr.
func (s *stage) run(code int, args []string, words ...string) (stdout string) {
	s.t.Helper()
	cmd := newRootCommand()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(strings.NewReader("y\n"))
	got := execute(context.Background(), cmd)
	if got != code {
		s.t.Fatalf("%v: got exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	for _, w := range words {
		if !strings.Contains(out.String()+errs.String(), w) {
			s.t.Errorf("%v: got\n%s%s\nwant %q in it", args, &out, &errs, w)
		}
	}
	return out.String()
}

func (s *stage) file(name string, data []byte) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func TestVerifyCommand(t *testing.T) {
	s := newStage(t)
	verify := func(args ...string) []string {
		return append([]string{"verify", s.image, "--skip-source"}, args...)
	}
	right := verify("--source", "git.example.com/team/app")
	s.run(exitUsage, verify(), "which repository", "--source")
	s.run(exitUsage, verify("--source", "x"), "colophon: --source: the repository address must")
	s.run(exitUsage, verify("--source", "git.example.com/team/app", "--any-source"), "any-source")
	s.run(exitUsage, verify("--nonsense"), "nonsense")
	s.run(exitUndecided, right, "no trust root yet", "trust add")
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	s.run(exitOK, right, "  ✓ image       linux/amd64, linux/arm64; the registry serves these bytes\n", "\naccepted\n")
	s.run(exitRejected, verify("--source", "git.example.com/team/other"), "✗ provenance", "\nrejected\n")
	s.run(exitRejected, verify("--source", "git.example.com/team/app", "--ref", "v1.2.1"), `want "v1.2.1"`)
	s.run(exitRejected, verify("--source", "git.example.com/team/app", "--builder", "https://b.example.com/builders/x"), "signer")
	s.run(exitOK, verify("--any-source", "--commit", prooftest.Commit), "accepted", "dangerous: any source is accepted")
	s.run(exitOK, verify("--any-source", "--json"), `"dangers": [`)
	s.run(exitOK, append(verify("--any-source"), s.image), "dangerous: any source is accepted")
	s.run(exitOK, verify("--source", "git.example.com/team/app", "--versioned-tag", "v1.2"), "accepted")
	s.run(exitRejected, verify("--source", "git.example.com/team/app", "--versioned-tag", "v1.20"), `want "v1.20"`)
	s.run(exitRejected, verify("--source", "git.example.com/team/app", "--workflow-input", "dry=false"), "workflow input dry")
	s.run(exitUsage, verify("--source", "git.example.com/team/app", "--workflow-input", "dry"), "NAME=VALUE")
	s.run(exitUsage, verify("--source", "git.example.com/team/app", "--versioned-tag", "v1", "--tag", "v1.2.0"), "versioned-tag")
	s.run(exitOK, verify("--policy", s.file("policy.json", []byte(`{"source":"https://git.example.com/team/app","minLevel":2}`))), "accepted")
	s.run(exitRejected, verify("--policy", s.file("policy.json", []byte(`{"source":"https://git.example.com/team/app","minLevel":3}`))), "Build level")
	s.run(exitUsage, verify("--policy", s.file("policy.json", []byte(`{"sauce":"x"}`))), "sauce")

	var v struct{ Outcome, Image, Digest string }
	if err := json.Unmarshal([]byte(s.run(exitOK, append(right, "--json"))), &v); err != nil || v.Outcome != "accepted" || v.Image != s.image {
		t.Errorf("JSON: got %+v, %v", v, err)
	}
	s.run(exitUndecided, []string{"verify", s.host + "/team/app:v9", "--any-source"}, "? image", "undecided")
	s.run(exitUndecided, []string{"verify", "./no-such-layout", "--any-source", "--json"}, `"outcome": "undecided"`)
	s.stop()
	s.run(exitUndecided, right, "? image", "\nundecided\n")
}

func TestTrustCommand(t *testing.T) {
	s := newStage(t)
	doc := s.p.Document()
	var served []byte
	mux := http.NewServeMux()
	mux.HandleFunc(api.PathDocument, func(w http.ResponseWriter, _ *http.Request) { w.Write(served) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, api.PathDocument, http.StatusFound) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	at := *s.p
	at.URL, at.Issuers = srv.URL, []string{"https://accounts.example.com"}
	served = at.Document()
	fingerprint := s.p.Root().Fingerprint

	s.run(exitUsage, []string{"trust", "add", "builds.example.com", "--yes"}, "hint: a platform is named by its URL: colophon trust add https://builds.example.com")
	s.run(exitUsage, []string{"trust", "add", "githup", "--yes"}, "hint: did you mean github?")
	s.run(exitUsage, []string{"trust", "add", srv.URL}, "sha256:", "cannot ask you to confirm", "--yes")
	s.run(exitOK, []string{"trust", "list"}, "no trust root yet")
	s.run(exitRejected, []string{"trust", "add", srv.URL, "--fingerprint", "sha256:00"}, "expected fingerprint \"sha256:00\"")
	s.run(exitOK, []string{"trust", "add", srv.URL, "--yes"}, srv.URL, "issuer    "+srv.URL, "issuer    https://accounts.example.com", srv.URL+"/builders/buildkit/v1, Build L2")
	served = append(served, '\n')
	s.run(exitOK, []string{"trust", "add", srv.URL, "--yes"}, "replaces  sha256:", "changes   keys")
	at.Level, at.Issuers = 3, []string{"https://accounts.example.com", trust.GitHubIssuer}
	served = at.Document()
	s.run(exitOK, []string{"trust", "add", srv.URL, "--yes"}, "replaces  sha256:", "changes   builder "+srv.URL+"/builders/buildkit/v1: Build L3, was L2", "changes   vouches for issuer "+trust.GitHubIssuer)
	if out := s.run(exitOK, []string{"trust", "list"}); strings.Count(out, "sha256:") != 1 || !strings.Contains(out, "vouches for "+srv.URL+" and 2 more") ||
		!strings.Contains(out, "for        images built by "+srv.URL+"/builders/buildkit/v1, up to Build L3") || !strings.Contains(out, "authority  CN=test ca, trusted from ") {
		t.Errorf("list: got %q, want one trust root, and what for", out)
	}
	served = doc
	s.run(exitFailure, []string{"trust", "add", srv.URL, "--yes"}, "belongs to another platform")
	s.run(exitFailure, []string{"trust", "add", srv.URL + "/moved", "--yes"}, "redirects")
	s.run(exitUsage, []string{"trust", "add", "http://platform.example.com", "--yes"}, "loopback")
	s.run(exitOK, []string{"trust", "add", s.file("doc.json", doc), "--fingerprint", fingerprint}, "trusted")
	if out := s.run(exitOK, []string{"trust", "show", "--raw", fingerprint}); out != string(doc) {
		t.Errorf("show --raw: got %q, want the document", out)
	}
	s.run(exitOK, []string{"trust", "remove", fingerprint}, "no longer trusted")
	s.run(exitFailure, []string{"trust", "show", fingerprint}, "is not a trust root")

	// A trusted_root.json names no issuers: whoever adds it does.
	plain := s.file("root.json", s.p.TrustedRoot())
	s.run(exitOK, []string{"trust", "add", plain, "--yes"}, "issuer    none")
	scoped := s.p.PlainRoot("https://accounts.example.com")
	s.run(exitOK, []string{"trust", "add", plain, "--yes", "--issuer", "https://accounts.example.com"}, s.p.PlainRoot().Fingerprint, "pinned as "+scoped.Pin(), "issuer    https://accounts.example.com")
	s.run(exitOK, []string{"trust", "show", scoped.Pin()}, "issuer    https://accounts.example.com")
	s.run(exitUsage, []string{"trust", "add", plain, "--yes", "--issuer", "http://accounts.example.com"}, "want an https URL")
	s.run(exitUsage, []string{"trust", "add", s.file("doc.json", doc), "--yes", "--issuer", "https://accounts.example.com"}, "says which issuers")
}
