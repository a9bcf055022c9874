package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/authority/ca"
	"github.com/colophon-build/colophon/platform/authority/ctlog"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/authority/tsa"
	"github.com/colophon-build/colophon/trust"
)

// instance is a Sigstore instance of ours on loopback: the trust services of a
// platform, without the rest of it.
type instance struct {
	url, token              string
	trustedRoot, signConfig string // files
}

func startInstance(t *testing.T) *instance {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	i := &instance{url: "http://" + l.Addr().String()}
	keys := filepath.Join(dir, "trust")
	tokens, err := issuer.New(issuer.Config{Dir: keys, URL: i.url})
	fatal(err)
	ct, err := ctlog.New(ctlog.Config{KeyDir: keys, TileDir: filepath.Join(dir, "ct"), URL: i.url})
	fatal(err)
	authority, err := ca.New(ca.Config{Dir: keys, URL: i.url, TokenKey: tokens.PublicKey(), AddPreChain: ct.AddPreChain})
	fatal(err)
	clock, err := tsa.New(tsa.Config{Dir: keys})
	fatal(err)
	log, err := log.New(log.Config{Dir: filepath.Join(dir, "log"), KeyFile: filepath.Join(keys, "log.key"), Origin: "127.0.0.1"})
	fatal(err)
	builder := i.url + "/builders/test/v1"
	documents, err := root.New(root.Config{
		KeyDir: keys, Dir: filepath.Join(dir, "tuf"), URL: i.url, CA: authority.Chain(), TSA: clock.Chain(),
		CT:       root.Log{BaseURL: i.url + "/ct", PublicKey: ct.PublicKey(), Since: ct.Since()},
		Log:      root.Log{Origin: log.Origin(), BaseURL: i.url, PublicKey: log.PublicKey(), KeyID: log.KeyID(), Since: log.Created()},
		Builders: []trust.Builder{{ID: builder, Level: 1}},
	})
	fatal(err)
	mux := http.NewServeMux()
	for _, r := range []interface{ Register(*http.ServeMux) }{tokens, ct, authority, clock, log, documents} {
		r.Register(mux)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(func() {
		server.Close()
		ct.Close(context.Background())
		log.Close(context.Background())
	})
	i.token, err = tokens.Mint(issuer.Claims{BuilderID: builder, RunnerEnvironment: "self-hosted", SourceURI: "https://git.example.com/team/app",
		SourceDigest: strings.Repeat("a", 40), SourceRef: "refs/tags/v1.0.0", BuildTrigger: "release", InvocationURI: i.url + "/runs/1",
		ParametersDigest: "sha256:" + strings.Repeat("c", 64)})
	fatal(err)
	i.trustedRoot, i.signConfig = i.fetch(t, dir, root.TrustedRootPath), i.fetch(t, dir, root.SigningConfigPath)
	return i
}

func (i *instance) fetch(t *testing.T, dir, path string) string {
	t.Helper()
	resp, err := http.Get(i.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	file := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSignBundle signs a file and a statement and verifies both, as the suite
// does with a live instance.
func TestSignBundle(t *testing.T) {
	i := startInstance(t)
	dir := t.TempDir()
	content := filepath.Join(dir, "artifact")
	if err := os.WriteFile(content, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err := attest.NewStatement("artifact", "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73", "https://example.com/test/v1", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	statement := filepath.Join(dir, "statement.json")
	if err := os.WriteFile(statement, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"file": {content}, "statement": {"--in-toto", statement}} {
		bundle := filepath.Join(dir, name+".sigstore.json")
		sign := append([]string{"sign-bundle", "--identity-token", i.token, "--bundle", bundle, "--trusted-root", i.trustedRoot, "--signing-config", i.signConfig}, args...)
		if err := run(context.Background(), sign, io.Discard); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		verify := func(identity string) error {
			return run(context.Background(), []string{"verify-bundle", "--bundle", bundle, "--certificate-identity", identity,
				"--certificate-oidc-issuer", i.url, "--trusted-root", i.trustedRoot, content}, io.Discard)
		}
		if err := verify(i.url + "/builders/test/v1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := verify(i.url + "/builders/test/v2"); err == nil {
			t.Errorf("%s: verifies as somebody else's", name)
		}
		var b map[string]json.RawMessage
		if got, err := os.ReadFile(bundle); err != nil || json.Unmarshal(got, &b) != nil || (len(b["messageSignature"]) > 0) != (name == "file") {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	if err := run(context.Background(), []string{"sign-bundle", "--identity-token", "forged", "--bundle", filepath.Join(dir, "none"), "--trusted-root", i.trustedRoot, "--signing-config", i.signConfig, content}, io.Discard); err == nil {
		t.Error("signs with a forged token")
	}
}
