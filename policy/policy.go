// Package policy describes what a consumer demands of a container image, and compares
// it with what verified evidence says.
//
// Parse parses a policy document, a JSON object (spec/policy), into a Policy. Each kind
// of demand has its own type, so demands that exclude each other cannot be combined.
// The Match methods compare one value each, and return an error with the value found
// and the value demanded. Package verify applies a Policy to an image.
package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits on one policy.
const (
	maxVerifiers    = 16
	maxAttestations = 32
	maxAbsent       = 32
)

// Policy is what a consumer demands of an image; the image must meet all fields. Check
// refuses the zero Policy: to know who signed an image is worthless without saying who
// should have signed it.
type Policy struct {
	Origin       Origin        // how the image must prove where it comes from; required
	Attestations []Attestation // attestations that the image must have, too; at most 32
	Verifiers    []Verifier    // if not empty, one of them must have verified the image; at most 16
	Absent       []Absent      // attestations that the image must not have; at most 32
	MaxTrustAge  time.Duration // maximum time since a trust root was last refreshed; older ones, and those of which it is not known, are ignored. 0: any
	Witnesses    Witnesses     // who must have cosigned the log's checkpoints
	FreshTrust   bool          // ignore trust roots from a TUF repository whose metadata has expired
}

// Origin is how an image must prove where it comes from. It is one of
// BuilderProvenance, SignerProvenance, SignatureOnly, NotationSignature, AttestationsOnly and
// SummaryOnly, by value.
type Origin interface {
	checkOrigin() error
}

// BuilderProvenance demands provenance by a builder that a trust root names, or by a
// public builder on GitHub or GitLab.
type BuilderProvenance struct {
	Provenance
	SBOM SBOM
	// CompleteSBOM demands SBOMs that name no file which their scanner could not read.
	CompleteSBOM bool
	Root         string // name of the trust root (trust.Root.Named) that must have verified the provenance; empty: any
}

// SignerProvenance demands provenance of GitHub, GitLab or Tekton Chains that the
// Signer signed. Builders in trust roots do not matter.
type SignerProvenance struct {
	Provenance
	Signer Signer // required
}

// SignatureOnly demands a signature of the image by the Signer. It says nothing about
// the source of the image.
type SignatureOnly struct {
	Signer Signer // required
}

// AttestationsOnly demands neither a signature nor provenance. Instead, the image must have the
// policy's Attestations, which are required here, each with a Signer. It says nothing about the
// source of the image.
type AttestationsOnly struct{}

// SummaryOnly demands no evidence from the builder. Instead, one of the policy's
// Verifiers, which are required here, must have verified the image.
type SummaryOnly struct {
	MinLevel int // lowest SLSA Build level, 0 to 3, in the verifier's summary
}

// SBOM is what the policy demands of the SBOMs that the builder attached.
type SBOM int

const (
	SBOMRequired SBOM = iota // an SPDX and a CycloneDX document about the image
	SBOMOptional             // an image without SBOMs is accepted
	SBOMContents             // required, and they must agree with what is installed in the image
)

