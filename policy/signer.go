package policy

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Signer is who must have signed: an identity and who vouches for it, or a key.
type Signer struct {
	Identity       string `json:"identity,omitempty"`       // the one name of the certificate, compared whole
	IdentityRegexp string `json:"identityRegexp,omitempty"` // in place of identity: what all of the name must match (RE2), anchored at both ends
	Issuer         string `json:"issuer,omitempty"`         // who vouched for it, compared whole
	Key            string `json:"key,omitempty"`            // public key, PEM (PKIX), in place of both
	InsecureNoLog  bool   `json:"insecureNoLog,omitempty"`  // dangerous, only with a key: a signature that no log has is accepted
}

func (s Signer) check() error {
	name := s.Identity + s.IdentityRegexp
	switch {
	case s.Identity != "" && s.IdentityRegexp != "":
		return errors.New("policy: a signer has an identity or a pattern of one, and not both")
	case (s.Key == "") == (name == "" && s.Issuer == ""):
		return errors.New("policy: a signer is an identity and its issuer, or a key")
	case s.Key == "" && (name == "" || s.Issuer == ""):
		return errors.New("policy: a signer's identity and issuer go together: anybody can have the name at another issuer")
	case s.Key == "" && s.InsecureNoLog:
		return errors.New("policy: insecureNoLog is for a key: a certificate proves nothing without a time")
	}
	if _, err := s.Pattern(); err != nil {
		return err
	}
	_, err := s.PublicKey()
	return err
}

// Pattern is IdentityRegexp, anchored; nil where the identity is compared whole.
func (s Signer) Pattern() (*regexp.Regexp, error) {
	if s.IdentityRegexp == "" {
		return nil, nil
	}
	// By itself first: "a)|(b" would close the group that anchors it.
	if _, err := regexp.Compile(s.IdentityRegexp); err != nil {
		return nil, fmt.Errorf("policy: identity: %w", err)
	}
	return regexp.Compile(`\A(?:` + s.IdentityRegexp + `)\z`)
}

// PublicKey is the key, nil where an identity signs.
func (s Signer) PublicKey() (crypto.PublicKey, error) {
	if s.Key == "" {
		return nil, nil
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(s.Key))
	if err != nil {
		return nil, fmt.Errorf("policy: key: %w", err)
	}
	return key, nil
}

// checkNamed fails where the policy demands of a named signer what could never
// be met.
func (p Policy) checkNamed() error {
	if err := p.Signer.check(); err != nil {
		return err
	}
	if p.Source == "" && !p.AnySource && (p.Ref != "" || p.Version != "" || p.Commit != "" || len(p.WorkflowInputs) > 0 || p.MinLevel > 0 || p.RequireSource || len(p.Builders) > 0) {
		return errors.New("policy: ref, commit, level and builders are of a provenance: say which source it should name, or that any will do")
	}
	for _, b := range p.Builders {
		if u, err := url.Parse(b); err != nil || u.Scheme == "" || u.Host == "" {
			return fmt.Errorf("policy: builder id: got %q, want a URL", b)
		}
	}
	return nil
}

// maxAttestations bounds what one policy demands beside the provenance.
const maxAttestations = 32

// Attestation is a statement that must be about the image, beside provenance.
type Attestation struct {
	PredicateType string         `json:"predicateType"`
	Signer        *Signer        `json:"signer,omitempty"` // absent: who signed the provenance
	Equals        map[string]any `json:"equals,omitempty"` // JSON pointer (RFC 6901) into the predicate, and the string, number, boolean or null that must stand there
}

func (a Attestation) check() error {
	if u, err := url.Parse(a.PredicateType); err != nil || u.Scheme == "" {
		return fmt.Errorf("policy: predicate type: got %q, want a URI", a.PredicateType)
	}
	if a.Signer != nil {
		if err := a.Signer.check(); err != nil {
			return err
		}
	}
	for pointer, want := range a.Equals {
		if !jsontext.Pointer(pointer).IsValid() {
			return fmt.Errorf("policy: got %q, want a JSON pointer", pointer)
		}
		switch n := want.(type) {
		case nil, bool, string:
		case float64:
			// Larger ones are not told apart by every reader of JSON.
			if n != float64(int64(n)) || n >= 1<<53 || n <= -(1<<53) {
				return fmt.Errorf("policy: %s: got %v, want a whole number of fewer than 54 bits", pointer, n)
			}
		default:
			return fmt.Errorf("policy: %s: want a string, number, boolean or null", pointer)
		}
	}
	return nil
}

// Match fails unless the predicate has every value that is demanded.
func (a Attestation) Match(predicate []byte) error {
	for pointer, want := range a.Equals {
		got, err := at(predicate, jsontext.Pointer(pointer))
		if err != nil {
			return fmt.Errorf("predicate: %s: %w", pointer, err)
		}
		wanted, err := json.Marshal(want)
		if err != nil {
			return err
		}
		if !sameScalar(got, wanted) {
			return fmt.Errorf("predicate: %s: got %s, want %s", pointer, short(got), wanted)
		}
	}
	return nil
}

// at is the value that a pointer leads to, as it was received.
func at(doc []byte, pointer jsontext.Pointer) (jsontext.Value, error) {
	value := jsontext.Value(doc)
	for token := range pointer.Tokens() {
		switch value.Kind() {
		case '{':
			var object map[string]jsontext.Value
			if err := strict.Unmarshal(value, limits.Statement, &object); err != nil {
				return nil, err
			}
			next, ok := object[token]
			if !ok {
				return nil, fmt.Errorf("there is no %q", token)
			}
			value = next
		case '[':
			var array []jsontext.Value
			if err := strict.Unmarshal(value, limits.Statement, &array); err != nil {
				return nil, err
			}
			i := 0
			if _, err := fmt.Sscanf(token, "%d", &i); err != nil || fmt.Sprint(i) != token || i < 0 || i >= len(array) {
				return nil, fmt.Errorf("there is no element %q", token)
			}
			value = array[i]
		default:
			return nil, fmt.Errorf("there is no %q", token)
		}
	}
	return value, nil
}

// sameScalar compares strings as decoded, and anything else letter by letter:
// 1.0 is not 1.
func sameScalar(got, want jsontext.Value) bool {
	if got.Kind() != '"' || want.Kind() != '"' {
		return bytes.Equal(bytes.TrimSpace(got), want)
	}
	var g, w string
	return strict.Unmarshal(got, limits.Statement, &g) == nil && json.Unmarshal(want, &w) == nil && g == w
}

func short(v jsontext.Value) string {
	s := strings.TrimSpace(string(v))
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
