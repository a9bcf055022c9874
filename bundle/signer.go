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

// Signer is who should have signed: Identity or Pattern, with Issuer; or Key.
type Signer struct {
	Identity string           // the one name of the certificate, compared whole
	Pattern  *regexp.Regexp   // in place of Identity: what the name must match; the caller anchors it
	Issuer   string           // who vouched for it, compared whole
	Key      crypto.PublicKey // a key kept elsewhere, in place of a certificate; the hint in the bundle chooses nothing

	InsecureNoLog bool // dangerous, only with Key: a signature that no log has is accepted
}

func (s Signer) check() error {
	if (s.Key == nil) == (s.Identity == "" && s.Pattern == nil || s.Issuer == "") {
		return errors.New("the expected signer must be an identity and its issuer, or a key")
	}
	return nil
}

// Match fails unless id, which a verified certificate has, is the signer's name
// and issuer. Of a signer by key it always fails.
func (s Signer) Match(id certificate.Summary) error {
	if s.Key != nil {
		return errNotByKey
	}
	if err := s.check(); err != nil {
		return err
	}
	switch got := id.SubjectAlternativeName; {
	case s.Pattern != nil:
		if !s.Pattern.MatchString(got) {
			return fmt.Errorf("signer: got %q, want one that matches %s", got, s.Pattern)
		}
	case got != s.Identity:
		return fmt.Errorf("signer: got %q, want %q", got, s.Identity)
	}
	if id.Issuer != s.Issuer {
		return fmt.Errorf("issuer of the signer's certificate: got %q, want %q", id.Issuer, s.Issuer)
	}
	return nil
}

// String names a signer for people.
func (s Signer) String() string {
	if s.Key != nil {
		return "the key given"
	}
	return s.Identity
}

// Artifact parses and verifies a Sigstore bundle v0.1 to v0.3 of anybody: that
// signer signed subject, by one trust root, as of now. See Bundle.Verify.
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
