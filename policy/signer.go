package policy

import (
	"crypto"
	"errors"
	"fmt"
	"regexp"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Signer is who must have signed. It is an Identity, a Pattern or a Key, by value.
type Signer interface {
	fmt.Stringer // the demand in words
	checkSigner() error
}

// Identity is the subject of a certificate.
type Identity struct {
	Name   string // subject alternative name, compared whole; required
	Issuer string // URL of the identity provider that vouched for the name, compared whole; required
}

// Pattern is every identity whose name matches a regular expression. No identity
// matches the zero Pattern.
type Pattern struct {
	expr   string         // as written in the policy
	name   *regexp.Regexp // anchored at both ends
	issuer string
}

// ParsePattern returns the Pattern of a regular expression (RE2), which must match the
// whole name. The issuer is compared whole. ParsePattern fails if expr is not a
// regular expression, or one of the two is empty.
func ParsePattern(expr, issuer string) (Pattern, error) {
	if expr == "" || issuer == "" {
		return Pattern{}, errNoIssuer
	}
	// Compiled alone first, because "a)|(b" would close the group that anchors it.
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

// Issuer returns the identity provider that must have vouched for the name.
func (p Pattern) Issuer() string { return p.issuer }

// Key is the holder of a key pair. Check refuses the zero Key.
type Key struct {
	// InsecureNoLog accepts a signature without a transparency log entry. That is
	// dangerous: nobody can find out what else the key signed.
	InsecureNoLog bool

	pem    string // as written in the policy
	public crypto.PublicKey
}

// ParseKey returns the Key for a public key in PEM (PKIX).
func ParseKey(pem string) (Key, error) {
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(pem))
	if err != nil {
		return Key{}, fmt.Errorf("policy: key: %w", err)
	}
	return Key{pem: pem, public: public}, nil
}

// Public returns the public key.
func (k Key) Public() crypto.PublicKey { return k.public }

// String returns the demand in words.
func (i Identity) String() string { return i.Name + ", vouched for by " + i.Issuer }

// String returns the demand in words.
func (p Pattern) String() string {
	return "a name that matches " + p.expr + ", vouched for by " + p.issuer
}

// String returns the demand in words.
func (k Key) String() string { return "the key that the policy names" }

var (
	errNoSigner = errors.New("policy: signer: want an identity and its issuer, or a key")
	errNoIssuer = errors.New("policy: signer: want identity and issuer: anybody can have the same name at another issuer")
)

func checkSigner(s Signer) error {
	switch s.(type) {
	case Identity, Pattern, Key:
		return s.checkSigner()
	case nil:
		return errNoSigner
	}
	return fmt.Errorf("policy: signer: got %T, want Identity, Pattern or Key by value", s)
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

// withoutLog reports whether s accepts a signature without a log entry.
func withoutLog(s Signer) bool {
	k, ok := s.(Key)
	return ok && k.InsecureNoLog
}
