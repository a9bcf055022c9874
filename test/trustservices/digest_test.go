package trustservices

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/platform/authority/root"
	ours "github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"
)

// TestDigest: a signature of a digest alone is, to stock clients, a signature of the content
// with this digest.
func TestDigest(t *testing.T) {
	s := start(t, t.TempDir(), "127.0.0.1:0")
	config, err := ours.ParseConfig(s.get(t, root.SigningConfigPath))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := trust.Parse(s.get(t, root.DocumentPath))
	if err != nil {
		t.Fatal(err)
	}
	session, err := ours.Open(t.Context(), config, trusted.Material, s.token(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("a manifest")
	sum := sha256.Sum256(content)
	raw, err := session.Digest(t.Context(), v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])})
	if err != nil {
		t.Fatal(err)
	}
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	builder := s.url + "/builders/test/v1"
	if err := check(s, s.trusted(t), b, content, builder); err != nil {
		t.Errorf("sigstore-go, with the content: %v", err)
	}
	if err := check(s, s.trusted(t), b, []byte("another manifest"), builder); err == nil {
		t.Error("sigstore-go accepts other content")
	}
	v, err := verify.NewVerifier(s.trusted(t), verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithSignedTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	id, err := verify.NewShortCertificateIdentity(s.url, "", builder, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", sum[:]), verify.WithCertificateIdentity(id))); err != nil {
		t.Errorf("sigstore-go, with the digest: %v", err)
	}
	for _, wrong := range []v1.Hash{{}, {Algorithm: "sha512", Hex: strings.Repeat("a", 64)}, {Algorithm: "sha256", Hex: "abc"}, {Algorithm: "sha256", Hex: strings.Repeat("a", 62)}} {
		if _, err := session.Digest(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "want sha256") {
			t.Errorf("%v: got %v", wrong, err)
		}
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ours.OpenKey(config, trusted.Material, large)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Digest(t.Context(), v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}); err == nil || !strings.Contains(err.Error(), "SHA-384") {
		t.Errorf("a key that signs SHA-384: got %v", err)
	}
}
