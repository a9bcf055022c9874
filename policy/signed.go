package policy

import (
	"errors"
	"fmt"
)

// SignerDocument is a Signer in a policy document of version 2: exactly one of its members.
type SignerDocument struct {
	Certificate         *CertificateDocument `json:"certificate,omitempty"`         // the subject of a certificate
	Key                 *KeyDocument         `json:"key,omitempty"`                 // the holder of a key, whose signatures are in a transparency log
	InsecureUnloggedKey *UnloggedKeyDocument `json:"insecureUnloggedKey,omitempty"` // dangerous: the holder of a key, whose signatures may be in no log
}

// CertificateDocument is an Identity or a Pattern in a policy document.
type CertificateDocument struct {
	Issuer   string        `json:"issuer"`         // URL of the identity provider, compared whole
	Identity ValueDocument `json:"identity"`       // subject alternative name
	Root     string        `json:"root,omitempty"` // trust root that must have verified it. If absent: any that vouches for the issuer
}

// KeyDocument is a Key in a policy document.
type KeyDocument struct {
	PEM  string `json:"pem"`            // public key (PKIX)
	Root string `json:"root,omitempty"` // trust root whose log must have the signature. If absent: any
}

// UnloggedKeyDocument is a Key that needs no log in a policy document.
type UnloggedKeyDocument struct {
	PEM string `json:"pem"` // public key (PKIX)
}

// AttestationDocument is an Attestation in a policy document of version 2.
type AttestationDocument struct {
	PredicateType string              `json:"predicateType"`    // URI, compared whole
	Signer        *SignerDocument     `json:"signer,omitempty"` // if absent: the signer of the provenance, or else of the image
	Values        []PredicateDocument `json:"values,omitempty"` // values that the predicate must have
}

// PredicateDocument is a value that a predicate must have: Pointer and exactly one other member.
type PredicateDocument struct {
	Pointer string  `json:"pointer"`           // JSON pointer (RFC 6901)
	String  *string `json:"string,omitempty"`  // the text
	Integer *int64  `json:"integer,omitempty"` // the whole number
	Boolean *bool   `json:"boolean,omitempty"` // true or false
	Null    bool    `json:"isNull,omitempty"`  // true: null
}

// VerifierDocument is a Verifier in a policy document of version 2.
type VerifierDocument struct {
	ID           string         `json:"id"`                     // verifier.id of the summary, compared whole
	Signer       SignerDocument `json:"signer"`                 // who must have signed the summary
	Resource     string         `json:"resource,omitempty"`     // resourceUri of the summary. If absent: that of the image's repository
	PolicyDigest string         `json:"policyDigest,omitempty"` // sha256:HEX of the policy that the verifier used
	Levels       []string       `json:"levels,omitempty"`       // results that the summary must have, or a higher one: SLSA_SOURCE_LEVEL_2
	MaxAge       string         `json:"maxAge,omitempty"`       // greatest age of the verification: 720h
}

// Signer returns the Signer of the document.
func (d SignerDocument) Signer() (Signer, error) {
	if err := one("signer", map[string]bool{"certificate": d.Certificate != nil, "key": d.Key != nil, "insecureUnloggedKey": d.InsecureUnloggedKey != nil}); err != nil {
		return nil, err
	}
	switch {
	case d.Key != nil:
		k, err := ParseKey(d.Key.PEM)
		k.Root = d.Key.Root
		return k, in(err, "key", "pem")
	case d.InsecureUnloggedKey != nil:
		k, err := ParseKey(d.InsecureUnloggedKey.PEM)
		k.InsecureNoLog = true
		return k, in(err, "insecureUnloggedKey", "pem")
	}
	c := d.Certificate
	if err := one("identity", map[string]bool{"is": c.Identity.Is != nil, "matches": c.Identity.Matches != ""}); err != nil {
		return nil, in(err, "certificate", "identity")
	}
	if c.Identity.Is != nil {
		i := Identity{Name: *c.Identity.Is, Issuer: c.Issuer, Root: c.Root}
		return i, in(i.checkSigner(), "certificate")
	}
	p, err := ParsePattern(c.Identity.Matches, c.Issuer)
	p.Root = c.Root
	return p, in(err, "certificate")
}

func (d AttestationDocument) attestation() (a Attestation, err error) {
	a.PredicateType = d.PredicateType
	if d.Signer != nil {
		if a.Signer, err = d.Signer.Signer(); err != nil {
			return a, in(err, "signer")
		}
	}
	for i, v := range d.Values {
		if err := one("value", map[string]bool{"string": v.String != nil, "integer": v.Integer != nil, "boolean": v.Boolean != nil, "isNull": v.Null}); err != nil {
			return a, in(err, "values", i)
		}
		if _, twice := a.Equals[v.Pointer]; twice {
			return a, in(fmt.Errorf("value: got the pointer %q twice", v.Pointer), "values", i)
		}
		if a.Equals == nil {
			a.Equals = map[string]any{}
		}
		switch {
		case v.String != nil:
			a.Equals[v.Pointer] = *v.String
		case v.Boolean != nil:
			a.Equals[v.Pointer] = *v.Boolean
		case v.Null:
			a.Equals[v.Pointer] = nil
		case *v.Integer >= 1<<53 || *v.Integer <= -(1<<53):
			return a, in(errors.New("integer: want fewer than 54 bits"), "values", i, "integer")
		default:
			a.Equals[v.Pointer] = float64(*v.Integer)
		}
	}
	return a, nil
}

func (d VerifierDocument) verifier() (v Verifier, err error) {
	v = Verifier{ID: d.ID, Resource: d.Resource, PolicyDigest: d.PolicyDigest, Levels: d.Levels}
	if v.Signer, err = d.Signer.Signer(); err != nil {
		return v, in(err, "signer")
	}
	v.MaxAge, err = parseAge(d.MaxAge, false)
	return v, in(err, "maxAge")
}
