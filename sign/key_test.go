package sign_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/sign"
)

func TestParseKey(t *testing.T) {
	pkcs8 := func(kind string, key any) string {
		t.Helper()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	ec := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		t.Helper()
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ofRSA := func(bits int) *rsa.PrivateKey {
		t.Helper()
		t.Setenv("GODEBUG", "rsa1024min=0") // to make weak ones
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for want, key := range map[string]crypto.Signer{
		"PKIX_ECDSA_P256_SHA_256": ec(elliptic.P256()), "PKIX_ECDSA_P384_SHA_384": ec(elliptic.P384()), "PKIX_ECDSA_P521_SHA_512": ec(elliptic.P521()),
		"PKIX_RSA_PKCS1V15_2048_SHA256": ofRSA(2048), "PKIX_RSA_PKCS1V15_3072_SHA256": ofRSA(3072),
	} {
		got, err := sign.ParseKey([]byte(pkcs8("PRIVATE KEY", key)), nil)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if equal := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !equal.Equal(got.Public()) {
			t.Errorf("%s: got another key", want)
		}
		if a, err := sign.Algorithm(got.Public()); err != nil || a.GetSignatureAlgorithm().String() != want {
			t.Errorf("got %s, %v, want %s", a.GetSignatureAlgorithm(), err, want)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8("PRIVATE KEY", ec(elliptic.P256()))
	for name, tt := range map[string]struct{ pem, want string }{
		"nothing":       {"", "want one PEM block"},
		"another kind":  {pkcs8("EC PRIVATE KEY", ec(elliptic.P256())), "got a PEM block \"EC PRIVATE KEY\""},
		"two keys":      {good + good, "want one PEM block"},
		"another curve": {pkcs8("PRIVATE KEY", ec(elliptic.P224())), "got ECDSA with the curve P-224, want ECDSA with the curve P-256"},
		"weak RSA":      {pkcs8("PRIVATE KEY", ofRSA(1024)), "got RSA of 1024 bits, want"},
		"odd RSA":       {pkcs8("PRIVATE KEY", ofRSA(2056)), "got RSA of 2056 bits, want"},
		"Ed25519":       {pkcs8("PRIVATE KEY", ed), "cosign verifies no Ed25519 signature of a digest"},
		"no signer":     {pkcs8("PRIVATE KEY", exchange), "got type *ecdh.PrivateKey"},
		"malformed":     {strings.Replace(good, "M", "A", 1), "asn1"},
	} {
		if _, err := sign.ParseKey([]byte(tt.pem), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
	// An exponent with which signatures can be forged, if the verifier is careless.
	weak := ofRSA(2048).PublicKey
	weak.E = 3
	if _, err := sign.Algorithm(&weak); err == nil {
		t.Error("an RSA key with the exponent 3: got no error")
	}
}

// A session needs to know its services, and whom to trust.
func TestOpenRequires(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign.OpenKey(nil, nil, key); err == nil {
		t.Error("without a signing config and a trusted root: got a session")
	}
	if _, err := sign.Open(t.Context(), nil, nil, "token", nil); err == nil {
		t.Error("without a signing config and a trusted root: got a session")
	}
}
