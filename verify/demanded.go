package verify

import (
	"errors"
	"fmt"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

var errNoProvenance = errors.New("there is no provenance that holds, whose signer it would have to be of")

// demanded adds what the policy demands beside its Origin, a link each:
// attestations, and the word of a verifier. resource is what summaries should be
// about where the policy does not say.
func (c *check) demanded(v *Verdict, ev *evidence, s set, resource string) {
	for i, a := range c.opts.Policy.Attestations {
		v.also(c.attestationLink(ev, s, i, a))
	}
	if len(c.opts.Policy.Verifiers) == 0 {
		return
	}
	l, vsa := c.summaryLink(ev, resource)
	v.also(l)
	// Where no evidence of the image's own is demanded, the level is the one verified.
	if _, only := c.opts.Policy.Origin.(policy.SummaryOnly); only && vsa != nil {
		v.Level = vsa.BuildLevel()
	}
}

func (c *check) attestationLink(ev *evidence, s set, i int, a policy.Attestation) Link {
	l := Link{Name: LinkAttestation, Status: Unknown}
	test, by, err := c.attestationSigner(s, a)
	if err != nil {
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, err)
		return l
	}
	takes := func(it *item) bool { return it.kind == a.PredicateType }
	found := best(ev.signedBy(takes, test, func(it *item, _ *proof) error { return it.matches[i] }))
	switch unread := ev.unread(takes); {
	case found.holds():
		l.Status, l.Claim = Holds, fmt.Sprintf("%s, by %s", a.PredicateType, by)
	case unread != nil:
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, unread)
	case found.proof != nil:
		l.Status, l.Reason = Broken, fmt.Sprintf("%s: %v", a.PredicateType, found.err)
	default:
		l.Status, l.Reason = Absent, "the image carries no "+a.PredicateType
	}
	return l
}

// attestationSigner returns the test of who must have signed an attestation, and
// its name for people: the policy's own choice, or whoever signed the provenance,
// under the same trust root.
func (c *check) attestationSigner(s set, a policy.Attestation) (func(*proof) error, string, error) {
	named := a.Signer
	if named == nil {
		named = c.opts.Policy.Signer()
	}
	if named != nil {
		by := signerOf(named)
		return signed(by), by.String(), nil
	}
	if !s.provenance.holds() {
		return nil, "", errNoProvenance
	}
	of := s.provenance.proof
	test := signed(bundle.Signer{Identity: of.Identity.SubjectAlternativeName, Issuer: of.Identity.Issuer})
	return func(p *proof) error {
		if p.root != of.root {
			return fmt.Errorf("trust root of the signer: got another than that of the provenance")
		}
		return test(p)
	}, of.Identity.SubjectAlternativeName, nil
}

// summary is a verification summary that holds as a document, by a verifier whom
// the policy trusts (slsa.dev/spec/v1.2/verification_summary, "How to verify").
type summary struct {
	vsa *attest.VSA
	by  policy.Verifier
	at  time.Time // when it was signed, or else says that it was verified
}

// summaryLink looks for summaries of the verifiers that the policy trusts. Of
// what one verifier says about the resource, the last word counts.
func (c *check) summaryLink(ev *evidence, resource string) (Link, *attest.VSA) {
	l := Link{Name: LinkSummary, Status: Absent, Reason: "there is no verification summary"}
	var good *summary
	for _, by := range c.opts.Policy.Verifiers {
		last, miss := c.lastSummary(ev, by, resource)
		switch {
		case last == nil:
			if miss.Status != Absent && good == nil {
				l = miss
			}
			continue
		case good != nil:
			continue
		}
		if err := c.opts.Policy.MatchSummary(by, last.vsa, c.now); err != nil {
			l = Link{Name: LinkSummary, Status: Broken, Reason: fmt.Sprintf("summary by %s: %v", by.ID, err)}
			continue
		}
		good = last
	}
	if good == nil {
		return l, nil
	}
	return Link{Name: LinkSummary, Status: Holds, Claim: good.claim()}, good.vsa
}

// lastSummary is the last word of one verifier, or the link that says why there
// is none.
func (c *check) lastSummary(ev *evidence, by policy.Verifier, resource string) (*summary, Link) {
	var last *summary
	takes := ofKind(attest.PredicateVSA)
	found := ev.signedBy(takes, signed(signerOf(by.Signer)), func(it *item, p *proof) error {
		err := it.vsaErr
		if err == nil {
			err = by.Concerns(it.vsa, resource)
		}
		if err != nil {
			return err
		}
		at, err := c.timeOf(it.vsa, p)
		if err != nil {
			return err
		}
		// Of two at one moment, the one that failed.
		if last == nil || at.After(last.at) || at.Equal(last.at) && it.vsa.VerificationResult != attest.VSAPassed {
			last = &summary{it.vsa, by, at}
		}
		return nil
	})
	if last != nil {
		return last, Link{}
	}
	return nil, ev.lacking(LinkSummary, takes, "verification summary", best(found))
}

// timeOf is when a summary was made. It cannot have been verified after it was
// signed, or in the future.
func (c *check) timeOf(vsa *attest.VSA, p *proof) (time.Time, error) {
	var at time.Time
	for _, t := range p.Times {
		if at.IsZero() || t.After(at) {
			at = t
		}
	}
	if vsa.TimeVerified == nil {
		return at, nil
	}
	latest := c.now
	if !at.IsZero() {
		latest = at
	}
	if vsa.TimeVerified.After(latest.Add(bundle.ClockSkew)) {
		return at, fmt.Errorf("it says that it was verified %s, which is after %s", trust.FormatTime(*vsa.TimeVerified), trust.FormatTime(latest))
	}
	if at.IsZero() {
		at = *vsa.TimeVerified
	}
	return at, nil
}

func (s *summary) claim() string {
	when := ""
	if !s.at.IsZero() {
		when = ", " + trust.FormatTime(s.at)
	}
	return fmt.Sprintf("%s by %s%s: %q of %s", s.vsa.VerificationResult, s.by.ID, when, s.vsa.VerifiedLevels, s.vsa.ResourceURI)
}
