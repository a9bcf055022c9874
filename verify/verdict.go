// Package verify decides whether a container image, or a file, proves which git
// commit it was built from. It takes the image and all that is attached to it, the
// trust roots, a policy and the time of verification, and returns a Verdict: a
// chain of links, each with a status and a reason (spec/verdict). It follows the
// verification of SLSA v1.2 (slsa.dev/spec/v1.2/verifying-artifacts) on Sigstore
// bundles (github.com/sigstore/protobuf-specs), and reads the forms of cosign.
//
// Image verifies an image in a registry or layout, Bundled a file with its
// bundles, BundledDirectory the files of a release. Gather reads an image once, for
// verdicts by any number of policies. The package has no network, no environment and
// no time of its own; the caller passes them in.
package verify

// The files of this package, in the order to read them; each uses only files before
// it: verdict, cause, options, memory, evidence, image, lock, sbom, builder, judge, notation, gather,
// source, summary, track, facts, chain, demanded, unsigned, testimony, wrapped, says, verify, statements,
// set, file, author, cache, explain, record.

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/provenance"
)

// Outcome is the answer. The zero value is Undecided, so that an empty verdict
// never passes. In JSON it is "accepted", "rejected" or "undecided".
type Outcome int

const (
	Undecided Outcome = iota // demanded evidence could not be read
	Accepted                 // all that the policy demands holds
	Rejected                 // evidence is wrong, or demanded evidence is missing
)

var outcomes = [...]string{Undecided: "undecided", Accepted: "accepted", Rejected: "rejected"}

// String returns "accepted", "rejected" or "undecided".
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

// Status is the status of one link.
type Status string

const (
	Holds    Status = "holds"
	Broken   Status = "broken"    // the evidence is there and is wrong
	Absent   Status = "absent"    // the evidence is missing
	Unknown  Status = "unknown"   // the evidence could not be read: network, permissions
	NotAsked Status = "not asked" // neither the policy nor the caller asked for it
)

// Names of the links.
const (
	LinkImage       = "image"      // every byte matches the digest
	LinkFile        = "file"       // the same for a file, in place of image
	LinkSignature   = "signature"  // a trusted signer signed it
	LinkLog         = "log"        // the signature is in a transparency log
	LinkProvenance  = "provenance" // a trusted builder built it, from the source demanded
	LinkSource      = "source"     // the repository still has the commit
	LinkTrack       = "track"      // the commit has the Source level and reviewers; only if the policy demands any
	LinkSBOM        = "sbom"
	LinkAttestation = "attestation" // one link for each attestation that the policy demands, or forbids
	LinkSummary     = "summary"     // a verification summary; only if the policy names verifiers
	LinkDistrust    = "distrust"    // no list of what is no longer trusted has an entry about it; only if lists are compared
	LinkRule        = "rule"        // what the rules of a set say; only of a Decision
)

// LinkNames returns the names of all links, in the order a verdict lists them.
func LinkNames() []string {
	return []string{LinkImage, LinkFile, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkTrack, LinkSBOM, LinkAttestation, LinkSummary, LinkDistrust, LinkRule}
}

// Link is one step of the chain.
type Link struct {
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Claim   string `json:"claim"`            // what holds, one line for people
	Reason  string `json:"reason,omitempty"` // why it does not hold: which thing, and both values
	Cause   Cause  `json:"cause,omitzero"`   // the same for programs; zero if Reason is of no kind that Cause knows
	Carries string `json:"-"`                // predicate type of the attestation that a LinkAttestation found, if it holds; empty if one must be absent

	demanded bool // the image is accepted only if it holds
}

