package policy

import (
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/trust"
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
	Root   string // name of the trust root (trust.Root.Named) that must have verified it; empty: any that vouches for Issuer
}

// Pattern is every identity whose name matches a regular expression. No identity
// matches the zero Pattern.
type Pattern struct {
	Root string // as in Identity

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
	name, err := anchored(expr)
	if err != nil {
		return Pattern{}, fmt.Errorf("policy: identity: %w", err)
	}
	return Pattern{expr: expr, name: name, issuer: issuer}, nil
}

// anchored compiles a regular expression so that it must match a whole text.
func anchored(expr string) (*regexp.Regexp, error) {
	// Compiled alone first, because "a)|(b" would close the group that anchors it.
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + expr + `)\z`)
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

	Root string // name of the trust root whose log must have the signature; empty: any

	pem    string // as written in the policy
	public crypto.PublicKey
}

// ParseKey returns the Key for a public key in PEM (PKIX).
func ParseKey(text string) (Key, error) {
	block, _ := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return Key{}, errors.New("policy: key: expected a public key in PEM, found none")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return Key{}, errors.New("policy: key: expected a public key, found a private one: colophon sign --public-key --key FILE prints the public one")
	case !strings.HasSuffix(block.Type, "PUBLIC KEY"):
		return Key{}, fmt.Errorf("policy: key: expected a public key in PEM, found %q", block.Type)
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(text))
	if err != nil {
		return Key{}, errors.New("policy: key: the public key cannot be read: it is damaged, or of an unknown kind")
	}
	return Key{pem: text, public: public}, nil
}

// Public returns the public key.
func (k Key) Public() crypto.PublicKey { return k.public }

// String returns the demand in words.
func (i Identity) String() string {
	return i.Name + ", vouched for by " + i.Issuer + under(i.Root)
}

// String returns the demand in words.
func (p Pattern) String() string {
	return "a name that matches " + p.expr + ", vouched for by " + p.issuer + under(p.Root)
}

// String returns the demand in words.
func (k Key) String() string { return "the key that the policy names" + under(k.Root) }

// under returns the demand for a trust root in words.
func under(root string) string {
	if root == "" {
		return ""
	}
	return ", under the trust root " + root
}

// RootOf returns the name of the trust root that a signer must have signed under, or ""
// if the policy names none.
func RootOf(s Signer) string {
	switch s := s.(type) {
	case Identity:
		return s.Root
	case Pattern:
		return s.Root
	case Key:
		return s.Root
	}
	return ""
}

var (
	errNoSigner = errors.New("policy: signer: want an identity and its issuer, or a key")
	errNoIssuer = errors.New("policy: signer: want identity and issuer: anybody can have the same name at another issuer")
)

func checkSigner(s Signer) error {
	switch s.(type) {
	case Identity, Pattern, Key:
		if err := checkRoot(RootOf(s)); err != nil {
			return err
		}
		return s.checkSigner()
	case nil:
		return errNoSigner
	}
	return fmt.Errorf("policy: signer: got %T, want Identity, Pattern or Key by value", s)
}

// checkRoot fails unless name is empty or a name that a trust root can have.
func checkRoot(name string) error {
	if name == "" {
		return nil
	}
	if err := trust.CheckName(name); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return nil
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
	switch {
	case k.public == nil:
		return errNoSigner
	case k.InsecureNoLog && k.Root != "":
		return errors.New("policy: signer: a key whose signatures need no log entry is under no trust root")
	}
	return nil
}

// withoutLog reports whether s accepts a signature without a log entry.
func withoutLog(s Signer) bool {
	k, ok := s.(Key)
	return ok && k.InsecureNoLog
}
