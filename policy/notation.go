package policy

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/colophon-build/colophon/bundle/notation"
)

// NotationSignature demands a signature of the image in a format of the Notary Project, as
// the tool notation makes them. It says nothing about the source of the image.
type NotationSignature struct {
	Trust notation.TrustPolicy // whose signatures count; required
}

func (o NotationSignature) checkOrigin() error {
	if err := o.Trust.Check(); err != nil {
		return fmt.Errorf("policy: notation: %w", err)
	}
	return nil
}

// dangers returns the dangerous options, for people.
func (o NotationSignature) dangers() (out []string) {
	issues := func(c *x509.Certificate) bool { return c.IsCA }
	if o.Trust.Anybody && slices.ContainsFunc(slices.Concat(o.Trust.CA, o.Trust.SigningAuthority), issues) {
		out = append(out, "a signature by any certificate of the authorities in the trust stores is accepted")
	}
	if o.Trust.WithoutRevocation {
		out = append(out, "a signature by a certificate that was revoked is accepted")
	}
	return out
}

// NotationDocument is a NotationSignature in a policy document.
type NotationDocument struct {
	TrustStores       TrustStoresDocument `json:"trustStores"`          // under whose certificates signatures count
	TrustedIdentities IdentitiesDocument  `json:"trustedIdentities"`    // whose certificates count
	Revocation        *RevocationDocument `json:"revocation,omitempty"` // what says that a certificate was not revoked. If absent: certificates that name a server to ask are undecided
	BesideDocument
}

// TrustStoresDocument has the certificates of trust stores by their type, each PEM.
type TrustStoresDocument struct {
	CA               string `json:"ca,omitempty"`               // for signatures of the scheme notary.x509
	SigningAuthority string `json:"signingAuthority,omitempty"` // for signatures of the scheme notary.x509.signingAuthority
	TSA              string `json:"tsa,omitempty"`              // timestamp authorities: then signatures of the scheme notary.x509 must have a timestamp
}

// IdentitiesDocument says whose certificates count: exactly one of its members.
type IdentitiesDocument struct {
	Subjects []SubjectDocument `json:"subjects,omitempty"` // those with one of these subjects
	Anybody  *NothingDocument  `json:"anybody,omitempty"`  // any that the trust stores make valid
}

// SubjectDocument is a notation.Subject in a policy document: each member that is there must be
// in the certificate exactly once, with exactly this text.
type SubjectDocument struct {
	C  string `json:"C"`            // country
	ST string `json:"ST"`           // state or province
	L  string `json:"L,omitempty"`  // locality
	O  string `json:"O"`            // organization
	OU string `json:"OU,omitempty"` // organizational unit
	CN string `json:"CN,omitempty"` // common name
}

// RevocationDocument says what is known about revoked certificates: exactly one of its members.
type RevocationDocument struct {
	CRLs               string           `json:"crls,omitempty"`               // lists of revoked certificates, PEM
	InsecureNotChecked *NothingDocument `json:"insecureNotChecked,omitempty"` // dangerous: a certificate may have been revoked
}

func (d NotationDocument) policy() (Policy, error) {
	var o NotationSignature
	var err error
	stores := d.TrustStores
	if o.Trust.CA, err = parseCertificates(stores.CA); err != nil {
		return Policy{}, in(err, "trustStores", "ca")
	}
	if o.Trust.SigningAuthority, err = parseCertificates(stores.SigningAuthority); err != nil {
		return Policy{}, in(err, "trustStores", "signingAuthority")
	}
	if o.Trust.TSA, err = parseCertificates(stores.TSA); err != nil {
		return Policy{}, in(err, "trustStores", "tsa")
	}
	ids := d.TrustedIdentities
	if err := one("trustedIdentities", map[string]bool{"subjects": len(ids.Subjects) > 0, "anybody": ids.Anybody != nil}); err != nil {
		return Policy{}, in(err, "trustedIdentities")
	}
	o.Trust.Anybody = ids.Anybody != nil
	for _, s := range ids.Subjects {
		o.Trust.Subjects = append(o.Trust.Subjects, notation.Subject{Country: s.C, Province: s.ST, Locality: s.L, Organization: s.O, OrganizationalUnit: s.OU, CommonName: s.CN})
	}
	if r := d.Revocation; r != nil {
		if err := one("revocation", map[string]bool{"crls": r.CRLs != "", "insecureNotChecked": r.InsecureNotChecked != nil}); err != nil {
			return Policy{}, in(err, "revocation")
		}
		o.Trust.WithoutRevocation = r.InsecureNotChecked != nil
		if o.Trust.CRLs, err = parseCRLs(r.CRLs); err != nil {
			return Policy{}, in(err, "revocation", "crls")
		}
	}
	return d.add(Policy{Origin: o})
}

// Kinds of blocks in PEM.
const (
	pemCertificate = "CERTIFICATE"
	pemCRL         = "X509 CRL"
)

// parseCertificates parses certificates in PEM. It returns nil for an empty text.
func parseCertificates(text string) (certs []*x509.Certificate, err error) {
	err = eachBlock(text, pemCertificate, func(der []byte) error {
		c, err := x509.ParseCertificate(der)
		certs = append(certs, c)
		return err
	})
	return certs, err
}

func parseCRLs(text string) (lists []*x509.RevocationList, err error) {
	err = eachBlock(text, pemCRL, func(der []byte) error {
		l, err := x509.ParseRevocationList(der)
		lists = append(lists, l)
		return err
	})
	return lists, err
}

// eachBlock calls parse for each block of a text, which must have blocks of this kind and
// nothing else but white space.
func eachBlock(text, kind string, parse func(der []byte) error) error {
	for rest := bytes.TrimSpace([]byte(text)); len(rest) > 0; {
		block, after := pem.Decode(rest)
		read := rest[:len(rest)-len(after)]
		switch {
		// pem.Decode skips what is no block, and blocks that are broken.
		case block == nil, !bytes.HasPrefix(read, []byte("-----BEGIN ")), bytes.Count(read, []byte("-----BEGIN ")) != 1:
			return fmt.Errorf("want whole blocks of PEM, -----BEGIN %s-----, and nothing else", kind)
		case block.Type != kind:
			return fmt.Errorf("got PEM of the kind %q, want %s", block.Type, kind)
		}
		if err := parse(block.Bytes); err != nil {
			return err
		}
		rest = bytes.TrimSpace(after)
	}
	return nil
}

// document returns the alternative as a document.
func (o NotationSignature) document(beside BesideDocument) *NotationDocument {
	d := &NotationDocument{BesideDocument: beside}
	d.TrustStores = TrustStoresDocument{certificatesPEM(o.Trust.CA), certificatesPEM(o.Trust.SigningAuthority), certificatesPEM(o.Trust.TSA)}
	if o.Trust.Anybody {
		d.TrustedIdentities.Anybody = &NothingDocument{}
	}
	for _, s := range o.Trust.Subjects {
		d.TrustedIdentities.Subjects = append(d.TrustedIdentities.Subjects, SubjectDocument{s.Country, s.Province, s.Locality, s.Organization, s.OrganizationalUnit, s.CommonName})
	}
	switch {
	case o.Trust.WithoutRevocation:
		d.Revocation = &RevocationDocument{InsecureNotChecked: &NothingDocument{}}
	case len(o.Trust.CRLs) > 0:
		var text []byte
		for _, l := range o.Trust.CRLs {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCRL, Bytes: l.Raw})...)
		}
		d.Revocation = &RevocationDocument{CRLs: string(text)}
	}
	return d
}

func certificatesPEM(certs []*x509.Certificate) string {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return string(text)
}
