package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// TestTrustLines adds several trusted roots, one a line, as `gh attestation trusted-root`
// prints them: that of the public instance, and one that names no issuers.
func TestTrustLines(t *testing.T) {
	const github = "https://token.actions.githubusercontent.com"
	var public bytes.Buffer
	if err := json.Compact(&public, read(t, "../../trust/tuf/sigstore_trusted_root.json")); err != nil {
		t.Fatal(err)
	}
	p := prooftest.New(t)
	var own bytes.Buffer
	if err := json.Compact(&own, p.TrustedRoot()); err != nil {
		t.Fatal(err)
	}
	pin := func(raw []byte) string {
		r, err := trust.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return r.Pin()
	}
	publicRoot, err := trust.Parse(public.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	first, second := pin(public.Bytes()), pin(own.Bytes())
	fresh := func() *stage {
		t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
		return &stage{t: t, p: p}
	}
	s := fresh()
	lines := s.file("roots.jsonl", []byte(public.String()+"\n"+own.String()+"\n"))
	none := func(code int, args []string, words ...string) {
		t.Helper()
		s := fresh()
		s.run(code, append([]string{"trust", "add"}, args...), words...)
		if roots, err := pinned(nil); len(roots) != 0 {
			t.Errorf("got %d roots, %v, want none", len(roots), err)
		}
	}
	none(exitUsage, []string{lines}, first, second, "standard input is not a terminal")
	none(exitRejected, []string{lines, "--fingerprint", first}, "expected fingerprint", second)
	none(exitRejected, []string{lines, "--fingerprint", first, "--fingerprint", first}, "expected fingerprint")
	none(exitRejected, []string{lines, "--fingerprint", second, "--fingerprint", first, "--fingerprint", second}, "expected fingerprint")
	none(exitFailure, []string{s.file("bad.jsonl", []byte(public.String()+"\n{}\n")), "--yes"}, "bad.jsonl")
	none(exitFailure, []string{s.file("cut.jsonl", []byte(public.String()+"\n{")), "--yes"}, "cut.jsonl")
	none(exitFailure, []string{s.file("many.jsonl", []byte(strings.Repeat(public.String()+"\n", 17))), "--yes"}, "more than 16 trust roots")

	s = fresh()
	s.run(exitOK, []string{"trust", "add", lines, "--fingerprint", second, "--fingerprint", first, "--issuer", github}, first, second, "trusted")
	roots, err := pinned(nil)
	if err != nil || len(roots) != 2 {
		t.Fatalf("got %d roots, %v, want both", len(roots), err)
	}
	for _, r := range roots {
		// The public instance keeps its issuers, and its pin with them.
		want := []string{github}
		if r.Pin() == first {
			want = publicRoot.Issuers()
		}
		if !slices.Equal(r.Issuers(), want) {
			t.Errorf("%s vouches for %q, want %q", r.Pin(), r.Issuers(), want)
		}
	}
	if !slices.ContainsFunc(roots, func(r *trust.Root) bool { return r.Pin() == first }) {
		t.Error("the public instance is not pinned as it was printed")
	}
	// A file that verifies under the public root does so after that.
	const here = "testdata/github-attestation/"
	s.run(exitOK, []string{"verify", here + "MODULE.bazel", "--bundle", here + "MODULE.bazel.intoto.jsonl", "--source", "github.com/aspect-build/rules_lint", "--offline"}, "accepted")
}

// TestTrustAddAgain: a platform whose trust services start again is asked again.
func TestTrustAddAgain(t *testing.T) {
	s := newStage(t)
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 1 {
			http.Error(w, "trust does not answer; it may be restarting", http.StatusServiceUnavailable)
			return
		}
		w.Write(s.p.TrustedRoot())
	}))
	defer srv.Close()
	s.run(exitOK, []string{"trust", "add", srv.URL, "--yes", "--issuer", "https://accounts.example.com"}, "trusted")
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
}
