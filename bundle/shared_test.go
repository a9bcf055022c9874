package bundle

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
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
