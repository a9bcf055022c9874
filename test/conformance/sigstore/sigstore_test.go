package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// What the suite's README says where a case names no identity and issuer.
const (
	defaultIdentity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	defaultIssuer   = "https://token.actions.githubusercontent.com"
)

// TestCases runs the cases kept here, which are part of every checkout.
func TestCases(t *testing.T) { runCases(t, "testdata/cases", 8) }

// TestSharedCases runs every case of a checkout beside this one.
func TestSharedCases(t *testing.T) {
	const dir = "../../../../shared/data/bundles"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("NOT ASKED FOR: the larger set of cases is not beside this checkout: %v", err)
	}
	runCases(t, dir, 20)
}

func runCases(t *testing.T, dir string, least int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		ran++
		t.Run(e.Name(), func(t *testing.T) { runCase(t, dir, filepath.Join(dir, e.Name())) })
	}
	if ran < least {
		t.Errorf("ran %d cases of %s, want at least %d", ran, dir, least)
	}
}

// runCase verifies the artifact as a file and by its digest.
func runCase(t *testing.T, dir, path string) {
	args := []string{"verify-bundle", "--bundle", filepath.Join(path, "bundle.sigstore.json")}
	if key := filepath.Join(path, "key.pub"); exists(t, key) {
		args = append(args, "--key", key)
	} else {
		args = append(args, "--certificate-identity", text(t, filepath.Join(path, "identity"), defaultIdentity),
			"--certificate-oidc-issuer", text(t, filepath.Join(path, "issuer"), defaultIssuer))
	}
	if trusted := filepath.Join(path, "trusted_root.json"); exists(t, trusted) {
		args = append(args, "--trusted-root", trusted)
	}
	artifact := filepath.Join(path, "artifact")
	if !exists(t, artifact) {
		artifact = filepath.Join(dir, "a.txt")
	}
	content, err := os.ReadFile(artifact)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{artifact, fmt.Sprintf("sha256:%x", sha256.Sum256(content))} {
		err := run(context.Background(), append(args[:len(args):len(args)], subject), io.Discard)
		if fails := strings.HasSuffix(path, "_fail"); fails != (err != nil) {
			t.Errorf("%s: got %v, want failure %v", subject, err, fails)
		}
	}
	// Whatever the case: nothing else was signed.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, append(bytes.Clone(content), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), append(args[:len(args):len(args)], other), io.Discard); err == nil {
		t.Error("another artifact is accepted")
	}
}

// TestSomebodyElse: a good bundle, and the wrong expectation of who signed.
func TestSomebodyElse(t *testing.T) {
	const dir = "testdata/cases/"
	for name, who := range map[string][]string{
		"identity with more":    {"--certificate-identity", defaultIdentity + "x", "--certificate-oidc-issuer", defaultIssuer},
		"identity with less":    {"--certificate-identity", strings.TrimSuffix(defaultIdentity, "n"), "--certificate-oidc-issuer", defaultIssuer},
		"pattern":               {"--certificate-identity", ".*", "--certificate-oidc-issuer", defaultIssuer},
		"issuer":                {"--certificate-identity", defaultIdentity, "--certificate-oidc-issuer", defaultIssuer + "/"},
		"no issuer":             {"--certificate-identity", defaultIdentity},
		"no identity":           {"--certificate-oidc-issuer", defaultIssuer},
		"nobody":                {},
		"a key":                 {"--key", dir + "managed-key-happy-path/key.pub"},
		"a key and an identity": {"--certificate-identity", defaultIdentity, "--certificate-oidc-issuer", defaultIssuer, "--key", dir + "managed-key-happy-path/key.pub"},
		"another root":          {"--certificate-identity", defaultIdentity, "--certificate-oidc-issuer", defaultIssuer, "--trusted-root", dir + "rekor2-happy-path/trusted_root.json"},
	} {
		args := append([]string{"verify-bundle", "--bundle", dir + "happy-path-v0.3/bundle.sigstore.json"}, who...)
		if err := run(context.Background(), append(args, dir+"a.txt"), io.Discard); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBareKey: a key's signature and nothing else, under a root that vouches
// for nobody, and the same where the root keeps a log and it is not in there.
func TestBareKey(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content")
	sum := sha256.Sum256(content)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := json.Marshal(map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "some key"}},
		"messageSignature":     map[string]any{"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": sum[:]}, "signature": sig},
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"artifact": content, "bundle": bundle, "key": public, "root": []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"verify-bundle", "--bundle", filepath.Join(dir, "bundle"), "--key", filepath.Join(dir, "key")}
	bare := append(args[:len(args):len(args)], "--trusted-root", filepath.Join(dir, "root"))
	if err := run(context.Background(), append(bare, filepath.Join(dir, "artifact")), io.Discard); err != nil {
		t.Errorf("got %v, want it accepted", err)
	}
	if err := run(context.Background(), append(args, filepath.Join(dir, "artifact")), io.Discard); err == nil {
		t.Error("it is in no log, and accepted under a root that keeps one")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"verify"}, {"verify-bundle"}, {"verify-bundle", "--bundle", "x"}, {"verify-bundle", "--nonsense", "x"}} {
		if err := run(context.Background(), args, io.Discard); err == nil || !strings.Contains(err.Error(), errUsage.Error()) {
			t.Errorf("%v: got %v, want %v", args, err, errUsage)
		}
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}

func text(t *testing.T, path, otherwise string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return otherwise
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}
