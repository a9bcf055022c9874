package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

const vsaType = "https://slsa.dev/verification_summary/v1"

// keyPair writes a key pair in the formats of openssl, PKCS #8 and PKIX.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{private: {Type: "PRIVATE KEY", Bytes: pkcs8}, public: {Type: "PUBLIC KEY", Bytes: spki}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// TestVerificationSummary signs a verdict as a VSA. Stock cosign accepts it, and so do
// consumers who trust the verifier, but no others.
func TestVerificationSummary(t *testing.T) {
	staff := newPeople(t)
	p := harness.Start(t, "--config", harness.Config(t, staff.ForPeople()))
	p.Trust()
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), image: p.Addr + "/team/app:v1.0.0"}
	out, err := p.Colophon(t.Context(), "release", harness.GoRepo(t), "--ref", "v1.0.0", "--image", p.Addr+"/team/app", "--json").Output()
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	b.root = filepath.Join(b.home, "trusted_root.json")
	if err := os.WriteFile(b.root, p.Get("/trusted_root.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(code int, words string, args ...string) {
		t.Helper()
		cmd := p.Colophon(context.Background(), append([]string{"verify"}, args...)...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code || !strings.Contains(string(out), words) {
			t.Fatalf("verify %s: got exit code %d, want %d and %q\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), code, words, out)
		}
	}
	key, public := keyPair(t)
	pub, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	const id = "https://verifier.example.com/release"
	demand := func(id, signer, more string) string {
		path := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"verifiers":[{"id":%q,"signer":%s}]%s}`, id, signer, more), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	byKey := fmt.Sprintf(`{"key":%q}`, pub)
	byAda := fmt.Sprintf(`{"identity":"ada@example.com","issuer":%q}`, staff.URL)

	verify(3, "there is no verification summary", b.image, "--policy", demand(id, byKey, ""))
	verify(0, "accepted", b.image, "--source", r.Source.URI, "--skip-source", "--vsa", "attach", "--verifier", id, "--sign-key", key)
	b.run(t, "cosign", "verify-attestation", "--key", public, "--trusted-root", b.root, "--type", vsaType, b.image)
	verify(0, "✓ summary", b.image, "--policy", demand(id, byKey, ""))
	verify(0, "accepted", b.image, "--policy", demand(id, byKey, `,"minLevel":1`))
	verify(3, "want at least 3", b.image, "--policy", demand(id, byKey, `,"minLevel":3`))
	verify(3, "verifier: got", b.image, "--policy", demand(id+"s", byKey, ""))
	verify(3, "✗ summary", b.image, "--policy", demand(id, byAda, ""))

	// Sign a rejection with a token, and write it to a file.
	bundle := filepath.Join(t.TempDir(), "vsa.json")
	verify(3, "rejected", b.image, "--source", "git.example.com/another", "--vsa", bundle, "--verifier", id, "--identity-token-file", staff.token(t, nil))
	b.run(t, "cosign", "verify-blob-attestation", "--bundle", bundle, "--trusted-root", b.root, "--type", vsaType, "--certificate-identity", "ada@example.com",
		"--certificate-oidc-issuer", staff.URL, "--digest", strings.TrimPrefix(r.Digest, "sha256:"), "--digestAlg", "sha256")
	verify(0, "accepted", b.image, "--source", r.Source.URI, "--skip-source", "--vsa", "attach", "--verifier", id, "--identity-token-file", staff.token(t, nil))
	verify(0, "✓ summary", b.image, "--policy", demand(id, byAda, ""))
	verify(3, "✗ summary", b.image, "--policy", demand(id, strings.Replace(byAda, "ada@", "bob@", 1), ""))

	// A later failure by the same verifier overrides the pass. An undecided verdict makes no
	// summary.
	verify(3, "rejected", b.image, "--source", "git.example.com/another", "--vsa", "attach", "--verifier", id, "--sign-key", key)
	verify(3, `got "FAILED"`, b.image, "--policy", demand(id, byKey, ""))
	none := filepath.Join(t.TempDir(), "none.json")
	verify(4, "undecided", p.Addr+"/team/app:v9", "--source", r.Source.URI, "--vsa", none, "--verifier", id, "--sign-key", key)
	if _, err := os.Stat(none); err == nil {
		t.Error("an undecided verdict left a summary")
	}
}
