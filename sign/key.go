package sign

import (
	"context"
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

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
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

// keypair is the caller's key. It implements sgsign.Keypair.
type keypair struct {
	key  *ecdsa.PrivateKey
	hint []byte // base64 of the SHA-256 of the public key (SubjectPublicKeyInfo)
	pem  string // of the public key
}

func newKeypair(key *ecdsa.PrivateKey) (*keypair, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	return &keypair{key, []byte(base64.StdEncoding.EncodeToString(sum[:])), string(public)}, nil
}

func (k *keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k *keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (k *keypair) GetHint() []byte                  { return k.hint }
func (k *keypair) GetKeyAlgorithm() string          { return "ECDSA" }
func (k *keypair) GetPublicKey() crypto.PublicKey   { return k.key.Public() }
func (k *keypair) GetPublicKeyPem() (string, error) { return k.pem, nil }

// SignData returns the signature of data, and the SHA-256 digest of data.
func (k *keypair) SignData(_ context.Context, data []byte) (signature, digest []byte, err error) {
	sum := sha256.Sum256(data)
	signature, err = ecdsa.SignASN1(rand.Reader, k.key, sum[:])
	return signature, sum[:], err
}
