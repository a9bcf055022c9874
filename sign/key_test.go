package sign_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/sign"
)

func TestParseKey(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(kind string, key any) string {
		t.Helper()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	good := pkcs8("PRIVATE KEY", p256)
	if got, err := sign.ParseKey([]byte(good), nil); err != nil || !got.Equal(p256) {
		t.Errorf("got another key, %v", err)
	}
	for name, tt := range map[string]struct{ pem, want string }{
		"nothing":       {"", "want one PEM block"},
		"another kind":  {pkcs8("EC PRIVATE KEY", p256), "got a PEM block \"EC PRIVATE KEY\""},
		"two keys":      {good + good, "want one PEM block"},
		"another curve": {pkcs8("PRIVATE KEY", p384), "curve P-256"},
		"Ed25519":       {pkcs8("PRIVATE KEY", ed), "curve P-256"},
		"malformed":     {strings.Replace(good, "M", "A", 1), "asn1"},
	} {
		if _, err := sign.ParseKey([]byte(tt.pem), nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
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
