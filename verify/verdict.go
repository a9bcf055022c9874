// Package verify answers whether an image proves where it came from: bundles,
// trust, policy and time go in, a Verdict comes out, link by link. It has no
// network, clock or environment of its own; callers hand them in.
package verify

import (
	"fmt"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
)

// Outcome is the answer. The zero value is Undecided, so that a verdict that
// nobody filled in is never a pass.
type Outcome int

const (
	Undecided Outcome = iota // something that was needed could not be had
	Accepted
	Rejected
)

var outcomes = [...]string{Undecided: "undecided", Accepted: "accepted", Rejected: "rejected"}

func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomes) {
		return outcomes[Undecided]
	}
	return outcomes[o]
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomes {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("outcome: got %q, want accepted, rejected or undecided", text)
}

// Status of one link.
type Status string

const (
	Holds    Status = "holds"
	Broken   Status = "broken"    // evidence is there, and wrong
	Absent   Status = "absent"    // evidence that was required is missing
	Unknown  Status = "unknown"   // could not be had: network, permissions
	NotAsked Status = "not asked" // neither policy nor caller wanted it
)

// Names of the links, in the order a verdict lists them.
const (
	LinkImage      = "image"
	LinkFile       = "file" // in place of image
	LinkSignature  = "signature"
	LinkLog        = "log"
	LinkProvenance = "provenance"
	LinkSource     = "source"
	LinkSBOM       = "sbom"
	LinkSummary    = "summary" // only where the policy trusts a verifier

	LinkAttestation = "attestation" // one for each that the policy demands
)

// LinkNames returns the names of all links, in the order a verdict lists them.
func LinkNames() []string {
	return []string{LinkImage, LinkFile, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkSBOM, LinkAttestation, LinkSummary}
}

// Link is one step of the chain.
type Link struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Claim  string `json:"claim"`            // one line for people: what holds
	Reason string `json:"reason,omitempty"` // where it does not hold: which thing, both values
}

// Verdict on one image. Its JSON is spec/verdict.
type Verdict struct {
	Image   string  `json:"image"`  // as the user named it
	Digest  string  `json:"digest"` // "sha256:…", empty where it could not be resolved
	Outcome Outcome `json:"outcome"`
	Links   []Link  `json:"links"`
	// Level is the SLSA Build level that follows from Requirements. 0 is none,
	// also where nobody asked.
	Level        int                      `json:"level"`
	Requirements []provenance.Requirement `json:"requirements,omitempty"` // none where only who signed was asked
	Facts        *Facts                   `json:"facts,omitempty"`        // what was proved, for programs; none where a link of signature, log or provenance does not hold
	Unsigned     []Claim                  `json:"unsigned,omitempty"`     // what is in the image's index without a signature: never proof
	Dangers      []string                 `json:"dangers,omitempty"`      // what was accepted that nobody should without knowing, one line each
	Hint         string                   `json:"hint,omitempty"`
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
