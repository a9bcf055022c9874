package trust

import (
	"bytes"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"github.com/colophon-build/colophon/internal/remembered"
)

// material is a trusted root that verifies the certificates of its own authorities
// once, and not again for each bundle. Whether a root certificate signed an
// intermediate, or an intermediate a timestamp authority's certificate, does not
// depend on the bundle, and takes most of the time of its verification. The result
// is kept in the struct of the same authority, so that no other trusted root can
// use it.
type material struct {
	*root.TrustedRoot
	issuers     []string // whose identities its authorities may certify: see Vouches
	every       bool     // those of every issuer
	authorities []root.CertificateAuthority
	timestamps  []root.TimestampingAuthority
}

func newMaterial(tr *root.TrustedRoot, issuers []string) *material {
	m := &material{TrustedRoot: tr, issuers: issuers}
	for _, ca := range tr.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); ok {
			ca = newAuthority(f)
		}
		m.authorities = append(m.authorities, ca)
	}
	for _, tsa := range tr.TimestampingAuthorities() {
		if s, ok := tsa.(*root.SigstoreTimestampingAuthority); ok {
			tsa = newTimestampAuthority(s)
		}
		m.timestamps = append(m.timestamps, tsa)
	}
	return m
}

// FulcioCertificateAuthorities implements root.TrustedMaterial.
func (m *material) FulcioCertificateAuthorities() []root.CertificateAuthority { return m.authorities }

// TimestampingAuthorities implements root.TrustedMaterial.
func (m *material) TimestampingAuthorities() []root.TimestampingAuthority { return m.timestamps }

// ExpiredAuthority explains why no certificate authority of m verified cert at t.
// If m trusts the authority that issued cert, but not at t, it returns the window
// in which m trusts that authority, and true. It works only for material that this
// package parsed.
func ExpiredAuthority(m root.TrustedMaterial, cert *x509.Certificate, t time.Time) (Window, bool) {
	for _, f := range Authorities(m) {
		anytime := *f
		anytime.ValidityPeriodStart, anytime.ValidityPeriodEnd = time.Time{}, time.Time{}
		if _, err := anytime.Verify(cert, t); err == nil {
			return authorityWindow(f), true
		}
	}
	return Window{}, false
}

// Authorities returns the certificate authorities of a trusted root that this
// package parsed. For other material it returns none.
func Authorities(m root.TrustedMaterial) []*root.FulcioCertificateAuthority {
	var all []*root.FulcioCertificateAuthority
	for _, ca := range m.FulcioCertificateAuthorities() {
		if a, ok := ca.(*authority); ok {
			all = append(all, a.FulcioCertificateAuthority)
		}
	}
	return all
}

// chain is a verified path from a certificate to a root certificate.
type chain struct {
	path  []*x509.Certificate
	pool  *x509.CertPool // only path[0]
	valid Window         // in which all certificates of the path are valid
}

// verifyChain verifies cert up to anchor. It returns nil if that fails, or if the
// result depends on more than signatures and times, such as the names in a
// certificate that cert signs.
func verifyChain(cert, anchor *x509.Certificate, between []*x509.Certificate, usage x509.ExtKeyUsage) *chain {
	c := &chain{valid: CertificateWindow(cert), pool: x509.NewCertPool()}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	opts.Roots.AddCert(anchor)
	for _, b := range append([]*x509.Certificate{anchor}, between...) {
		c.valid = c.valid.and(CertificateWindow(b))
	}
	for _, b := range between {
		opts.Intermediates.AddCert(b)
	}
	opts.CurrentTime = c.valid.From
	chains, err := cert.Verify(opts)
	if err != nil {
		return nil
	}
	c.path = chains[0]
	if slices.ContainsFunc(c.path, constrained) {
		return nil
	}
	c.pool.AddCert(cert)
	return c
}

