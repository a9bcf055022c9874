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

// The rule: a certificate names a builder of this platform, or this platform as its
// issuer, if and only if its token comes from the platform's own issuer. The code below
// checks the finished certificate, after Fulcio has applied issuer type, claims and
// templates. So the check covers every type and every template.

// builder is a principal with a token of the platform's own issuer. Its certificate must
// name one builder and nothing else.
type builder struct {
	identity.Principal
	origin string
}

func (b builder) Embed(ctx context.Context, cert *x509.Certificate) error {
	if err := b.Principal.Embed(ctx, cert); err != nil {
		return err
	}
	if len(cert.URIs) != 1 || len(cert.EmailAddresses)+len(cert.DNSNames)+len(cert.IPAddresses) > 0 {
		return fmt.Errorf("subject of a builder's certificate: got %v, want one URI and no other name", cert.URIs)
	}
	if san := cert.URIs[0].String(); !strings.HasPrefix(san, b.origin+"/builders/") {
		return fmt.Errorf("subject: got %q, want a URI under %q", san, b.origin+"/builders/")
	}
	return nil
}

// outsideIssuer is an outside issuer. slots bounds the tokens that all of them check at
// a time.
type outsideIssuer struct {
	identity.Issuer
	origin string
	slots  chan struct{}
}

func (g *outsideIssuer) Authenticate(ctx context.Context, token string, opts ...config.InsecureOIDCConfigOption) (identity.Principal, error) {
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
	return outsider{p, g.origin}, nil
}

// outsider is a principal with a token of an outside issuer. Its certificate must not name
// the platform at origin.
type outsider struct {
	identity.Principal
	origin string
}

func (s outsider) Embed(ctx context.Context, cert *x509.Certificate) error {
	if err := s.Principal.Embed(ctx, cert); err != nil {
		return err
	}
	return checkOutsider(cert, s.origin)
}

// oidIssuerV1 is the extension with the issuer as a bare string. It is deprecated, but
// Fulcio still writes it and some clients still read it.
var oidIssuerV1 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}

// checkOutsider refuses a certificate whose subject or issuer extension names the platform
// at origin, or that names one of its builders anywhere.
func checkOutsider(cert *x509.Certificate, origin string) error {
	var names []string
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	names = append(names, cert.EmailAddresses...)
	names = append(names, cert.DNSNames...)
	for _, n := range names {
		if sameOrigin(n, origin) || mentions(n, origin) {
			return fmt.Errorf("subject %q names the platform's own origin, which only its own issuer may do", n)
		}
	}
	for _, e := range cert.ExtraExtensions {
		value := string(e.Value)
		switch {
		case e.Id.Equal(oidIssuerV1):
		case e.Id.Equal(certificate.OIDIssuerV2):
			if rest, err := asn1.UnmarshalWithParams(e.Value, &value, "utf8"); err != nil || len(rest) > 0 {
				return fmt.Errorf("issuer extension is not a UTF8String")
			}
		default:
			// Other kinds of subject alternative names, and all other claims.
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

// mentions reports whether s contains needle, as it is or after percent-decoding, in any
// case.
func mentions(s, needle string) bool {
	s, needle = strings.ToLower(s), strings.ToLower(needle)
	if strings.Contains(s, needle) {
		return true
	}
	plain, err := url.PathUnescape(s)
	return err == nil && strings.Contains(plain, needle)
}

// sameOrigin reports whether the URL s has the host and port of origin. It normalises
// both.
func sameOrigin(s, origin string) bool {
	a, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return false
	}
	b, err := url.Parse(origin)
	if err != nil {
		return true // New got no valid origin: refuse
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
