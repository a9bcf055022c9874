// Package policy says what a consumer demands of an image (spec/policy), and
// compares it with what a verified provenance says.
package policy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// Policy is a demand. Source, AnySource, Signer or Verifiers must be set: knowing who
// signed is worthless without saying who should have.
type Policy struct {
	Source         string            `json:"source,omitempty"`         // canonical repository URI, compared whole
	AnySource      bool              `json:"anySource,omitempty"`      // dangerous: accepts images of any repository
	Ref            string            `json:"ref,omitempty"`            // full ref, or a short tag or branch name
	Commit         string            `json:"commit,omitempty"`         // hex
	Version        string            `json:"version,omitempty"`        // in place of a ref: the version that the tag must be of, or as much of it as matters: v1, v1.2, v1.2.3
	WorkflowInputs map[string]string `json:"workflowInputs,omitempty"` // what a workflow on GitHub must have been started with by hand, beside whatever else
	Builders       []string          `json:"builders,omitempty"`       // accepted builder ids, and workflows as trust.Workflow has them; empty: those the trust root names, or the public builders
	Levels         map[string]int    `json:"levels,omitempty"`         // SLSA Build level that each of Builders is believed for, in place of what the trust root says
	MinLevel       int               `json:"minLevel,omitempty"`       // SLSA Build level that must follow from the evidence
	NoSBOM         bool              `json:"noSBOM,omitempty"`         // an image without an SBOM is accepted
	Contents       bool              `json:"contents,omitempty"`       // the SBOMs must agree with what is installed in the image
	Signer         *Signer           `json:"signer,omitempty"`         // who must have signed, in place of platforms and public builders; without a source only who signed is asked
	Attestations   []Attestation     `json:"attestations,omitempty"`   // what else must be attested of the image
	FreshTrust     bool              `json:"freshTrust,omitempty"`     // trust roots from a TUF repository count only until its metadata expires
	RequireSource  bool              `json:"requireSource,omitempty"`  // the repository must be reachable, and still hold the commit
	Verifiers      []Verifier        `json:"verifiers,omitempty"`      // a verification summary by one of these is demanded; without source and signer, in place of a chain of the image's own
}

// Parse reads a policy file strictly and checks it.
func Parse(data []byte) (Policy, error) {
	var p Policy
	if err := strict.UnmarshalKnown(data, limits.Request, &p); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	return p, p.Check()
}

