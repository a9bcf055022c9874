package trust

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Instance are the keys of a Sigstore instance, each in PEM.
type Instance struct {
	Authorities []Part // certificate authorities: certificates up to the root, which comes last
	Stampers    []Part // timestamp authorities: the same, and the certificate that signs first
	Logs        []Part // transparency logs: a public key (PKIX)
	CTLogs      []Part // certificate transparency logs: the same
}

// Part is one service of an Instance.
type Part struct {
	URL string
	PEM []byte
}

// maxChainPEM limits the certificates of one authority.
const maxChainPEM = 10

// FromKeys returns a Root with the keys of an instance. It vouches for every issuer, because
// whoever names the root names the issuers too, so that it must be used for nothing else than
// where it is named. It may lack any kind of service: what needs one then fails.
func FromKeys(in Instance) (*Root, error) {
	var cas []root.CertificateAuthority
	var tsas []root.TimestampingAuthority
	sum := sha256.New()
	for _, p := range in.Authorities {
		fmt.Fprintf(sum, "authority %q %q\n", p.URL, p.PEM)
		_, between, anchor, err := chainOf(p.PEM, false)
		if err != nil {
			return nil, fmt.Errorf("certificate authority %s: %w", p.URL, err)
		}
		cas = append(cas, &root.FulcioCertificateAuthority{Root: anchor, Intermediates: between, ValidityPeriodStart: anchor.NotBefore, ValidityPeriodEnd: anchor.NotAfter, URI: p.URL})
	}
	for _, p := range in.Stampers {
		fmt.Fprintf(sum, "stamper %q %q\n", p.URL, p.PEM)
		leaf, between, anchor, err := chainOf(p.PEM, true)
		if err != nil {
			return nil, fmt.Errorf("timestamp authority %s: %w", p.URL, err)
		}
		tsas = append(tsas, &root.SigstoreTimestampingAuthority{Root: anchor, Intermediates: between, Leaf: leaf, ValidityPeriodStart: leaf.NotBefore, ValidityPeriodEnd: leaf.NotAfter, URI: p.URL})
	}
	logs, err := logsOf(in.Logs)
	if err != nil {
		return nil, fmt.Errorf("log %w", err)
	}
	ctlogs, err := logsOf(in.CTLogs)
	if err != nil {
		return nil, fmt.Errorf("certificate transparency log %w", err)
	}
	fmt.Fprintf(sum, "logs %q %q\n", in.Logs, in.CTLogs)
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, cas, ctlogs, tsas, logs)
	if err != nil {
		return nil, err
	}
	r := &Root{Fingerprint: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Material: newMaterial(tr, nil)}
	return r.ForEveryIssuer(), nil
}

// chainOf returns the certificates of an authority. With leaf, the first one that is no CA's
// signs, and there must be one; without, there must be none.
func chainOf(text []byte, leaf bool) (signer *x509.Certificate, between []*x509.Certificate, anchor *x509.Certificate, err error) {
	certificates, err := cryptoutils.UnmarshalCertificatesFromPEM(text)
	if err != nil || len(certificates) == 0 || len(certificates) > maxChainPEM {
		return nil, nil, nil, fmt.Errorf("expected 1 to %d certificates in PEM, found %d", maxChainPEM, len(certificates))
	}
	for _, c := range certificates {
		switch {
		case !c.IsCA && leaf && signer == nil:
			signer = c
		case !c.IsCA:
			return nil, nil, nil, errors.New("found a certificate that is no authority's")
		case c.CheckSignatureFrom(c) == nil:
			if anchor != nil {
				return nil, nil, nil, errors.New("found two root certificates, expected one chain")
			}
			anchor = c
		default:
			between = append(between, c)
		}
	}
	if anchor == nil || leaf && signer == nil {
		return nil, nil, nil, errors.New("the chain has no root certificate, or nothing that signs")
	}
	return signer, between, anchor, nil
}

// logsOf returns logs by their key ids (RFC 6962, 3.2).
func logsOf(parts []Part) (map[string]*root.TransparencyLog, error) {
	all := map[string]*root.TransparencyLog{}
	for _, p := range parts {
		block, _ := pem.Decode(p.PEM)
		if block == nil {
			return nil, fmt.Errorf("%s: expected a public key in PEM", p.URL)
		}
		key, err := cryptoutils.UnmarshalPEMToPublicKey(p.PEM)
		if err != nil {
			return nil, fmt.Errorf("%s: expected a public key in PEM: %w", p.URL, err)
		}
		spki, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(spki)
		all[hex.EncodeToString(id[:])] = &root.TransparencyLog{
			BaseURL: p.URL, ID: id[:], ValidityPeriodStart: time.Unix(0, 0).UTC(), HashFunc: crypto.SHA256, PublicKey: key, SignatureHashFunc: crypto.SHA256,
		}
	}
	return all, nil
}

// ForEveryIssuer returns r as one that vouches for every issuer. It must be used only where
// somebody names r and the issuer.
func (r *Root) ForEveryIssuer() *Root {
	m, ok := r.Material.(*material)
	if !ok {
		return r
	}
	every, wide := *m, *r
	every.every = true
	wide.Fingerprint = composed("every issuer", r)
	wide.Material, wide.Builders = &every, nil
	return &wide
}

// Choice says from which roots Compose takes which services. nil means none.
type Choice struct {
	Authorities *Root // certificate authorities and certificate transparency logs; it says which issuers are vouched for
	Logs        *Root
	Stampers    *Root
	WithoutSCT  bool // no certificate transparency logs: certificates need no SCT
}

// Compose returns a Root with services of several, which somebody trusts together for one
// demand. It names no builders.
func Compose(c Choice) *Root {
	m := &material{TrustedRoot: nil}
	var cas []root.CertificateAuthority
	var ctlogs, logs map[string]*root.TransparencyLog
	var tsas []root.TimestampingAuthority
	r := &Root{Fingerprint: composed(fmt.Sprintf("without SCT: %v", c.WithoutSCT), c.Authorities, c.Logs, c.Stampers)}
	if a := c.Authorities; a != nil {
		cas = a.Material.FulcioCertificateAuthorities()
		if !c.WithoutSCT {
			ctlogs = a.Material.CTLogs()
		}
		if of, ok := a.Material.(*material); ok {
			m.issuers, m.every = of.issuers, of.every
		}
	}
	for _, part := range []*Root{c.Authorities, c.Logs, c.Stampers} {
		if part != nil && !part.Expires.IsZero() && (r.Expires.IsZero() || part.Expires.Before(r.Expires)) {
			r.Expires = part.Expires
		}
	}
	if c.Logs != nil {
		logs = c.Logs.Material.RekorLogs()
	}
	if c.Stampers != nil {
		tsas = c.Stampers.Material.TimestampingAuthorities()
	}
	// It fails only for a media type that it does not know.
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, nil, ctlogs, nil, logs)
	if err != nil {
		panic(err)
	}
	m.TrustedRoot, m.authorities, m.timestamps = tr, cas, tsas
	r.Material = m
	return r
}

// composed returns a fingerprint that stands for roots in an order, and for how they are used.
func composed(how string, roots ...*Root) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "composed: %s\n", how)
	for _, r := range roots {
		if r == nil {
			fmt.Fprintln(sum, "none")
			continue
		}
		fmt.Fprintln(sum, r.Fingerprint, r.Pin())
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}
