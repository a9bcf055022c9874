package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

// What others verified in the consumer's place: SLSA verification summaries
// (slsa.dev/spec/v1.2/verification_summary, "How to verify").

func isSummary(b *attest.Signed) bool {
	return b.Statement != nil && b.Statement.PredicateType == attest.PredicateVSA
}

// summary is one that holds as a document, by a verifier that is believed.
type summary struct {
	vsa *attest.VSA
	by  policy.Verifier
	at  time.Time // when it was signed, or else says that it was verified
}

// summaryLink looks for summaries of the verifiers that the policy believes. Of
// what one verifier says about the resource, the last word counts.
// resource is what summaries should be about where the policy does not say.
func (c *check) summaryLink(resource string, look func(wanted) *search) (Link, *attest.VSA) {
	l := Link{Name: LinkSummary, Status: Absent, Reason: "there is no verification summary"}
	var good *summary
	for _, by := range c.opts.Policy.Verifiers {
		last, miss := c.lastSummary(by, resource, look)
		switch {
		case last == nil:
			if miss.Status != Absent && good == nil {
				l = miss
			}
			continue
		case good != nil:
			continue
		}
		if err := c.opts.Policy.MatchSummary(by, last.vsa, c.opts.Now); err != nil {
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
func (c *check) lastSummary(by policy.Verifier, resource string, look func(wanted) *search) (*summary, Link) {
	signer := signerOf(by.Signer)
	var mu sync.Mutex
	var last *summary
	s := look(wanted{what: "verification summary", takes: isSummary, signer: signer, then: func(b *attest.Signed, sig *Signature) error {
		vsa, err := attest.ParseVSA(b.Statement.Predicate)
		if err == nil {
			err = by.Concerns(vsa, resource)
		}
		if err != nil {
			return err
		}
		at, err := c.timeOf(vsa, sig)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		// Of two at one moment, the one that failed.
		if last == nil || at.After(last.at) || at.Equal(last.at) && vsa.VerificationResult != attest.VSAPassed {
			last = &summary{vsa, by, at}
		}
		return nil
	}})
	if last != nil {
		return last, Link{}
	}
	l := signedLinks(s, signer, "verification summary")[0]
	if s.best != nil && s.best.sig != nil {
		l = Link{Status: Broken, Reason: s.best.err.Error()}
	}
	l.Name = LinkSummary
	return nil, l
}

// timeOf is when a summary was made. It cannot have been verified after it was
// signed, or in the future.
func (c *check) timeOf(vsa *attest.VSA, sig *Signature) (time.Time, error) {
	var at time.Time
	for _, t := range sig.Times {
		if at.IsZero() || t.After(at) {
			at = t
		}
	}
	if vsa.TimeVerified == nil {
		return at, nil
	}
	latest := c.opts.Now
	if !at.IsZero() {
		latest = at
	}
	if vsa.TimeVerified.After(latest.Add(clockSkew)) {
		return at, fmt.Errorf("it says that it was verified %s, which is after %s", show(*vsa.TimeVerified), show(latest))
	}
	if at.IsZero() {
		at = *vsa.TimeVerified
	}
	return at, nil
}

func (s *summary) claim() string {
	when := ""
	if !s.at.IsZero() {
		when = ", " + show(s.at)
	}
	return fmt.Sprintf("%s by %s%s: %q of %s", s.vsa.VerificationResult, s.by.ID, when, s.vsa.VerifiedLevels, s.vsa.ResourceURI)
}

// summarise adds what the verifiers of the policy say, if it names any. Where
// no chain is demanded the level is the one that they verified.
func (c *check) summarise(v *Verdict, resource string, look func(wanted) *search) {
	if len(c.opts.Policy.Verifiers) == 0 {
		return
	}
	l, vsa := c.summaryLink(resource, look)
	v.also(l)
	if _, only := c.opts.Policy.Origin.(policy.SummaryOnly); only && vsa != nil {
		v.Level = vsa.BuildLevel()
	}
}

// also adds a link that is demanded beside those that decided so far.
func (v *Verdict) also(l Link) {
	v.add(l)
	switch {
	case l.Status == Holds:
	case l.Status == Broken || l.Status == Absent:
		v.Outcome = Rejected
	case v.Outcome == Accepted:
		v.Outcome = Undecided
	}
}

// summarised is Image for a policy that demands a summary and no chain.
func (c *check) summarised(ctx context.Context, v *Verdict, digest v1.Hash) {
	v.add(c.image(ctx, digest))
	for _, l := range unasked(LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkSBOM) {
		v.add(l)
	}
	v.demand(map[string]bool{LinkImage: true})
}

// unasked are the links of a chain that no policy demands.
func unasked(names ...string) (links []Link) {
	for _, name := range names {
		links = append(links, Link{Name: name, Status: NotAsked, Reason: "the policy believes a verifier in its place"})
	}
	return links
}

// Summary is the verdict as a verification summary that verifier (a URI) can
// sign: about resource, by the policy described, at a time. A verdict that is
// not decided has none: neither result would be true.
func (v *Verdict) Summary(verifier, resource string, policy attest.ResourceDescriptor, at time.Time) (*attest.VSA, error) {
	at = at.UTC().Truncate(time.Second)
	s := &attest.VSA{Verifier: attest.VSAVerifier{ID: verifier}, TimeVerified: &at, ResourceURI: resource, Policy: policy, SLSAVersion: attest.SLSAVersion}
	switch {
	case v.Outcome == Rejected:
		s.VerificationResult, s.VerifiedLevels = attest.VSAFailed, []string{attest.VSAFailed}
	case v.Outcome != Accepted || v.Digest == "":
		return nil, fmt.Errorf("the verdict is %s, of which a verification summary can say nothing", v.Outcome)
	case v.Level == 0 && len(v.Requirements) == 0:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildUnevaluated}
	default:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildLevelName(v.Level)}
	}
	return s, s.Check()
}
