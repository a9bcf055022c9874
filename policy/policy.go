// Package policy says what a consumer demands of an image, and compares it with
// what verified evidence says.
//
// A policy document (spec/policy) is a JSON object; Parse turns it into a
// Policy. A Policy has a type for each kind of demand, so that demands which
// exclude each other cannot be written down together.
package policy

import (
	"errors"
	"fmt"
)

// maxVerifiers and maxAttestations bound one policy.
const (
	maxVerifiers    = 16
	maxAttestations = 32
)

// Policy is what a consumer demands of an image: all of its fields together.
// The zero Policy is refused by Check: knowing who signed an image is worthless
// without saying who should have.
type Policy struct {
	Origin       Origin        // how the image must prove where it comes from; required
	Attestations []Attestation // what else must be attested of the image
	Verifiers    []Verifier    // if there are any, a verification summary by one of them is demanded
	FreshTrust   bool          // trust roots from a TUF repository count only until its metadata expires
}

// Origin is how an image must prove where it comes from. It is one of
// BuilderProvenance, SignerProvenance, SignatureOnly and SummaryOnly, by value.
type Origin interface {
	checkOrigin() error
}

// BuilderProvenance demands provenance of a builder that the trust roots name,
// or of a public builder.
type BuilderProvenance struct {
	Provenance
	SBOM SBOM
}

// SignerProvenance demands provenance that the Signer made, whatever the trust
// roots say of builders: provenance of GitHub, GitLab or Tekton Chains.
type SignerProvenance struct {
	Provenance
	Signer Signer // required
}

// SignatureOnly demands a signature of the image, and nothing of its source.
type SignatureOnly struct {
	Signer Signer // required
}

// SummaryOnly demands no evidence of the image's own. One of the policy's
// Verifiers, which are required here, has verified the image in the consumer's
// place.
type SummaryOnly struct {
	MinLevel int // SLSA Build level, 0 to 3, that must have been verified
}

// SBOM says what is demanded of the SBOMs that the builder attached.
type SBOM int

const (
	SBOMRequired SBOM = iota // an SPDX and a CycloneDX document about the image
	SBOMOptional             // an image without SBOMs is accepted
	SBOMContents             // required, and they must agree with what is installed in the image
)

// Check returns an error if the policy demands nothing or contradicts itself, or
// if nothing could ever meet it. A Policy that Parse returned has passed it.
func (p Policy) Check() error {
	_, summaryOnly := p.Origin.(SummaryOnly)
	switch p.Origin.(type) {
	case nil:
		return errNoSource
	case BuilderProvenance, SignerProvenance, SignatureOnly, SummaryOnly:
	default: // pointers to them
		return fmt.Errorf("policy: origin: got a %T", p.Origin)
	}
	switch {
	case summaryOnly && len(p.Verifiers) == 0:
		return errNoSource
	case summaryOnly && len(p.Attestations) > 0:
		return errors.New("policy: attestations are demanded beside evidence of the image's own, and the policy demands only a verification summary")
	case len(p.Verifiers) > maxVerifiers:
		return fmt.Errorf("policy: got %d verifiers, want at most %d", len(p.Verifiers), maxVerifiers)
	case len(p.Attestations) > maxAttestations:
		return fmt.Errorf("policy: got %d attestations, want at most %d", len(p.Attestations), maxAttestations)
	}
	if err := p.Origin.checkOrigin(); err != nil {
		return err
	}
	for _, v := range p.Verifiers {
		if err := v.check(); err != nil {
			return err
		}
	}
	for _, a := range p.Attestations {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

var errNoSource = errors.New("policy names no source")

func (o BuilderProvenance) checkOrigin() error {
	if o.SBOM < SBOMRequired || o.SBOM > SBOMContents {
		return fmt.Errorf("policy: SBOM: got %d, want one of SBOMRequired, SBOMOptional, SBOMContents", o.SBOM)
	}
	if err := o.check(); err != nil {
		return err
	}
	return checkBuilderIDs(o.Builders)
}

func (o SignerProvenance) checkOrigin() error {
	if err := checkSigner(o.Signer); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	return checkBuilderURLs(o.Builders)
}

func (o SignatureOnly) checkOrigin() error { return checkSigner(o.Signer) }

func (o SummaryOnly) checkOrigin() error { return checkLevel(o.MinLevel) }

// Provenance returns what the image's provenance must say. Where the policy
// demands none it returns the zero Provenance, which no provenance meets.
func (p Policy) Provenance() Provenance {
	switch o := p.Origin.(type) {
	case BuilderProvenance:
		return o.Provenance
	case SignerProvenance:
		return o.Provenance
	}
	return Provenance{}
}

// Signer returns who must have signed the image or its provenance, or nil if the
// policy names nobody.
func (p Policy) Signer() Signer {
	switch o := p.Origin.(type) {
	case SignerProvenance:
		return o.Signer
	case SignatureOnly:
		return o.Signer
	}
	return nil
}

// SBOM returns what is demanded of the builder's SBOMs. Only of a builder's
// provenance any are.
func (p Policy) SBOM() SBOM {
	if o, ok := p.Origin.(BuilderProvenance); ok {
		return o.SBOM
	}
	return SBOMOptional
}

// Dangers lists what the policy accepts that nobody should accept without
// knowing it, each in one line for people.
func (p Policy) Dangers() (out []string) {
	if p.Provenance().Source == AnySource() {
		out = append(out, "any source is accepted")
	}
	unlogged := withoutLog(p.Signer())
	for _, v := range p.Verifiers {
		unlogged = unlogged || withoutLog(v.Signer)
	}
	for _, a := range p.Attestations {
		unlogged = unlogged || withoutLog(a.Signer)
	}
	if unlogged {
		out = append(out, "a signature that no transparency log has is accepted")
	}
	return out
}

// WithoutRoots reports whether the policy can be met without any trust root: by
// keys that it names, and without a log.
func (p Policy) WithoutRoots() bool {
	for _, v := range p.Verifiers {
		if !withoutLog(v.Signer) {
			return false
		}
	}
	_, summaryOnly := p.Origin.(SummaryOnly)
	return summaryOnly || withoutLog(p.Signer())
}
