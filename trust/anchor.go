package trust

import (
	"bytes"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/timestamp-authority/v2/pkg/verification"
)

// material is a trusted root whose authorities prove the upper part of their
// chains once. What a root, an intermediate and a clock signed of each other
// depends on nothing but themselves, and is most of the time that a bundle
// takes. It is remembered beside the very certificates that it is about, so
// that no other root can be answered from it.
type material struct {
	*root.TrustedRoot
	authorities []root.CertificateAuthority
	clocks      []root.TimestampingAuthority
}

func anchor(tr *root.TrustedRoot) *material {
	m := &material{TrustedRoot: tr}
	for _, ca := range tr.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); ok {
			ca = newAuthority(f)
		}
		m.authorities = append(m.authorities, ca)
	}
	for _, tsa := range tr.TimestampingAuthorities() {
		if s, ok := tsa.(*root.SigstoreTimestampingAuthority); ok {
			tsa = newClock(s)
		}
		m.clocks = append(m.clocks, tsa)
	}
	return m
}

// FulcioCertificateAuthorities implements root.TrustedMaterial.
func (m *material) FulcioCertificateAuthorities() []root.CertificateAuthority { return m.authorities }

// TimestampingAuthorities implements root.TrustedMaterial.
func (m *material) TimestampingAuthorities() []root.TimestampingAuthority { return m.clocks }

// ExpiredAuthority returns the time in which m trusts the certificate authority
// of cert, where that time is all that keeps the authority from vouching for cert
// at t. Only a trusted root that this package parsed can answer.
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

// Authorities are the certificate authorities of a trusted root that this
// package parsed, as they stand in it.
func Authorities(m root.TrustedMaterial) []*root.FulcioCertificateAuthority {
	var all []*root.FulcioCertificateAuthority
	for _, ca := range m.FulcioCertificateAuthorities() {
		if a, ok := ca.(*authority); ok {
			all = append(all, a.FulcioCertificateAuthority)
		}
	}
	return all
}

// A chain is a path that was verified from its first certificate to the root,
// and the times at which that holds.
type chain struct {
	path  []*x509.Certificate
	pool  *x509.CertPool // of the first alone
	valid Window
}

// prove verifies cert up to anchor. It returns nil where that fails, or would
// be more than signatures and times.
func prove(cert, anchor *x509.Certificate, between []*x509.Certificate, usage x509.ExtKeyUsage) *chain {
	c := &chain{valid: CertificateWindow(cert), pool: x509.NewCertPool()}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	opts.Roots.AddCert(anchor)
	for _, b := range append([]*x509.Certificate{anchor}, between...) {
		c.valid = c.valid.And(CertificateWindow(b))
	}
	for _, b := range between {
		opts.Intermediates.AddCert(b)
	}
	opts.CurrentTime = c.valid.From
	chains, err := cert.Verify(opts)
	if err != nil || len(chains) != 1 {
		return nil
	}
	c.path = chains[0]
	if slices.ContainsFunc(c.path, constrained) {
		return nil
	}
	c.pool.AddCert(cert)
	return c
}

// constrained says whether a certificate limits the names of those below it.
func constrained(c *x509.Certificate) bool {
	return c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

func (c *chain) holds(t time.Time) bool { return c != nil && c.valid.Contains(t) }

// authority is a certificate authority with one intermediate, or without.
type authority struct {
	*root.FulcioCertificateAuthority
	above func() *chain // of the intermediate; nil where every certificate has to be verified up to the root
}

func newAuthority(f *root.FulcioCertificateAuthority) *authority {
	return &authority{f, sync.OnceValue(func() *chain {
		if len(f.Intermediates) != 1 || f.Root == nil {
			return nil
		}
		i := f.Intermediates[0]
		c := prove(i, f.Root, nil, x509.ExtKeyUsageCodeSigning)
		// Here the intermediate is verified as if it were a leaf: that it may sign
		// others, and that the root allows one below it, is not looked at.
		if c == nil || len(c.path) != 2 || !i.BasicConstraintsValid || !i.IsCA || f.Root.MaxPathLen == 0 || bytes.Equal(f.Root.RawSubject, i.RawSubject) {
			return nil
		}
		return c
	})}
}

// Verify implements root.CertificateAuthority, with the answers that the whole
// chain would get.
func (a *authority) Verify(cert *x509.Certificate, t time.Time) ([][]*x509.Certificate, error) {
	above := a.above()
	if !above.holds(t) || !bytes.Equal(cert.RawIssuer, above.path[0].RawSubject) || !authorityWindow(a.FulcioCertificateAuthority).Contains(t) {
		return a.FulcioCertificateAuthority.Verify(cert, t)
	}
	if _, err := cert.Verify(x509.VerifyOptions{CurrentTime: t, Roots: above.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		return nil, err
	}
	return [][]*x509.Certificate{{cert, above.path[0], above.path[1]}}, nil
}

// clock is a timestamping authority whose leaf certificate is known.
type clock struct {
	*root.SigstoreTimestampingAuthority
	above func() *chain // of the leaf
}

func newClock(s *root.SigstoreTimestampingAuthority) *clock {
	return &clock{s, sync.OnceValue(func() *chain {
		if s.Leaf == nil || s.Root == nil {
			return nil
		}
		return prove(s.Leaf, s.Root, s.Intermediates, x509.ExtKeyUsageTimeStamping)
	})}
}

// Verify implements root.TimestampingAuthority, with the answers that the whole
// chain would get.
func (c *clock) Verify(token, signature []byte) (*root.Timestamp, error) {
	above := c.above()
	if above == nil {
		return c.SigstoreTimestampingAuthority.Verify(token, signature)
	}
	ts, err := verification.VerifyTimestampResponse(token, bytes.NewReader(signature), verification.VerifyOpts{Roots: above.path[:1], TSACertificate: c.Leaf})
	if err != nil {
		return nil, err
	}
	if !above.holds(ts.Time) || !timestamperWindow(c.SigstoreTimestampingAuthority).Contains(ts.Time) {
		return c.SigstoreTimestampingAuthority.Verify(token, signature)
	}
	return &root.Timestamp{Time: ts.Time, URI: c.URI}, nil
}

// Until is the first moment after at when something in r stops being valid: a
// period of a certificate authority, timestamp authority or log, one of their
// certificates, or the metadata that r came with. Zero: nothing ever does.
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
			if c != nil {
				end(CertificateWindow(c))
			}
		}
	}
	for _, f := range Authorities(r.Material) {
		end(authorityWindow(f))
		certificates(append([]*x509.Certificate{f.Root}, f.Intermediates...)...)
	}
	for _, tsa := range r.Material.TimestampingAuthorities() {
		if c, ok := tsa.(*clock); ok {
			end(timestamperWindow(c.SigstoreTimestampingAuthority))
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
