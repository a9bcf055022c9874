package issuer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/test/await"
)

func honest(url string) Claims {
	return Claims{
		BuilderID: url + "/builders/buildkit/v1", BuilderDigest: strings.Repeat("b", 40), RunnerEnvironment: "self-hosted",
		SourceURI: "https://git.example.com/team/app", SourceDigest: strings.Repeat("a", 40), SourceRef: "refs/tags/v1.2.0",
		BuildTrigger: "release", InvocationURI: url + "/api/v1/releases/0123", ParametersDigest: "sha256:" + strings.Repeat("c", 64),
	}
}

// A client that knows nothing but the URL verifies a token.
func TestTokenVerifiesByDiscovery(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	s, err := New(Config{Dir: t.TempDir(), URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	s.Register(mux)
	provider, err := oidc.NewProvider(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		token, err := s.Mint(honest(srv.URL))
		if err != nil {
			t.Fatal(err)
		}
		id, err := provider.Verifier(&oidc.Config{ClientID: Audience}).Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if life := id.Expiry.Sub(id.IssuedAt); life > 5*time.Minute {
			t.Errorf("got a life of %s, want at most 5 minutes", life)
		}
		if id.Subject != srv.URL+"/builders/buildkit/v1" {
			t.Errorf("got subject %q", id.Subject)
		}
		var c struct {
			JTI string `json:"jti"`
			Claims
		}
		if err := id.Claims(&c); err != nil {
			t.Fatal(err)
		}
		if c.Claims != honest(srv.URL) {
			t.Errorf("got claims %+v", c.Claims)
		}
		if len(c.JTI) < 26 || seen[c.JTI] { // 128 bits in base32
			t.Errorf("got jti %q, want one of its own", c.JTI)
		}
		seen[c.JTI] = true
	}
	resp, err := http.Post(srv.URL+"/token", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("a token can be had over the network")
	}
}

func TestDishonestClaimsAreRefused(t *testing.T) {
	const url = "http://127.0.0.1:8080"
	s, err := New(Config{Dir: t.TempDir(), URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Mint(honest(url)); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Claims){
		"builder elsewhere":       func(c *Claims) { c.BuilderID = "https://evil.example/builders/x" },
		"builder prefix only":     func(c *Claims) { c.BuilderID = url + "/builders/" },
		"builder by similar host": func(c *Claims) { c.BuilderID = url + ".evil.example/builders/x" },
		"builder climbs":          func(c *Claims) { c.BuilderID = url + "/builders/../x" },
		"builder escaped":         func(c *Claims) { c.BuilderID = url + "/builders/%2e%2e/x" },
		"builder query":           func(c *Claims) { c.BuilderID = url + "/builders/x?y" },
		"builder missing":         func(c *Claims) { c.BuilderID = "" },
		"commit short":            func(c *Claims) { c.SourceDigest = "abc123" },
		"commit upper case":       func(c *Claims) { c.SourceDigest = strings.Repeat("A", 40) },
		"commit newline":          func(c *Claims) { c.SourceDigest += "\n" },
		"commit missing":          func(c *Claims) { c.SourceDigest = "" },
		"ref not full":            func(c *Claims) { c.SourceRef = "v1.2.0" },
		"ref control character":   func(c *Claims) { c.SourceRef = "refs/tags/v1\x00" },
		"ref right to left":       func(c *Claims) { c.SourceRef = "refs/tags/\u202ev1" },
		"source over-long":        func(c *Claims) { c.SourceURI += strings.Repeat("a", 2000) },
		"source relative":         func(c *Claims) { c.SourceURI = "team/app" },
		"source with password":    func(c *Claims) { c.SourceURI = "https://u:secret@git.example.com/x" },
		"source not UTF-8":        func(c *Claims) { c.SourceURI += "\xff" },
		"invocation elsewhere":    func(c *Claims) { c.InvocationURI = "https://evil.example/1" },
		"trigger a sentence":      func(c *Claims) { c.BuildTrigger = "by hand" },
		"environment missing":     func(c *Claims) { c.RunnerEnvironment = "" },
		"parameters missing":      func(c *Claims) { c.ParametersDigest = "" },
		"parameters digest":       func(c *Claims) { c.ParametersDigest = strings.Repeat("c", 64) },
		"builder digest":          func(c *Claims) { c.BuilderDigest = "sha256:12" },
	} {
		c := honest(url)
		spoil(&c)
		if token, err := s.Mint(c); err == nil {
			t.Errorf("%s: got token %s", name, token)
		}
	}
}

func TestTokensOverASocket(t *testing.T) {
	const url = "http://127.0.0.1:8080"
	s, err := New(Config{Dir: t.TempDir(), URL: url})
	if err != nil {
		t.Fatal(err)
	}
	serve := func(users peer.Users) Client {
		c := Client{peer.At(filepath.Join(t.TempDir(), "issuer.sock"))}
		l, err := peer.Listen(c.At.Socket, -1)
		if err != nil {
			t.Fatal(err)
		}
		await.Background(t, func(ctx context.Context) error {
			return peer.Serve(ctx, l, users, peer.Allow(s.Tokens(), "attestor"))
		})
		return c
	}
	ours := serve(peer.Users{"attestor": os.Getuid()})
	if _, err := ours.Token(t.Context(), honest(url)); err != nil {
		t.Error(err)
	}
	if _, err := ours.Token(t.Context(), Claims{}); err == nil {
		t.Error("empty claims got a token")
	}
	for name, users := range map[string]peer.Users{
		"another role": {"attestor": 65534, "builder": os.Getuid()},
		"no role":      {"attestor": 65534},
	} {
		if token, err := serve(users).Token(t.Context(), honest(url)); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: got token %q and error %v, want 403", name, token, err)
		}
	}
}

func TestOriginMustBePlain(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:8080", "http://h/", "http://h/x", "ftp://h", "http://u@h", "http://h?x"} {
		if _, err := New(Config{Dir: t.TempDir(), URL: url}); err == nil {
			t.Errorf("URL %q was accepted", url)
		}
	}
}
