package bundle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/remembered"
)

// maxShared is how many signatures are remembered.
const maxShared = 512

// sharedSignatures remembers which signatures are valid, of those that bundles have in common: all
// proofs of a release have one certificate with its SCT, and entries that were logged together have
// one checkpoint. Whether a key signed a digest depends on these three alone.
var sharedSignatures = remembered.New[bool](maxShared)

// maxCertificates is how many parsed certificates are remembered.
const maxCertificates = 64

// sharedCertificates remembers certificates of signers by their bytes. Nobody changes them.
var sharedCertificates = remembered.New[parsedCertificate](maxCertificates)

type parsedCertificate struct {
	cert *x509.Certificate
	err  error
}

// parseOnce is x509.ParseCertificate, and does the work once for equal bytes.
func parseOnce(der []byte) (*x509.Certificate, error) {
	p := sharedCertificates.To(remembered.Ask(der), func() (p parsedCertificate) {
		p.cert, p.err = x509.ParseCertificate(der)
		return p
	})
	return p.cert, p.err
}

// verifyOnce is ecdsa.VerifyASN1, and does the work once for equal arguments.
func verifyOnce(key *ecdsa.PublicKey, digest [sha256.Size]byte, signature []byte) bool {
	point, err := key.Bytes()
	if err != nil {
		return false
	}
	q := remembered.Ask([]byte(key.Params().Name), point, digest[:], signature)
	return sharedSignatures.To(q, func() bool { return ecdsa.VerifyASN1(key, digest[:], signature) })
}

// shared returns a verifier like v that remembers which signatures are valid. key is the key of v.
func shared(v note.Verifier, key crypto.PublicKey) note.Verifier {
	if key, ok := key.(*ecdsa.PublicKey); ok {
		return &sharedVerifier{v, key}
	}
	return v
}

type sharedVerifier struct {
	note.Verifier
	key *ecdsa.PublicKey
}

func (v *sharedVerifier) Verify(message, signature []byte) bool {
	return verifyOnce(v.key, sha256.Sum256(message), signature)
}