// Verdict is the answer about one image or file. spec/verdict defines its JSON.
type Verdict struct {
	Image   string   `json:"image"`  // the image or file, as the caller named it
	Digest  string   `json:"digest"` // "sha256:HEX"; empty if the name could not be resolved
	Outcome Outcome  `json:"outcome"`
	Index   string   `json:"index,omitempty"`   // digest of the index that the name leads to, if the proofs are about the manifest Digest in it
	Missing []string `json:"missing,omitempty"` // platforms that the image's index names, "linux/arm64", and that are not there
	Links   []Link   `json:"links"`
	// Level is the SLSA Build level, 0 to 3, that follows from Requirements: 0 if
	// there are none. If the policy trusts only a verifier, its level.
	Level        int                      `json:"level"`
	Requirements []provenance.Requirement `json:"requirements,omitempty"` // those of SLSA's Build track; none if the policy demands no provenance
	Facts        *Facts                   `json:"facts,omitempty"`        // what the evidence proved; nil unless signature, log and provenance hold as far as they are demanded
	Unsigned     []Claim                  `json:"unsigned,omitempty"`     // unsigned attestations in the image's index: never proof
	Decision     *Decision                `json:"decision,omitempty"`     // rule by rule; nil unless the policy is a set of rules
	Dangers      []string                 `json:"dangers,omitempty"`      // dangerous options of the policy, one line each for people
	Hint         string                   `json:"hint,omitempty"`         // what to do about it, for people

	rests *rests // what else it rests on; shared
}

// Summary returns the verdict as the predicate of a SLSA verification summary
// (slsa.dev/spec/v1.2/verification_summary): verifier and resource are URIs,
// policy describes the policy that was used, and at is the time of verification.
// An undecided verdict gives an error, because neither result would be true, and so does one
// with warnings or an exemption, which a summary cannot have.
func (v *Verdict) Summary(verifier, resource string, policy attest.ResourceDescriptor, at time.Time) (*attest.VSA, error) {
	at = at.UTC().Truncate(time.Second)
	s := &attest.VSA{Verifier: attest.VSAVerifier{ID: verifier}, TimeVerified: &at, ResourceURI: resource, Policy: policy, SLSAVersion: attest.SLSAVersion}
	switch {
	case v.Outcome == Rejected:
		s.VerificationResult, s.VerifiedLevels = attest.VSAFailed, []string{attest.VSAFailed}
	case v.Outcome != Accepted || v.Digest == "":
		return nil, fmt.Errorf("outcome: got %q, want an accepted or rejected verdict of a known digest", v.Outcome)
	case v.Decision != nil && len(v.Decision.Warnings) > 0:
		return nil, fmt.Errorf("the image was accepted with warnings, and a summary has none: %s", v.Decision.Warnings[0])
	case v.Decision.exempts():
		return nil, errors.New("the image is exempt from a rule for a time, and a summary has no end")
	case v.Level == 0 && len(v.Requirements) == 0:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildUnevaluated}
	default:
		s.VerificationResult, s.VerifiedLevels = attest.VSAPassed, []string{attest.BuildLevelName(v.Level)}
	}
	return s, s.Check()
}

// add appends a link. Strangers write much of a reason, and terminals show it,
// so it becomes one bounded line without control characters.
func (v *Verdict) add(l Link) {
	l.Claim, l.Reason = plain(l.Claim), plain(l.Reason)
	l.Cause.Got, l.Cause.Want, l.Cause.Authority = plain(l.Cause.Got), plain(l.Cause.Want), plain(l.Cause.Authority)
	v.Links = append(v.Links, l)
}

// plain returns s as one line of printable characters, cut after 2,000 bytes.
func plain(s string) string { return printable.Cut(printable.Line(s), 2000) }

// decide sets the outcome from the links. A verdict is accepted only if each
// required link holds.
func (v *Verdict) decide(required map[string]bool) {
	holds := make(map[string]bool)
	for i := range v.Links {
		v.Links[i].demanded = required[v.Links[i].Name]
	}
	for _, l := range v.Links {
		holds[l.Name] = l.Status == Holds
		if l.Status == Broken || l.Status == Absent && required[l.Name] {
			v.Outcome = Rejected
			return
		}
	}
	for name, needed := range required {
		if needed && !holds[name] {
			v.Outcome = Undecided
			return
		}
	}
	v.Outcome = Accepted
}

