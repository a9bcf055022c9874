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

// ParseKey reads a private key that is kept elsewhere: PEM, PKCS #8, ECDSA over
// P-256, as "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
// makes them.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("want one PEM block \"PRIVATE KEY\" (PKCS #8, not encrypted)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("got a key of type %T, want ECDSA over P-256", key)
	}
	return ec, nil
}

// keptKey is a key that outlives the session, as sigstore-go signs with one.
type keptKey struct {
	key  *ecdsa.PrivateKey
	hint []byte
	pem  string
}

func newKeptKey(key *ecdsa.PrivateKey) (*keptKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(spki)
	return &keptKey{key, []byte(base64.StdEncoding.EncodeToString(sum[:])), string(public)}, nil
}

func (k *keptKey) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k *keptKey) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}

func (k *keptKey) GetHint() []byte                  { return k.hint }
func (k *keptKey) GetKeyAlgorithm() string          { return "ECDSA" }
func (k *keptKey) GetPublicKey() crypto.PublicKey   { return k.key.Public() }
func (k *keptKey) GetPublicKeyPem() (string, error) { return k.pem, nil }

// SignData returns the signature and the digest that it is over.
func (k *keptKey) SignData(_ context.Context, data []byte) (signature, digest []byte, err error) {
	sum := sha256.Sum256(data)
	signature, err = ecdsa.SignASN1(rand.Reader, k.key, sum[:])
	return signature, sum[:], err
}