// Check returns an error if the policy demands nothing, contradicts itself, or can
// never be met. Every Policy from Parse has passed it.
func (p Policy) Check() error {
	_, summaryOnly := p.Origin.(SummaryOnly)
	_, attestationsOnly := p.Origin.(AttestationsOnly)
	_, byNotation := p.Origin.(NotationSignature)
	nobodys := slices.ContainsFunc(p.Attestations, func(a Attestation) bool { return a.Signer == nil })
	switch p.Origin.(type) {
	case nil:
		return errNoSource
	case BuilderProvenance, SignerProvenance, SignatureOnly, NotationSignature, AttestationsOnly, SummaryOnly:
	default: // pointers to them
		return fmt.Errorf("policy: origin: got %T, want one of the types of this package by value", p.Origin)
	}
	switch {
	case summaryOnly && len(p.Verifiers) == 0:
		return errNoSource
	case summaryOnly && len(p.Attestations) > 0:
		return errors.New("policy: attestations: a policy that demands only a verification summary cannot demand attestations")
	case attestationsOnly && len(p.Attestations) == 0:
		return errors.New("policy: attestations: got none, want those that are enough")
	case attestationsOnly && nobodys:
		return errors.New("policy: attestations: want a signer: nothing else is demanded whose signer it could be")
	case byNotation && nobodys:
		return errors.New("policy: attestations: want a signer: signatures of notation have none that signs attestations, too")
	case len(p.Verifiers) > maxVerifiers:
		return fmt.Errorf("policy: got %d verifiers, want at most %d", len(p.Verifiers), maxVerifiers)
	case len(p.Attestations) > maxAttestations:
		return fmt.Errorf("policy: got %d attestations, want at most %d", len(p.Attestations), maxAttestations)
	case len(p.Absent) > maxAbsent:
		return fmt.Errorf("policy: got %d attestations that must be absent, want at most %d", len(p.Absent), maxAbsent)
	case p.MaxTrustAge < 0:
		return fmt.Errorf("policy: maximum age of trust roots: got %s, want more than 0s", p.MaxTrustAge)
	}
	if err := p.Origin.checkOrigin(); err != nil {
		return err
	}
	if err := p.Witnesses.check(p); err != nil {
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
	for _, a := range p.Absent {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

var errNoSource = errors.New("policy names no source")

func (o BuilderProvenance) checkOrigin() error {
	if o.CompleteSBOM && o.SBOM == SBOMOptional {
		return errors.New("policy: completeSBOM: the policy demands no SBOM")
	}
	if o.SBOM < SBOMRequired || o.SBOM > SBOMContents {
		return fmt.Errorf("policy: SBOM: got %d, want one of SBOMRequired, SBOMOptional, SBOMContents", o.SBOM)
	}
	if err := o.check(); err != nil {
		return err
	}
	if err := checkRoot(o.Root); err != nil {
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
	if !o.Recipe.demandsNothing() {
		return errors.New("policy: recipe: only Colophon builders record one, and the policy names another signer")
	}
	return checkBuilderURLs(o.Builders)
}

func (o SignatureOnly) checkOrigin() error { return checkSigner(o.Signer) }

func (AttestationsOnly) checkOrigin() error { return nil } // Check has looked at the Attestations

func (o SummaryOnly) checkOrigin() error { return checkLevel(o.MinLevel) }

// Provenance returns what the image's provenance must say. If the policy demands no
// provenance it returns the zero Provenance, which no provenance meets.
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

// CompleteSBOM reports whether the SBOMs must not name files that their scanner could
// not read.
func (p Policy) CompleteSBOM() bool {
	o, ok := p.Origin.(BuilderProvenance)
	return ok && o.CompleteSBOM
}

// SBOM returns what the policy demands of the builder's SBOMs: SBOMOptional unless the
// Origin is a BuilderProvenance.
func (p Policy) SBOM() SBOM {
	if o, ok := p.Origin.(BuilderProvenance); ok {
		return o.SBOM
	}
	return SBOMOptional
}

// Root returns the name of the trust root that must have verified what the Origin
// demands, or "" if the policy names none.
func (p Policy) Root() string {
	if o, ok := p.Origin.(BuilderProvenance); ok {
		return o.Root
	}
	return RootOf(p.Signer())
}

// Roots returns the names of all trust roots that the policy names.
func (p Policy) Roots() (names []string) {
	names = append(names, p.Root())
	for _, a := range p.Attestations {
		names = append(names, RootOf(a.Signer))
	}
	for _, a := range p.Absent {
		names = append(names, RootOf(a.Signer))
	}
	for _, v := range p.allVerifiers() {
		names = append(names, RootOf(v.Signer))
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// allVerifiers returns the verifiers of the image and of its source.
func (p Policy) allVerifiers() []Verifier {
	return slices.Concat(p.Verifiers, p.Provenance().SourceVerifiers)
}

// Dangers returns the dangerous options of the policy, one line each for people.
func (p Policy) Dangers() (out []string) {
	if p.Provenance().Source == AnySource() {
		out = append(out, "any source is accepted")
	}
	if p.Provenance().Recipe.Any {
		out = append(out, "any recipe is accepted: whoever requested the build chose what is in the image")
	}
	unlogged := withoutLog(p.Signer())
	for _, v := range p.allVerifiers() {
		unlogged = unlogged || withoutLog(v.Signer)
	}
	for _, a := range p.Attestations {
		unlogged = unlogged || withoutLog(a.Signer)
	}
	if o, ok := p.Origin.(NotationSignature); ok {
		out = append(out, o.dangers()...)
	}
	if unlogged {
		out = append(out, "a signature without a transparency log entry is accepted")
	}
	return out
}

// WithoutRoots reports whether an image can meet the policy without any trust root,
// because the policy accepts signatures by its own keys without a log, or those of notation.
func (p Policy) WithoutRoots() bool {
	for _, v := range p.allVerifiers() {
		if !withoutLog(v.Signer) {
			return false
		}
	}
	for _, a := range p.Absent {
		if !withoutLog(a.Signer) {
			return false // without a root, nothing would count
		}
	}
	switch p.Origin.(type) {
	case SummaryOnly:
		return true
	case NotationSignature, AttestationsOnly:
		return !slices.ContainsFunc(p.Attestations, func(a Attestation) bool { return !withoutLog(a.Signer) })
	}
	return withoutLog(p.Signer())
}