// Why returns the name and the reason of the first link that kept the image from
// being accepted, as "NAME: REASON", or "" if it was accepted.
func (v *Verdict) Why() string {
	l, ok := v.Fault()
	switch {
	case ok:
		return l.Name + ": " + l.Reason
	case v.Outcome == Accepted:
		return ""
	}
	return "nothing was verified"
}

// Fault returns the first link that kept the image from being accepted. ok is false if it
// was accepted, or if nothing was verified.
func (v *Verdict) Fault() (fault Link, ok bool) {
	if v.Outcome == Accepted {
		return Link{}, false
	}
	against := func(l Link) bool { return l.Status == Broken || l.Status == Absent }
	lacking := func(l Link) bool { return l.demanded && l.Status != Holds }
	open := func(l Link) bool { return l.Status != Holds }
	for _, is := range []func(Link) bool{against, lacking, open} {
		if i := slices.IndexFunc(v.Links, is); i >= 0 {
			return v.Links[i], true
		}
	}
	return Link{}, false
}

// addDemanded adds a link after decide. The outcome stays accepted only if this
// link holds, too.
func (v *Verdict) addDemanded(l Link) {
	l.demanded = true
	v.add(l)
	switch {
	case l.Status == Holds:
	case l.Status == Broken || l.Status == Absent:
		v.Outcome = Rejected
	case v.Outcome == Accepted:
		v.Outcome = Undecided
	}
}

// Facts are what the evidence of an image or file proved, for programs: the
// proofs that the verdict rests on. They do not say that the image was accepted.
// Verdicts share them, so callers must not change them.
type Facts struct {
	// Build is what the provenance says, without its dependencies and its raw
	// external parameters; nil if the policy demands no provenance.
	Build  *provenance.Facts `json:"build,omitempty"`
	Signed []Signed          `json:"signed"` // signature, provenance, SPDX and CycloneDX document, as far as they hold
}

// Signed is one signature or attestation that holds.
type Signed struct {
	Digest        string      `json:"digest,omitempty"`        // "sha256:HEX" of the manifest (cosign v2: layer) that has it; empty if the caller supplied it
	PredicateType string      `json:"predicateType,omitempty"` // empty for the signature of a file
	TrustRoot     string      `json:"trustRoot,omitempty"`     // fingerprint of the trust root, "sha256:HEX"; empty for a key without a trust root
	Signer        string      `json:"signer,omitempty"`        // subject alternative name of the certificate; empty if a key signed
	Issuer        string      `json:"issuer,omitempty"`        // identity provider that vouched for the signer
	Certified     *time.Time  `json:"certified,omitempty"`     // start of the certificate's validity, UTC
	Times         []time.Time `json:"times,omitempty"`         // when it was signed, as logs and timestamp authorities of the trust root prove it, UTC
	LogIndex      *int64      `json:"logIndex,omitempty"`      // index of its entry in the transparency log; nil without an entry
	SBOM          *SBOM       `json:"sbom,omitempty"`          // only of an SBOM

	by distrust.Signer // who signed it, for lists of what is no longer trusted
}

// SBOM describes one SBOM document.
type SBOM struct {
	Format   string `json:"format"`   // "SPDX" or "CycloneDX"
	Version  string `json:"version"`  // version of the format: "2.3", "1.6"
	Packages int    `json:"packages"` // number of packages that it lists

	Unread []string `json:"unread,omitempty"` // files of the image that its scanner could not read, if it says so
}

// Claim is an unsigned statement that somebody put beside an image. It is shown
// and is never proof: everybody who may push can write it.
type Claim struct {
	Form   string `json:"form"`           // "BuildKit attestation", "cosign attachment", or "not listed" of those past a limit
	Type   string `json:"type"`           // predicate type or media type that it gives
	About  string `json:"about"`          // digest that it says it is about
	Digest string `json:"digest"`         // digest of the claim itself
	Says   string `json:"says,omitempty"` // of a provenance: builder and sources, one line
}
