package notation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// checkCRL refuses lists that do not say of all certificates of their issuer whether they were
// revoked: that is what critical extensions say.
func checkCRL(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		if e.Critical {
			return fmt.Errorf("revocation: list of %q: critical extension %s is not known", l.Issuer, e.Id)
		}
	}
	for _, r := range l.RevokedCertificateEntries {
		for _, e := range r.Extensions {
			if e.Critical {
				return fmt.Errorf("revocation: list of %q: critical extension %s of an entry is not known", l.Issuer, e.Id)
			}
		}
	}
	return nil
}

// checkRevoked fails if a certificate of the chain was revoked at any time, and with
// ErrRevocationUnknown if no list tells. It leaves out the last certificate: the trust policy
// trusts that one, or one below it.
func (t *TrustPolicy) checkRevoked(chain []*x509.Certificate, now time.Time) error {
	var unknown error
	for i, c := range chain[:len(chain)-1] {
		known, err := t.listed(c, chain[i+1], now)
		switch {
		case err != nil:
			return err
		case known || t.WithoutRevocation || len(c.CRLDistributionPoints)+len(c.OCSPServer) == 0:
		case unknown == nil:
			unknown = fmt.Errorf("certificate %q: %w: the policy has no list of revoked certificates by %q that is valid now", c.Subject, ErrRevocationUnknown, c.Issuer)
		}
	}
	return unknown
}

// listed fails if a list by the issuer names the certificate. known says that one does that is
// valid at the time now, and would.
func (t *TrustPolicy) listed(c, issuer *x509.Certificate, now time.Time) (known bool, err error) {
	for _, l := range t.CRLs {
		if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || l.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, r := range l.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return true, fmt.Errorf("certificate %q (serial number %s): revoked at %s", c.Subject, hexOf(c.SerialNumber), r.RevocationTime.UTC().Format(time.RFC3339))
			}
		}
		known = known || !now.Add(skew).Before(l.ThisUpdate) && !l.NextUpdate.IsZero() && now.Before(l.NextUpdate)
	}
	return known, nil
}

func hexOf(n *big.Int) string { return fmt.Sprintf("%x", n) }
