package sign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // of some algorithms
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Algorithm returns the algorithm with which a session signs with a key: that of
// Sigstore's registry which stock cosign takes for a public key of its kind, and which
// Rekor v2 logs accept (protobuf-specs, PublicKeyDetails). These are ECDSA with the
// curves P-256, P-384 and P-521 and with SHA-256, SHA-384 and SHA-512, and RSA of 2048,
// 3072 and 4096 bits, PKCS #1 v1.5 with SHA-256.
func Algorithm(public crypto.PublicKey) (a signature.AlgorithmDetails, err error) {
	if _, ok := public.(ed25519.PublicKey); ok {
		return a, errors.New("public key: it is an Ed25519 key. A log has the digest of what was signed, and cosign verifies no Ed25519 signature of a digest: use " + wanted)
	}
	if a, err = signature.GetDefaultAlgorithmDetails(public); err != nil {
		return a, fmt.Errorf("public key: got %s, want %s", kindOf(public), wanted)
	}
	if k, ok := public.(*rsa.PublicKey); ok && (k.E < minExponent || k.N.BitLen() != k.Size()*8) {
		return a, fmt.Errorf("public key: got %s and the exponent %d, want %s, and an exponent of at least %d", kindOf(public), k.E, wanted, minExponent)
	}
	return a, nil
}

// minExponent is the smallest public exponent of RSA in FIPS 186-5, A.1.1.
const minExponent = 1<<16 + 1

const wanted = "ECDSA with the curve P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits"

// kindOf returns the kind of a public key, for people.
func kindOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA of %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA with the curve " + k.Curve.Params().Name
	}
	return fmt.Sprintf("type %T", public)
}

// ParseKey reads a private key for OpenKey: PEM, PKCS #8, of a kind that Algorithm has. Such
// a key is made by
//
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
//
// or, encrypted with a password, by cosign generate-key-pair. ParseKey calls password only
// for an encrypted key. If password is nil, it refuses such a key with ErrEncrypted.
func ParseKey(data []byte, password func() ([]byte, error)) (crypto.Signer, error) {
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
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: got type %T, want %s", key, wanted)
	}
	if _, err := Algorithm(signer.Public()); err != nil {
		return nil, err
	}
	return signer, nil
}

// ErrEncrypted means that a private key is encrypted, and that nobody gave the password.
var ErrEncrypted = errors.New("private key: it is encrypted")

// key is the private key of a session.
type key struct {
	private   crypto.Signer
	spki      []byte // its public key: DER of a SubjectPublicKeyInfo
	algorithm signature.AlgorithmDetails
}

func newKey(private crypto.Signer) (*key, error) {
	algorithm, err := Algorithm(private.Public())
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	return &key{private, spki, algorithm}, nil
}

// hint tells people which key signed. No verifier trusts it.
func (k *key) hint() string {
	sum := sha256.Sum256(k.spki)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hash is what a key signs the digest of: SHA-256, SHA-384 or SHA-512.
func (k *key) hash() crypto.Hash { return k.algorithm.GetHashType() }

// details names the algorithm as logs want it.
func (k *key) details() string { return k.algorithm.GetSignatureAlgorithm().String() }

// sign returns the signature of a digest by hash.
func (k *key) sign(digest []byte) ([]byte, error) {
	return k.private.Sign(rand.Reader, digest, k.hash())
}
