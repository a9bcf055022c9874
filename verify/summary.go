package verify

import (
	"fmt"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// summary is a valid verification summary by a verifier that the policy trusts
// (slsa.dev/spec/v1.2/verification_summary, "How to verify").
type summary struct {
	vsa *attest.VSA
	by  policy.Verifier
	at  time.Time // when it was signed; without a proof of that, its timeVerified

	signer distrust.Signer
}

func (s *summary) claim() string {
	when := ""
	if !s.at.IsZero() {
		when = ", " + trust.FormatTime(s.at)
	}
	return fmt.Sprintf("%s by %s%s: %q of %s", s.vsa.VerificationResult, s.by.ID, when, s.vsa.VerifiedLevels, s.vsa.ResourceURI)
}

// timeOf returns when a summary was made. It fails if its timeVerified is later
// than its signature, or in the future.
func (c *check) timeOf(vsa *attest.VSA, p *proof) (time.Time, error) {
	at := lastTime(p)
	if vsa.TimeVerified == nil {
		return at, nil
	}
	latest := c.now
	if !at.IsZero() {
		latest = at
	}
	if vsa.TimeVerified.After(latest.Add(bundle.ClockSkew)) {
		return at, fmt.Errorf("timeVerified of the summary: got %s, want at most %s", trust.FormatTime(*vsa.TimeVerified), trust.FormatTime(latest))
	}
	if at.IsZero() {
		at = *vsa.TimeVerified
	}
	return at, nil
}

// lastTime returns the last time at which p's signature is proved to have existed.
func lastTime(p *proof) (at time.Time) {
	for _, t := range p.Times {
		if t.After(at) {
			at = t
		}
	}
	return at
}
