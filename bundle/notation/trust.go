package notation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TrustPolicy says whose signatures count: those that are valid under one of its certificates,
// by one of its subjects. It is a statement of a trust policy of the level strict; which images
// it is about, the caller decides. Check refuses the zero TrustPolicy.
//
// If a certificate of a chain names a server that knows whether it was revoked, CRLs must have
// the answer, unless WithoutRevocation is set: this package asks no server.
type TrustPolicy struct {
	CA               []*x509.Certificate // trust store of the type ca
	SigningAuthority []*x509.Certificate // trust store of the type signingAuthority
	TSA              []*x509.Certificate // trust store of the type tsa; if not empty, signatures of the scheme notary.x509 must have a timestamp

	Subjects []Subject // whose certificates count
	Anybody  bool      // in place of Subjects: any certificate that is valid under a trust store

	CRLs              []*x509.RevocationList // lists of revoked certificates
	WithoutRevocation bool                   // dangerous, in place of CRLs: nobody knows whether a certificate was revoked
}

// Limits on one TrustPolicy.
const (
	maxCertificates = 64 // of one trust store
	maxSubjects     = 64
	maxCRLs         = 32
)

// Check fails if the trust policy trusts nobody, contradicts itself, or has a certificate that
// can be no anchor of trust.
func (t *TrustPolicy) Check() error {
	switch {
	case len(t.CA)+len(t.SigningAuthority) == 0:
		return errors.New("trust stores: want certificates in ca or signingAuthority")
	case t.Anybody == (len(t.Subjects) > 0):
		return errors.New("trusted identities: want subjects, or anybody")
	case len(t.Subjects) > maxSubjects:
		return fmt.Errorf("trusted identities: got %d subjects, want at most %d", len(t.Subjects), maxSubjects)
	case t.WithoutRevocation && len(t.CRLs) > 0:
		return errors.New("revocation: got lists of revoked certificates, and that none is needed")
	case len(t.CRLs) > maxCRLs:
		return fmt.Errorf("revocation: got %d lists, want at most %d", len(t.CRLs), maxCRLs)
	}
	for name, store := range map[string][]*x509.Certificate{"ca": t.CA, "signingAuthority": t.SigningAuthority, "tsa": t.TSA} {
		if err := checkStore(store); err != nil {
			return fmt.Errorf("trust store %s: %w", name, err)
		}
	}
	for _, s := range t.Subjects {
		if err := s.check(); err != nil {
			return err
		}
	}
	for _, l := range t.CRLs {
		if err := checkCRL(l); err != nil {
			return err
		}
	}
	return nil
}

func checkStore(store []*x509.Certificate) error {
	if len(store) > maxCertificates {
		return fmt.Errorf("got %d certificates, want at most %d", len(store), maxCertificates)
	}
	for _, c := range store {
		// One that somebody else issued, and that issues none, is a signer, not whom to trust.
		if !c.IsCA && (!bytes.Equal(c.RawSubject, c.RawIssuer) || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil) {
			return fmt.Errorf("certificate %q: want that of an authority, or a self-signed one", c.Subject)
		}
		if err := checkKey(c); err != nil {
			return fmt.Errorf("certificate %q: %w", c.Subject, err)
		}
	}
	return nil
}

// Anchors returns the fingerprints of all certificates under which signatures may count.
func (t *TrustPolicy) Anchors() (all []Fingerprint) {
	for _, c := range slices.Concat(t.CA, t.SigningAuthority) {
		all = append(all, FingerprintOf(c))
	}
	return all
}

// Result is what a signature proved.
type Result struct {
	Signer string    // subject of the certificate
	Root   string    // subject of the certificate in the trust store
	At     time.Time // when it was signed, as somebody proved whom the trust policy trusts for it; zero: not known

	Passed int // how many checks the signature passed, to tell which of several failed last
}

// ErrNotRevocable is in the chain of an error that says that it is not known whether a
// certificate was revoked: the signature is neither valid nor invalid.
var ErrRevocationUnknown = errors.New("it is not known whether it was revoked")

// skew is by how much the clock of whoever vouches for a time may be ahead.
const skew = 5 * time.Minute

// Verify verifies a signature of an image at the time now. The trust policy must pass its
// Check. There is a result also with an error, for its Passed.
func (s *Signature) Verify(image v1.Descriptor, t *TrustPolicy, now time.Time) (*Result, error) {
	r := &Result{Signer: s.Signer()}
	var anchor *x509.Certificate
	var at interval
	steps := []func() error{
		func() error { return s.matches(image) },
		func() (err error) {
			anchor, err = s.anchor(t)
			return err
		},
		func() error { return t.matchSubject(s.Chain[0]) },
		func() error { return s.checkExpiry(now) },
		func() (err error) {
			at, err = s.time(t, now)
			return err
		},
		func() error { return checkValidity(s.Chain, at) },
		func() error { return verifyChain(s.Chain, anchor, at.from) },
		func() error { return t.checkRevoked(s.Chain, now) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return r, err
		}
		r.Passed++
	}
	r.Root = anchor.Subject.String()
	if at.proved {
		r.At = at.from
	}
	return r, nil
}

// matches fails unless the signature is of the image: media type, digest and size.
func (s *Signature) matches(image v1.Descriptor) error {
	switch t := s.Target; {
	case t.Digest != image.Digest:
		return fmt.Errorf("signed image: got %s, want %s", t.Digest, image.Digest)
	case t.MediaType != image.MediaType:
		return fmt.Errorf("media type of the signed image: got %q, want %q", t.MediaType, image.MediaType)
	case t.Size != image.Size:
		return fmt.Errorf("size of the signed image: got %d bytes, want %d", t.Size, image.Size)
	}
	return nil
}

