package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"

	"github.com/colophon-build/colophon/tlog"
)

// TestSignatureOfAnother: a signature that is remembered as valid makes no other key, digest or
// signature valid, and one that was refused stays so.
func TestSignatureOfAnother(t *testing.T) {
	key, other := newKey(t), newKey(t)
	digest := sha256.Sum256([]byte("a message"))
	sign := func(key *ecdsa.PrivateKey) []byte {
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	good := sign(key)
	bent := slices.Clone(good)
	bent[len(bent)-1] ^= 1
	for range 3 { // the second time from memory
		for name, tt := range map[string]struct {
			key    *ecdsa.PublicKey
			digest [sha256.Size]byte
			sig    []byte
			want   bool
		}{
			"this one":            {&key.PublicKey, digest, good, true},
			"another key":         {&other.PublicKey, digest, good, false},
			"another digest":      {&key.PublicKey, sha256.Sum256([]byte("another")), good, false},
			"one bit":             {&key.PublicKey, digest, bent, false},
			"a byte more":         {&key.PublicKey, digest, append(slices.Clone(good), 0), false},
			"none":                {&key.PublicKey, digest, nil, false},
			"the other's":         {&other.PublicKey, digest, sign(other), true},
			"the other's, of key": {&key.PublicKey, digest, sign(other), false},
		} {
			if got := verifyOnce(tt.key, tt.digest, tt.sig); got != tt.want {
				t.Errorf("%s: got valid %v, want %v", name, got, tt.want)
			}
		}
	}
}

// TestCheckpointOfAnother: a checkpoint that one log signed is no checkpoint of another log, or of
// another key under the same name.
func TestCheckpointOfAnother(t *testing.T) {
	key, other := newKey(t), newKey(t)
	message := []byte("log.example.com\n2\n")
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, tt := range []struct {
			key     *ecdsa.PublicKey
			message string
			want    bool
		}{{&key.PublicKey, string(message), true}, {&other.PublicKey, string(message), false}, {&key.PublicKey, "log.example.com\n3\n", false}} {
			v, err := tlog.NewVerifier("log.example.com", tt.key)
			if err != nil {
				t.Fatal(err)
			}
			if got := shared(v, tt.key).Verify([]byte(tt.message), sig); got != tt.want {
				t.Errorf("%q: got valid %v, want %v", tt.message, got, tt.want)
			}
		}
	}
}

// TestCertificateOfAnother: a certificate that is remembered is that of its own bytes, and bytes that
// are no certificate stay so.
func TestCertificateOfAnother(t *testing.T) {
	key := newKey(t)
	var ders [][]byte
	for serial := range int64(3) {
		template := &x509.Certificate{SerialNumber: big.NewInt(serial + 1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		ders = append(ders, der)
	}
	bent := slices.Clone(ders[0])
	bent[len(bent)-1] ^= 1 // the signature; it can be parsed
	ders = append(ders, bent)
	first := make([]*x509.Certificate, len(ders))
	for round := range 3 {
		for i, der := range ders {
			cert, err := parseOnce(slices.Clone(der))
			if err != nil || !bytes.Equal(cert.Raw, der) {
				t.Fatalf("round %d, certificate %d: got another one, or %v", round, i, err)
			}
			if round == 0 {
				first[i] = cert
			} else if cert != first[i] {
				t.Errorf("round %d, certificate %d: it was parsed again", round, i)
			}
		}
		if cert, err := parseOnce(ders[0][1:]); err == nil || cert != nil {
			t.Errorf("round %d: got %v and no error for what is no certificate", round, cert)
		}
	}
}
