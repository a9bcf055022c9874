package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// ParseKey reads a private key for OpenKey: PEM, PKCS #8, ECDSA with the curve P-256. Such
// a key is made by
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
//
// or, encrypted with a password, by cosign generate-key-pair. ParseKey calls password only
// for an encrypted key. If password is nil, it refuses such a key with ErrEncrypted.
func ParseKey(data []byte, password func() ([]byte, error)) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || len(rest) > 0 {
		return nil, errors.New("private key: want one PEM block")
	}
	der := block.Bytes
	switch block.Type {
	case "PRIVATE KEY":
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		if password == nil {
			return nil, ErrEncrypted
		}
		secret, err := password()
		if err != nil {
			return nil, err
		}
		if der, err = encrypted.Decrypt(block.Bytes, secret); err != nil {
			return nil, errors.New("private key: wrong password, or the file is damaged")
		}
	default:
		return nil, fmt.Errorf("private key: got a PEM block %q, want \"PRIVATE KEY\" (PKCS #8), or one that cosign encrypted", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("private key: got type %T, want ECDSA with the curve P-256", key)
	}
	return ec, nil
}

// ErrEncrypted means that a private key is encrypted, and that nobody gave the password.
var ErrEncrypted = errors.New("private key: it is encrypted")

// key is the private key of a session.
type key struct {
	private crypto.Signer
	spki    []byte // its public key: DER of a SubjectPublicKeyInfo
}

func newKey(private crypto.Signer) (*key, error) {
	public, ok := private.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("public key: got type %T, want ECDSA with the curve P-256", private.Public())
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
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

// sign returns the ASN.1 signature of a SHA-256 digest.
func (k *key) sign(digest [sha256.Size]byte) ([]byte, error) {
	return k.private.Sign(rand.Reader, digest[:], crypto.SHA256)
}
