package notation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corex509 "github.com/notaryproject/notation-core-go/x509"
	"github.com/notaryproject/tspclient-go"
)

// interval is when a signature was there already: a time, as exactly as it is known.
type interval struct {
	from, to time.Time
	proved   bool // somebody vouches for it; otherwise it is the time of verification
}

func (i interval) String() string {
	if i.from.Equal(i.to) {
		return i.from.UTC().Format(time.RFC3339)
	}
	return i.from.UTC().Format(time.RFC3339) + " to " + i.to.UTC().Format(time.RFC3339)
}

// time returns the time at which the certificates of the chain must have been valid: that of
// signing, if the signing authority or a timestamp authority vouches for it, or else now.
func (s *Signature) time(t *TrustPolicy, now time.Time) (interval, error) {
	at := interval{from: now, to: now}
	switch {
	case s.Scheme == SigningAuthority:
		at = interval{s.Signed, s.Signed, true}
	case len(t.TSA) > 0:
		var err error
		if at, err = s.timestamp(t, now); err != nil {
			return at, fmt.Errorf("timestamp: %w", err)
		}
	}
	if at.from.After(now.Add(skew)) {
		return at, fmt.Errorf("time of signing: got %s, want at most that of verification, %s", at, now.UTC().Format(time.RFC3339))
	}
	return at, nil
}

// timestamp verifies the timestamp over the signature under the timestamp authorities that are
// trusted.
func (s *Signature) timestamp(t *TrustPolicy, now time.Time) (at interval, err error) {
	if len(s.token) == 0 {
		return at, errors.New("the signature has no timestamp, and the trust policy names timestamp authorities")
	}
	token, err := tspclient.ParseSignedToken(s.token)
	if err != nil {
		return at, err
	}
	if len(token.Certificates) > maxChain {
		return at, fmt.Errorf("got %d certificates, want at most %d", len(token.Certificates), maxChain)
	}
	for _, c := range token.Certificates {
		if err := checkKey(c); err != nil {
			return at, err
		}
	}
	if n := len(token.SignerInfos); n != 1 { // RFC 3161, section 2.4.2
		return at, fmt.Errorf("got %d signers, want 1", n)
	}
	info, err := token.Info()
	if err != nil {
		return at, err
	}
	stamped, err := info.Validate(s.signature)
	switch {
	case err != nil:
		return at, err
	case stamped.Accuracy < 0 || stamped.Accuracy > time.Hour:
		return at, fmt.Errorf("accuracy: got %s, want at most an hour", stamped.Accuracy)
	}
	roots := x509.NewCertPool()
	for _, c := range t.TSA {
		roots.AddCert(c)
	}
	chain, err := token.Verify(context.Background(), x509.VerifyOptions{CurrentTime: stamped.Value, Roots: roots})
	if err == nil {
		err = checkTimestampChain(chain)
	}
	if err == nil {
		err = t.checkRevoked(chain, now)
	}
	return interval{stamped.Value.Add(-stamped.Accuracy).UTC(), stamped.Value.Add(stamped.Accuracy).UTC(), true}, err
}

// checkTimestampChain checks the usages of the keys of a chain. It may end below a root, at a
// certificate that is trusted itself.
func checkTimestampChain(chain []*x509.Certificate) error {
	root := chain[len(chain)-1]
	if root.CheckSignatureFrom(root) != nil {
		return nil // x509 checked all that it can of a chain without a root
	}
	return corex509.ValidateTimestampingCertChain(chain)
}
