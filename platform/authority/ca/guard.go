package ca

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strings"

	"github.com/sigstore/fulcio/pkg/certificate"
	"github.com/sigstore/fulcio/pkg/config"
	"github.com/sigstore/fulcio/pkg/identity"
)

// The rule: a certificate names a builder of this platform, or this platform as
// its issuer, if and only if the platform's own issuer said so. It is enforced
// on the certificate itself, after the issuer's kind, claims and templates have
// done whatever they do, so that no kind and no template can be forgotten.

// builder is a principal of the platform's own issuer.
type builder struct {
	identity.Principal
	origin string
}

func (b builder) Embed(ctx context.Context, cert *x509.Certificate) error {
	if err := b.Principal.Embed(ctx, cert); err != nil {
		return err
	}
	if len(cert.URIs) != 1 || len(cert.EmailAddresses)+len(cert.DNSNames)+len(cert.IPAddresses) > 0 {
		return fmt.Errorf("a builder's certificate must have one URI as its subject, got %v", cert.URIs)
	}
	if san := cert.URIs[0].String(); !strings.HasPrefix(san, b.origin+"/builders/") {
		return fmt.Errorf("got subject %q, want one under %q", san, b.origin+"/builders/")
	}
	return nil
}

// guarded is an outside issuer.
type guarded struct {
	identity.Issuer
	origin string
	slots  chan struct{}
}

func (g *guarded) Authenticate(ctx context.Context, token string, opts ...config.InsecureOIDCConfigOption) (identity.Principal, error) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err := g.Issuer.Authenticate(ctx, token, opts...)
	if err != nil {
		return nil, err
	}
	return stranger{p, g.origin}, nil
}

// stranger is a principal of an outside issuer.
type stranger struct {
	identity.Principal
	origin string
}

func (s stranger) Embed(ctx context.Context, cert *x509.Certificate) error {
	if err := s.Principal.Embed(ctx, cert); err != nil {
		return err
	}
	return foreign(cert, s.origin)
}

// oidIssuerV1 is the issuer as a bare string, which Fulcio still writes and some
// clients still read.
var oidIssuerV1 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}

// foreign refuses a certificate that speaks of the platform at origin in its
// subject, in its issuer, or by naming one of its builders anywhere.
func foreign(cert *x509.Certificate, origin string) error {
	var names []string
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	names = append(names, cert.EmailAddresses...)
	names = append(names, cert.DNSNames...)
	for _, n := range names {
		if sameOrigin(n, origin) || mentions(n, origin) {
			return fmt.Errorf("subject %q is on the platform's own origin, which only its own issuer may name", n)
		}
	}
	for _, e := range cert.ExtraExtensions {
		value := string(e.Value)
		switch {
		case e.Id.Equal(oidIssuerV1):
		case e.Id.Equal(certificate.OIDIssuerV2):
			if rest, err := asn1.UnmarshalWithParams(e.Value, &value, "utf8"); err != nil || len(rest) > 0 {
				return fmt.Errorf("issuer extension is no UTF8String")
			}
		default:
			// Subject alternative names of other kinds and every other claim.
			if mentions(value, origin+"/builders/") {
				return fmt.Errorf("extension %s names a builder of the platform, which only its own issuer may do", e.Id)
			}
			continue
		}
		if sameOrigin(value, origin) {
			return fmt.Errorf("issuer %q is the platform's own", value)
		}
	}
	return nil
}

// mentions finds needle in s, whatever the case and once unescaped.
func mentions(s, needle string) bool {
	s, needle = strings.ToLower(s), strings.ToLower(needle)
	if strings.Contains(s, needle) {
		return true
	}
	plain, err := url.PathUnescape(s)
	return err == nil && strings.Contains(plain, needle)
}

// sameOrigin says whether a URL is on origin, however it is written.
func sameOrigin(s, origin string) bool {
	a, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return false
	}
	b, err := url.Parse(origin)
	if err != nil {
		return true // cannot tell: New was given no origin
	}
	return hostPort(a) == hostPort(b)
}

func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case strings.EqualFold(u.Scheme, "https"):
		port = "443"
	case strings.EqualFold(u.Scheme, "http"):
		port = "80"
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port
}
