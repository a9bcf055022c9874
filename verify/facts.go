package verify

import (
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
)

// Facts are what the evidence of an image or file proved: the set that the
// verdict rests on, for programs. They do not say that it was accepted. Verdicts
// share them, so that nobody may change them.
type Facts struct {
	// Build is what the provenance says, without its dependencies and the raw
	// external parameters. nil where only who signed was asked.
	Build  *provenance.Facts `json:"build,omitempty"`
	Signed []Signed          `json:"signed"` // what the set consists of
}

// Signed is one signed thing that holds.
type Signed struct {
	Digest        string      `json:"digest,omitempty"`        // of the manifest or layer that it was found in; empty for one that the caller brought
	PredicateType string      `json:"predicateType,omitempty"` // empty for the signature of a file
	TrustRoot     string      `json:"trustRoot,omitempty"`     // fingerprint of the trust root that it verified under; empty for a key without one
	Signer        string      `json:"signer,omitempty"`        // the one name of the certificate; empty where a key signed
	Issuer        string      `json:"issuer,omitempty"`        // who vouched for that name
	Certified     *time.Time  `json:"certified,omitempty"`     // start of the certificate
	Times         []time.Time `json:"times,omitempty"`         // when it was signed, by logs and timestamp authorities of the trust root
	LogIndex      *int64      `json:"logIndex,omitempty"`      // of the entry in its log; absent without an entry
	SBOM          *SBOM       `json:"sbom,omitempty"`          // of an SBOM
}

// SBOM says what a document that holds is.
type SBOM struct {
	Format   string `json:"format"`  // "SPDX" or "CycloneDX"
	Version  string `json:"version"` // "2.3", "1.6"
	Packages int    `json:"packages"`
}

// factsOf returns the facts of a set, or nil where its signature, log or
// provenance does not hold.
func (c *check) factsOf(s set) *Facts {
	_, signatureOnly := c.opts.Policy.Origin.(policy.SignatureOnly)
	if !s.signed().holds() || !signatureOnly && !s.provenance.holds() {
		return nil
	}
	f := &Facts{Signed: []Signed{}}
	for _, r := range []ref{s.signature, s.provenance, s.spdx, s.cdx} {
		if r.holds() {
			f.Signed = append(f.Signed, signedThing(r))
		}
	}
	if s.provenance.holds() {
		f.Build = s.provenance.proof.build.Facts
	}
	return f
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
		s.SBOM = &SBOM{p.sbom.Format, p.sbom.Version, p.sbom.Packages}
	}
	return s
}
