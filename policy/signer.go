package policy

import (
	"crypto"
	"errors"
	"fmt"
	"regexp"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Signer is who must have signed. It is one of Identity, Pattern and Key, by
// value.
type Signer interface {
	fmt.Stringer // the demand in words
	checkSigner() error
}

// Identity is the one that a certificate was issued to.
type Identity struct {
	Name   string // the one name in the certificate, compared whole; required
	Issuer string // who vouched for the name, compared whole; required
}

// Pattern is any identity whose name matches a regular expression. The zero
// Pattern matches none.
type Pattern struct {
	expr   string         // as it was written
	name   *regexp.Regexp // anchored at both ends
	issuer string
}

// ParsePattern returns the Pattern of expr (RE2), which all of the name must
// match. The issuer is compared whole. It fails if expr is no regular expression
// or either is empty.
func ParsePattern(expr, issuer string) (Pattern, error) {
	if expr == "" || issuer == "" {
		return Pattern{}, errNoIssuer
	}
	// Compiled by itself first: "a)|(b" would close the group that anchors it.
	if _, err := regexp.Compile(expr); err != nil {
		return Pattern{}, fmt.Errorf("policy: identity: %w", err)
	}
	name, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return Pattern{}, fmt.Errorf("policy: identity: %w", err)
	}
	return Pattern{expr, name, issuer}, nil
}

// Name returns the expression, anchored at both ends.
func (p Pattern) Name() *regexp.Regexp { return p.name }

// Issuer returns who must vouch for the name.
func (p Pattern) Issuer() string { return p.issuer }

// Key is the holder of a key pair. The zero Key is refused by Check.
type Key struct {
	// InsecureNoLog is dangerous: a signature that no transparency log has is
	// accepted, so that nobody learns what else the key signed.
	InsecureNoLog bool

	pem    string // as it was written
	public crypto.PublicKey
}

// ParseKey returns the Key of a public key in PEM (PKIX). It fails if it is none.
func ParseKey(pem string) (Key, error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(pem))
	if err != nil {
		return Key{}, fmt.Errorf("policy: key: %w", err)
	}
	return Key{pem: pem, public: public}, nil
}

// Public returns the public key.
func (k Key) Public() crypto.PublicKey { return k.public }

// String is the demand in words.
func (i Identity) String() string { return i.Name + ", vouched for by " + i.Issuer }

// String is the demand in words.
func (p Pattern) String() string { return "a name like " + p.expr + ", vouched for by " + p.issuer }

// String is the demand in words.
func (k Key) String() string { return "the key that was named" }

var (
	errNoSigner = errors.New("policy: a signer is an identity and its issuer, or a key")
	errNoIssuer = errors.New("policy: a signer's identity and issuer go together: anybody can have the name at another issuer")
)

func checkSigner(s Signer) error {
	switch s.(type) {
	case Identity, Pattern, Key:
		return s.checkSigner()
	case nil:
		return errNoSigner
	}
	return fmt.Errorf("policy: signer: got a %T", s) // a pointer to one of them
}

func (i Identity) checkSigner() error {
	if i.Name == "" || i.Issuer == "" {
		return errNoIssuer
	}
	return nil
}

func (p Pattern) checkSigner() error {
	if p.name == nil {
		return errNoSigner
	}
	return nil
}

func (k Key) checkSigner() error {
	if k.public == nil {
		return errNoSigner
	}
	return nil
}

// withoutLog reports whether a signature that no log has is accepted.
func withoutLog(s Signer) bool {
	k, ok := s.(Key)
	return ok && k.InsecureNoLog
}
