package verify

import (
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

var errNoProvenance = errors.New("there is no provenance that holds, whose signer it would have to be of")

// attested adds what the policy demands beside the provenance, a link each.
func (c *check) attested(v *Verdict, look func(wanted) *search) {
	for _, a := range c.opts.Policy.Attestations {
		v.also(c.attestedLink(look, a, c.provenBy()))
	}
}

// provenBy is who signed the provenance, nil where none holds.
func (c *check) provenBy() *Signer {
	if named := c.opts.Policy.Signer(); named != nil {
		s := signerOf(named)
		return &s
	}
	if !c.proven.good() {
		return nil
	}
	id := c.proven.proof.identity
	return &Signer{Identity: id.SubjectAlternativeName, Issuer: id.Issuer}
}

func (c *check) attestedLink(look func(wanted) *search, a policy.Attestation, signer *Signer) Link {
	l := Link{Name: LinkAttestation, Status: Unknown}
	if a.Signer != nil {
		own := signerOf(a.Signer)
		signer = &own
	}
	if signer == nil {
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, errNoProvenance)
		return l
	}
	s := look(wanted{
		takes:  func(b *attest.Signed) bool { return b.Statement != nil && b.Statement.PredicateType == a.PredicateType },
		signer: *signer,
		then:   func(b *attest.Signed, _ *Signature) error { return a.Match(b.Statement.Predicate) },
	})
	switch {
	case s.best != nil && s.best.err == nil:
		l.Status, l.Claim = Holds, fmt.Sprintf("%s, by %s", a.PredicateType, signer)
	case s.unread != nil:
		l.Reason = fmt.Sprintf("%s: %v", a.PredicateType, s.unread)
	case s.best != nil && s.best.score > 0:
		l.Status, l.Reason = Broken, fmt.Sprintf("%s: %v", a.PredicateType, s.best.err)
	default:
		l.Status, l.Reason = Absent, fmt.Sprintf("the image carries no %s", a.PredicateType)
	}
	return l
}

// String names a signer for people.
func (s Signer) String() string {
	if s.Key != nil {
		return "the key given"
	}
	return s.Identity
}