// anchor returns the first certificate of the chain, from the signer's, that is in the trust
// store of the signature's scheme.
func (s *Signature) anchor(t *TrustPolicy) (*x509.Certificate, error) {
	store, name := t.CA, "ca"
	if s.Scheme == SigningAuthority {
		store, name = t.SigningAuthority, "signingAuthority"
	}
	for _, c := range s.Chain {
		if slices.ContainsFunc(store, c.Equal) {
			return c, nil
		}
	}
	return nil, fmt.Errorf("signed by %q under %q: neither is in the trust store of the type %s, which the scheme %s demands", s.Signer(), s.Authority(), name, s.Scheme)
}

// checkExpiry fails if the signer wants the signature to count no more.
func (s *Signature) checkExpiry(now time.Time) error {
	if !s.Expires.IsZero() && !now.Before(s.Expires) {
		return fmt.Errorf("the signature expired at %s", s.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkValidity fails unless each certificate of the chain was valid at the time.
func checkValidity(chain []*x509.Certificate, at interval) error {
	for _, c := range chain {
		if at.from.Before(c.NotBefore) || at.to.After(c.NotAfter) {
			return fmt.Errorf("certificate %q: valid from %s to %s, want valid at %s", c.Subject, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), at)
		}
	}
	return nil
}

// verifyChain verifies what the library does not of the chain: critical extensions, name
// constraints, and that code signing is allowed.
func verifyChain(chain []*x509.Certificate, anchor *x509.Certificate, at time.Time) error {
	for _, c := range chain {
		if len(c.UnhandledCriticalExtensions) > 0 {
			return fmt.Errorf("certificate %q: critical extension %s is not known", c.Subject, c.UnhandledCriticalExtensions[0])
		}
	}
	if slices.Contains(chain[0].ExtKeyUsage, x509.ExtKeyUsageAny) {
		return fmt.Errorf("certificate %q: extended key usage: got any, want code signing", chain[0].Subject)
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	opts.Roots.AddCert(anchor)
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return fmt.Errorf("certificate %q: %w", chain[0].Subject, err)
	}
	return nil
}

// Subject is what the subject of a signer's certificate must say (x509.subject of a trust
// policy). Each field that is not empty must be in the certificate exactly once, with exactly
// this text. Country, Province and Organization are required.
type Subject struct {
	Country            string // C
	Province           string // ST
	Locality           string // L
	Organization       string // O
	OrganizationalUnit string // OU
	CommonName         string // CN
}

func (s Subject) check() error {
	if s.Country == "" || s.Province == "" || s.Organization == "" {
		return fmt.Errorf("trusted identities: subject %q: want C, ST and O", s)
	}
	return nil
}

type attribute struct {
	name string
	id   asn1.ObjectIdentifier
	want string
}

func (s Subject) attributes() []attribute {
	return []attribute{
		{"C", asn1.ObjectIdentifier{2, 5, 4, 6}, s.Country},
		{"ST", asn1.ObjectIdentifier{2, 5, 4, 8}, s.Province},
		{"L", asn1.ObjectIdentifier{2, 5, 4, 7}, s.Locality},
		{"O", asn1.ObjectIdentifier{2, 5, 4, 10}, s.Organization},
		{"OU", asn1.ObjectIdentifier{2, 5, 4, 11}, s.OrganizationalUnit},
		{"CN", asn1.ObjectIdentifier{2, 5, 4, 3}, s.CommonName},
	}
}

// String returns the subject for people.
func (s Subject) String() string {
	var out []string
	for _, a := range s.attributes() {
		if a.want != "" {
			out = append(out, a.name+"="+a.want)
		}
	}
	return strings.Join(out, ", ")
}

// SubjectOf returns the Subject that a certificate's subject meets, and as many fields of it as
// the certificate has once.
func SubjectOf(c *x509.Certificate) Subject {
	var s Subject
	fields := []*string{&s.Country, &s.Province, &s.Locality, &s.Organization, &s.OrganizationalUnit, &s.CommonName}
	for i, a := range s.attributes() {
		if values := valuesOf(c, a.id); len(values) == 1 {
			*fields[i], _ = values[0].(string)
		}
	}
	return s
}

func valuesOf(c *x509.Certificate, id asn1.ObjectIdentifier) (values []any) {
	for _, n := range c.Subject.Names {
		if n.Type.Equal(id) {
			values = append(values, n.Value)
		}
	}
	return values
}

// Match fails unless the subject of a certificate is as demanded.
func (s Subject) Match(c *x509.Certificate) error {
	for _, a := range s.attributes() {
		if a.want == "" {
			continue
		}
		switch values := valuesOf(c, a.id); {
		case len(values) != 1:
			return fmt.Errorf("signer %q: got %d values of %s, want one: %s=%s", c.Subject, len(values), a.name, a.name, a.want)
		case values[0] != a.want:
			return fmt.Errorf("signer %q: got %s=%v, want %s=%s", c.Subject, a.name, values[0], a.name, a.want)
		}
	}
	return nil
}

func (t *TrustPolicy) matchSubject(c *x509.Certificate) error {
	if t.Anybody {
		return nil
	}
	var last error
	for _, s := range t.Subjects {
		if last = s.Match(c); last == nil {
			return nil
		}
	}
	return last
}
