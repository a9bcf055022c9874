package verify

import (
	"bytes"
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/policy"
)

// factsOf returns the facts of a set, or nil if its signature, log or provenance
// does not hold.
func (c *check) factsOf(s set) *Facts {
	_, signatureOnly := c.opts.Policy.Origin.(policy.SignatureOnly)
	if !s.signed().holds() || !signatureOnly && !s.provenance.holds() {
		return nil
	}
	f := &Facts{Signed: []Signed{}}
	for _, r := range []ref{s.signature, s.provenance, s.spdx, s.cdx} {
		if r.holds() {
			signed := signedThing(r)
			signed.by = signerFact(r.proof, c.opts.Policy.Signer())
			f.Signed = append(f.Signed, signed)
		}
	}
	if s.provenance.holds() {
		f.Build = s.provenance.proof.build.Facts
	}
	return f
}

// Builds returns what each provenance says that holds in the eyes of a policy, that of its verdict
// among them. An image may carry proofs of several commits. Gather must have been asked for the policy.
func (ev *Evidence) Builds(p policy.Policy) (all []Facts) {
	missed := false
	c := ev.check(p, &missed)
	if c.ready() != nil || ev.unresolved != nil || ev.image.Digest == (v1.Hash{}) {
		return nil
	}
	_, attached := c.subject(context.Background(), ev.image) // nothing waits: all was read
	if missed {
		return nil
	}
	for _, s := range c.sets(attached) {
		if f := c.factsOf(s); f != nil && f.Build != nil {
			all = append(all, *f)
		}
	}
	return all
}

func signedThing(r ref) Signed {
	p := r.proof
	s := Signed{Digest: r.item.at, PredicateType: r.item.kind, Signer: p.Identity.SubjectAlternativeName, Issuer: p.Identity.Issuer, Times: p.Times}
	if p.root != nil {
		s.TrustRoot = p.root.Fingerprint
	}
	if !p.Certified.IsZero() {
		s.Certified = &p.Certified
	}
	if p.Index >= 0 {
		s.LogIndex = &p.Index
	}
	if p.sbom != nil {
		s.SBOM = &SBOM{Format: p.sbom.Format, Version: p.sbom.Version, Packages: p.sbom.Packages, Unread: p.sbom.Unread}
	}
	return s
}

// maxFacts is the maximum size in bytes of all statements about one image that are kept as
// facts. Decoded, they take several times as much.
const maxFacts = 4 << 20

// keepFact keeps the predicate of a statement.
func (c *check) keepFact(predicate []byte) (*fact, error) {
	if c.kept.Add(int64(len(predicate))) > maxFacts {
		return nil, fmt.Errorf("the statements of the types asked for exceed %d bytes", maxFacts)
	}
	return &fact{raw: bytes.Clone(predicate)}, nil
}
