package bundle

import (
	"crypto"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Signer is the signer that a verifier expects. Set Issuer and one of Identity and
// Pattern, or only Key.
type Signer struct {
	Identity string           // the subject alternative name of the certificate; compared exactly
	Pattern  *regexp.Regexp   // must match the subject alternative name; the caller anchors it with ^ and $
	Issuer   string           // the OIDC issuer in the certificate; compared exactly
	Key      crypto.PublicKey // the public key that signed; a key hint in the bundle is ignored

	// Hash is the algorithm with which Key signed; 0 stands for the default of its kind.
	Hash crypto.Hash

	// InsecureNoLog accepts a signature by Key that is in no transparency log. This
	// is dangerous: nobody can then detect that a stolen key signed.
	InsecureNoLog bool
}

func (s Signer) check() error {
	if (s.Key == nil) == (s.Identity == "" && s.Pattern == nil || s.Issuer == "") {
		return errors.New("the expected signer must be an identity and its issuer, or a key")
	}
	return nil
}

// Match fails unless the identity of a verified certificate has the name and issuer
// that s expects. If s expects a key, it always fails.
func (s Signer) Match(id certificate.Summary) error {
	if s.Key != nil {
		return errCertificateSigned
	}
	if err := s.check(); err != nil {
		return err
	}
	switch got := id.SubjectAlternativeName; {
	case s.Pattern != nil:
		if !s.Pattern.MatchString(got) {
			return &SignerError{got, s.Pattern.String(), fmt.Sprintf("signer: got %q, want a name that matches %s", got, s.Pattern)}
		}
	case got != s.Identity:
		return &SignerError{got, s.Identity, fmt.Sprintf("signer: got %q, want %q", got, s.Identity)}
	}
	if id.Issuer != s.Issuer {
		return &SignerError{id.Issuer, s.Issuer, fmt.Sprintf("issuer of the signer's certificate: got %q, want %q", id.Issuer, s.Issuer)}
	}
	return nil
}

// SignerError means that somebody else signed than the signer demanded.
type SignerError struct {
	Got, Want string // names, or OIDC issuers
	text      string
}

func (e *SignerError) Error() string { return e.text }

// String returns text for people: Identity, "an identity that matches" Pattern, or "the key given".
func (s Signer) String() string {
	switch {
	case s.Key != nil:
		return "the key given"
	case s.Pattern != nil:
		return "an identity that matches " + s.Pattern.String()
	}
	return s.Identity
}

// Artifact parses a Sigstore bundle v0.1 to v0.3, and fails unless signer signed
// subject, according to the trust root material at the time now. It is Parse and
// Bundle.VerifyBy in one call.
func Artifact(raw []byte, subject Subject, signer Signer, material root.TrustedMaterial, now time.Time) (*Result, error) {
	if err := signer.check(); err != nil {
		return nil, err
	}
	b, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	r := b.VerifyBy(signer, subject, material, now)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return r, nil
}
