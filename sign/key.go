package sign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParseKey reads a private key for OpenKey: PEM, PKCS #8, not encrypted, ECDSA with the
// curve P-256. Such a key is made by
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("private key: want one PEM block \"PRIVATE KEY\" (PKCS #8, not encrypted)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("private key: got type %T, want ECDSA with the curve P-256", key)
	}
	return ec, nil
}

// key is the private key of a session.
type key struct {
	private *ecdsa.PrivateKey
	spki    []byte // its public key: DER of a SubjectPublicKeyInfo
}

func newKey(private *ecdsa.PrivateKey) (*key, error) {
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	return &key{private, spki}, nil
}

// hint tells people which key signed. No verifier trusts it.
func (k *key) hint() string {
	sum := sha256.Sum256(k.spki)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// sign returns the ASN.1 signature of the SHA-256 of data.
func (k *key) sign(data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return ecdsa.SignASN1(rand.Reader, k.private, sum[:])
}