// constrained reports whether a CA certificate limits the names in the certificates
// below it.
func constrained(c *x509.Certificate) bool {
	return c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

func (c *chain) validAt(t time.Time) bool { return c != nil && c.valid.Contains(t) }

// maxLeaves is how many certificates an authority remembers. The proofs of an image that a
// platform built have one certificate, and are verified together.
const maxLeaves = 256

// authority is a certificate authority that verifies its intermediate once, and a certificate
// that several bundles have once for all of them.
type authority struct {
	*root.FulcioCertificateAuthority
	above  func() *chain // of the intermediate; nil if each certificate must be verified up to the root
	leaves *remembered.Answers[*chain]
}

func newAuthority(f *root.FulcioCertificateAuthority) *authority {
	return &authority{FulcioCertificateAuthority: f, leaves: remembered.New[*chain](maxLeaves), above: sync.OnceValue(func() *chain {
		if len(f.Intermediates) != 1 {
			return nil
		}
		// verifyChain treats the intermediate like a leaf. It does not check that the
		// intermediate may sign certificates, and that the root allows a CA below it. A
		// certificate that names an issuer with their common name may be of either.
		i := f.Intermediates[0]
		if !i.IsCA || f.Root.MaxPathLen == 0 || bytes.Equal(f.Root.RawSubject, i.RawSubject) {
			return nil
		}
		return verifyChain(i, f.Root, nil, x509.ExtKeyUsageCodeSigning)
	})}
}

// Verify implements root.CertificateAuthority. Its answers are those of the
// embedded authority, which verifies the whole chain.
func (a *authority) Verify(cert *x509.Certificate, t time.Time) ([][]*x509.Certificate, error) {
	if len(cert.UnhandledCriticalExtensions) > 0 { // what is unhandled is not in Raw alone: callers handle some
		return a.verify(cert, t)
	}
	known := a.leaves.To(remembered.Ask(cert.Raw), func() *chain { return a.leaf(cert) })
	if !known.validAt(t) || !authorityWindow(a.FulcioCertificateAuthority).Contains(t) {
		return a.verify(cert, t)
	}
	return [][]*x509.Certificate{append([]*x509.Certificate{cert}, known.path...)}, nil
}

// leaf returns the chain above cert, and when all of it and cert are valid. It returns nil if there
// is no chain, or if there are several.
func (a *authority) leaf(cert *x509.Certificate) *chain {
	c := &chain{valid: CertificateWindow(cert)}
	for _, b := range append([]*x509.Certificate{a.Root}, a.Intermediates...) {
		c.valid = c.valid.and(CertificateWindow(b))
	}
	at := c.valid.From
	if from := a.ValidityPeriodStart; from.After(at) {
		at = from
	}
	chains, err := a.verify(cert, at)
	if err != nil || len(chains) != 1 {
		return nil
	}
	c.path = slices.Clone(chains[0][1:])
	return c
}

// verify is Verify without memory of the certificate.
func (a *authority) verify(cert *x509.Certificate, t time.Time) ([][]*x509.Certificate, error) {
	above := a.above()
	if !above.validAt(t) || !bytes.Equal(cert.RawIssuer, above.path[0].RawSubject) || !authorityWindow(a.FulcioCertificateAuthority).Contains(t) {
		return a.FulcioCertificateAuthority.Verify(cert, t)
	}
	if _, err := cert.Verify(x509.VerifyOptions{CurrentTime: t, Roots: above.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		return nil, err
	}
	return [][]*x509.Certificate{{cert, above.path[0], above.path[1]}}, nil
}

// timestampAuthority is a timestamp authority that verifies its own certificate
// once.
type timestampAuthority struct {
	*root.SigstoreTimestampingAuthority
	above func() *chain // of its certificate; nil if it must be verified for each timestamp
}

func newTimestampAuthority(s *root.SigstoreTimestampingAuthority) *timestampAuthority {
	return &timestampAuthority{s, sync.OnceValue(func() *chain {
		return verifyChain(s.Leaf, s.Root, s.Intermediates, x509.ExtKeyUsageTimeStamping)
	})}
}

// Verify implements root.TimestampingAuthority. Its answers are those of the
// embedded authority, which verifies the whole chain.
func (c *timestampAuthority) Verify(token, signature []byte) (*root.Timestamp, error) {
	above := c.above()
	if above == nil {
		return c.SigstoreTimestampingAuthority.Verify(token, signature)
	}
	ts, err := verification.VerifyTimestampResponse(token, bytes.NewReader(signature), verification.VerifyOpts{Roots: above.path[:1], TSACertificate: c.Leaf})
	if err != nil {
		return nil, err
	}
	if !above.validAt(ts.Time) || !timestampAuthorityWindow(c.SigstoreTimestampingAuthority).Contains(ts.Time) {
		return c.SigstoreTimestampingAuthority.Verify(token, signature)
	}
	return &root.Timestamp{Time: ts.Time, URI: c.URI}, nil
}

// Until returns the first time after at when something in r stops being valid: the
// validity period of a certificate authority, a timestamp authority or a log, one
// of their certificates, or the TUF metadata of r. Zero means never.
func (r *Root) Until(at time.Time) time.Time {
	var first time.Time
	end := func(w Window) {
		if w.Until.After(at) && (first.IsZero() || w.Until.Before(first)) {
			first = w.Until
		}
	}
	end(Window{Until: r.Expires})
	certificates := func(all ...*x509.Certificate) {
		for _, c := range all {
			end(CertificateWindow(c))
		}
	}
	for _, f := range Authorities(r.Material) {
		end(authorityWindow(f))
		certificates(append([]*x509.Certificate{f.Root}, f.Intermediates...)...)
	}
	for _, tsa := range r.Material.TimestampingAuthorities() {
		if c, ok := tsa.(*timestampAuthority); ok {
			end(timestampAuthorityWindow(c.SigstoreTimestampingAuthority))
			certificates(append([]*x509.Certificate{c.Root, c.Leaf}, c.Intermediates...)...)
		}
	}
	for _, logs := range []map[string]*root.TransparencyLog{r.Material.RekorLogs(), r.Material.CTLogs()} {
		for _, l := range logs {
			end(LogWindow(l))
		}
	}
	return first
}
