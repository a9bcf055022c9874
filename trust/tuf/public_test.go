package tuf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// TestPublics: what is built in is what it was when it was compared with
// github.com/sigstore/root-signing and the sigstore-go module.
func TestPublics(t *testing.T) {
	for name, issuers := range map[string]int{"sigstore": 27, "github": 2} {
		p, ok := Named(name)
		if !ok {
			t.Fatalf("%s is not built in", name)
		}
		if sum := sha256.Sum256(p.root); hex.EncodeToString(sum[:]) != "a0dfcc5d51c1ce4a66b541a3fff0afa97225ccc40456b21140bb2e2f113122e2" {
			t.Errorf("%s: another root metadata: %x", name, sum)
		}
		if sum := sha256.Sum256(p.copy); hex.EncodeToString(sum[:]) != "6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66" {
			t.Errorf("%s: another trusted root: %x; change its date, too", name, sum)
		}
		r, err := p.Copy()
		if err != nil || len(r.Issuers()) != issuers || !slices.Contains(r.Issuers(), trust.GitHubIssuer) {
			t.Fatalf("%s: got %v, %v, want %d issuers", name, r, err, issuers)
		}
		if got, ok := CopyOf(r); !ok || got.Name != name {
			t.Errorf("%s: the copy is that of %q", name, got.Name)
		}
		if _, err := time.Parse(time.DateOnly, p.Copied); err != nil {
			t.Error(err)
		}
	}
	if _, ok := Named("nobody"); ok {
		t.Error("nobody: got a trust root")
	}
}

// TestPublicIsRefreshed: a copy is replaced by what the repository has, which may not be
// trusted for more, and an unreachable repository is told from a false one.
func TestPublicIsRefreshed(t *testing.T) {
	p, at := prooftest.New(t), newRepo(t)
	const issuer = "https://accounts.example.com"
	public := Public{Name: "test", URL: at.URL, Issuers: []string{issuer}, root: at.pinned(), copy: p.TrustedRoot()}
	at.publish(time.Now().Add(time.Hour), map[string][]byte{"trusted_root.json": p.TrustedRoot()})
	copied, err := public.Copy()
	must(t, err)
	r, err := public.Refresh(t.Context(), copied)
	if err != nil || r.Repository == nil || !slices.Equal(r.Issuers(), []string{issuer}) {
		t.Fatalf("got %+v, %v", r, err)
	}
	wide := public
	wide.Issuers = []string{issuer, trust.GitHubIssuer}
	if _, err := wide.Refresh(t.Context(), copied); err == nil {
		t.Error("the copy is trusted for another issuer, too, and nobody was asked")
	} else if _, ok := errors.AsType[*WiderError](err); !ok {
		t.Errorf("got %v, want a WiderError", err)
	}
	false1 := public
	false1.root = newRepo(t).pinned()
	_, err = false1.Download(t.Context())
	if _, unreached := errors.AsType[*reach.Error](err); err == nil || unreached {
		t.Errorf("root metadata of another repository: got %v, want an error that does not let the copy stand in", err)
	}
	down := public
	down.URL = "http://127.0.0.1:1/tuf"
	_, err = down.Download(t.Context())
	if _, unreached := errors.AsType[*reach.Error](err); !unreached {
		t.Errorf("no repository: got %v, want that it is unreachable", err)
	}
}
