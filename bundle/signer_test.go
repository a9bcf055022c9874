package bundle_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
)

func TestSignerMatch(t *testing.T) {
	id := certificate.Summary{SubjectAlternativeName: "dev@example.com", Extensions: certificate.Extensions{Issuer: "https://login.example.com"}}
	const issuer = "https://login.example.com"
	for name, tt := range map[string]struct {
		signer bundle.Signer
		want   string // in the error; "" matches
	}{
		"whole name":        {bundle.Signer{Identity: "dev@example.com", Issuer: issuer}, ""},
		"part of the name":  {bundle.Signer{Identity: "dev@example", Issuer: issuer}, "signer: got"},
		"pattern":           {bundle.Signer{Pattern: regexp.MustCompile(`^[a-z]+@example\.com$`), Issuer: issuer}, ""},
		"another pattern":   {bundle.Signer{Pattern: regexp.MustCompile(`^ops@`), Issuer: issuer}, "want a name that matches"},
		"another issuer":    {bundle.Signer{Identity: "dev@example.com", Issuer: issuer + "/"}, "issuer of the signer's certificate"},
		"no issuer":         {bundle.Signer{Identity: "dev@example.com"}, "expected signer must be"},
		"nobody":            {bundle.Signer{}, "expected signer must be"},
		"a key":             {bundle.Signer{Key: publicKey(t)}, "a key was expected"},
		"a key and a name":  {bundle.Signer{Key: publicKey(t), Identity: "dev@example.com", Issuer: issuer}, "a key was expected"},
		"the name and more": {bundle.Signer{Identity: "dev@example.com", Pattern: regexp.MustCompile(`^ops@`), Issuer: issuer}, "want a name that matches"},
	} {
		if err := tt.signer.Match(id); !says(err, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	nameless := bundle.Signer{Identity: "x", Issuer: issuer}
	if err := nameless.Match(certificate.Summary{}); err == nil {
		t.Error("a certificate without a name matches")
	}
}

// TestOneSigner: a certificate that names two signers, or two issuers, names none.
func TestOneSigner(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	statement := rel.Statement(attest.PredicateSign)
	verify := func(id prooftest.Identity) *bundle.Result {
		b, err := bundle.Parse(p.Sign(id, statement))
		if err != nil {
			t.Fatal(err)
		}
		return b.Verify(bundle.Subject{Digest: rel.Image.Digest}, p.Root().Material, time.Now())
	}
	if err := verify(rel.Identity).Err(); err != nil {
		t.Fatal(err)
	}
	two := rel.Identity
	two.More = []string{"https://b.example.com/builders/x"}
	if err := verify(two).Err(); err == nil || !strings.Contains(err.Error(), "got 2 subject alternative names") {
		t.Errorf("two names: got %v", err)
	}
	for _, old := range []string{prooftest.URL + "/", "https://b.example.com"} {
		id := rel.Identity
		id.OldIssuer = old
		if err := verify(id).Err(); err == nil || !strings.Contains(err.Error(), "want one") {
			t.Errorf("issuer %q in the old extension: got %v", old, err)
		}
	}
	same := rel.Identity
	same.OldIssuer = same.Issuer
	if err := verify(same).Err(); err != nil {
		t.Errorf("the same issuer in both extensions: got %v", err)
	}
}

// TestHash: a key signs with the hash that is named, and with no other.
func TestHash(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(`{"critical":{"identity":{"docker-reference":"r.example.com/app"},"image":{"docker-manifest-digest":"sha256:` + strings.Repeat("ab", 32) + `"},"type":"cosign container image signature"},"optional":null}`)
	sum := sha512.Sum512(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.ParseCosign2Signature(payload, map[string]string{attest.Cosign2Signature: base64.StdEncoding.EncodeToString(sig)})
	if err != nil {
		t.Fatal(err)
	}
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}}
	for hash, valid := range map[crypto.Hash]bool{0: false, crypto.SHA256: false, crypto.SHA384: false, crypto.SHA512: true} {
		r := b.VerifyBy(bundle.Signer{Key: key.Public(), Hash: hash, InsecureNoLog: true}, subject, new(root.BaseTrustedMaterial), time.Now())
		if (r.Err() == nil) != valid {
			t.Errorf("%v: got %v", hash, r.Err())
		}
	}
}

// TestSignerSays: a signer has words for people, whatever names it.
func TestSignerSays(t *testing.T) {
	for want, s := range map[string]bundle.Signer{
		"ada@example.com": {Identity: "ada@example.com", Issuer: "https://issuer.example.com"},
		"an identity that matches ^.*@example.com$": {Pattern: regexp.MustCompile(`^.*@example.com$`), Issuer: "https://issuer.example.com"},
		"the key given": {Key: ed25519.PublicKey{}},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