// Check fails where the policy demands nothing, contradicts itself, or could
// never be met.
func (p Policy) Check() error {
	switch {
	case !p.Chain() && len(p.Verifiers) == 0:
		return errors.New("policy names no source")
	case len(p.Verifiers) > maxVerifiers:
		return fmt.Errorf("policy: got %d verifiers, at most %d are taken", len(p.Verifiers), maxVerifiers)
	case !p.Chain() && (p.Ref != "" || p.Version != "" || p.Commit != "" || len(p.WorkflowInputs) > 0 || p.RequireSource || len(p.Builders) > 0 || len(p.Attestations) > 0):
		return errors.New("policy: ref, version, commit, inputs, builders and attestations are of a provenance, which no verification summary speaks of: say which source it should name")
	case len(p.Attestations) > maxAttestations:
		return fmt.Errorf("policy: got %d attestations, at most %d are taken", len(p.Attestations), maxAttestations)
	case p.Contents && (!p.Chain() || p.Signer != nil):
		return errors.New("policy: contents are compared with the SBOMs of a platform, and the policy asks for none")
	case p.Source != "" && p.AnySource:
		return fmt.Errorf("policy names the source %q and accepts any source", p.Source)
	case p.Version != "" && p.Ref != "":
		return fmt.Errorf("policy names the ref %q and the version %q", p.Ref, p.Version)
	case p.Version != "" && !versionRE.MatchString(p.Version):
		return fmt.Errorf("policy: version: got %q, want one as v1, v1.2, v1.2.3 or v1.2.3-rc.1", p.Version)
	case p.MinLevel < 0 || p.MinLevel > 3:
		return fmt.Errorf("policy: level: got %d, want 0 to 3", p.MinLevel)
	}
	if p.Source != "" {
		if _, err := source.Canonical(p.Source); err != nil {
			return fmt.Errorf("policy: source: %w", err)
		}
	}
	if p.Commit != "" {
		if raw, err := hex.DecodeString(p.Commit); err != nil || (len(raw) != 20 && len(raw) != 32) || p.Commit != strings.ToLower(p.Commit) {
			return fmt.Errorf("policy: commit: got %q, want 40 or 64 lower-case hex digits", p.Commit)
		}
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
	for id, level := range p.Levels {
		switch {
		case !slices.Contains(p.Builders, id):
			return fmt.Errorf("policy: level of %q: it is not among the builders %q", id, p.Builders)
		case level < 0 || level > 3:
			return fmt.Errorf("policy: level of %q: got %d, want 0 to 3", id, level)
		}
	}
	if p.Signer != nil {
		return p.checkNamed()
	}
	for _, b := range p.Builders {
		if err := trust.CheckBuilderID(b); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	return nil
}

// Level is the SLSA Build level that this policy believes a builder for, if it
// says any.
func (p Policy) Level(builder string) (level int, ok bool) {
	level, ok = p.Levels[builder]
	return level, ok
}

// Dangers are what the policy accepts that nobody should without knowing, each
// in one line for people.
func (p Policy) Dangers() (out []string) {
	if p.AnySource {
		out = append(out, "any source is accepted")
	}
	unlogged := p.Signer != nil && p.Signer.InsecureNoLog
	for _, v := range p.Verifiers {
		unlogged = unlogged || v.Signer.InsecureNoLog
	}
	for _, a := range p.Attestations {
		unlogged = unlogged || a.Signer != nil && a.Signer.InsecureNoLog
	}
	if unlogged {
		out = append(out, "a signature that no transparency log has is accepted")
	}
	return out
}

// WithoutRoots says that the policy can be met with no trust root: by keys that
// it names, and without a log.
func (p Policy) WithoutRoots() bool {
	for _, v := range p.Verifiers {
		if !v.Signer.InsecureNoLog {
			return false
		}
	}
	return !p.Chain() || p.Signer != nil && p.Signer.InsecureNoLog
}

// MatchSource fails unless uri is the repository that is demanded. Both are
// compared whole, in canonical form.
func (p Policy) MatchSource(uri string) error {
	if p.AnySource && p.Source == "" {
		return nil
	}
	want, err := source.Canonical(p.Source)
	if err != nil {
		return err
	}
	got, err := source.Canonical(uri)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("source: got %q, want %q", got, want)
	}
	return nil
}

// MatchRef fails unless ref, a full ref name, is the one demanded. A short
// name stands for the tag or the branch of exactly that name.
func (p Policy) MatchRef(ref string) error {
	if p.Ref == "" || ref == p.Ref && strings.HasPrefix(ref, "refs/") {
		return nil
	}
	if !strings.HasPrefix(p.Ref, "refs/") && (ref == "refs/tags/"+p.Ref || ref == "refs/heads/"+p.Ref) {
		return nil
	}
	return fmt.Errorf("ref: got %q, want %q", ref, p.Ref)
}

// MatchCommit fails unless commit is the one demanded.
func (p Policy) MatchCommit(commit string) error {
	if p.Commit != "" && commit != p.Commit {
		return fmt.Errorf("commit: got %q, want %q", commit, p.Commit)
	}
	return nil
}

// MatchLevel fails where less follows from the evidence than is demanded.
func (p Policy) MatchLevel(level int) error {
	if level < p.MinLevel {
		//lint:ignore ST1005 Build is the name of SLSA's track
		return fmt.Errorf("Build level: got %d, want at least %d", level, p.MinLevel)
	}
	return nil
}
