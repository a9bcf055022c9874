// Package provenance reads the provenance of builders: it takes a statement with SLSA
// provenance (slsa.dev/spec/v1.2/build-provenance, or v0.2) and the certificate of
// its signer, and returns Facts. It reads provenance of Colophon, GitHub
// (Artifact Attestations, npm, slsa-github-generator), GitLab and Tekton Chains.
//
// A verifier must decide whether to trust a signer before it reads what the signer
// says, so there are two steps:
//
//  1. OriginOf reads the certificate, which the CI system or platform vouches for.
//  2. Read compares the statement with it, field by field, and returns the facts.
//
// The package verifies no signature, and does not know what a consumer demands.
// Facts.Requirements returns which requirements of SLSA's Build track a build meets.
//
// To add a kind of builder, write one file, and add one entry to systems.
package provenance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
)

// Facts is what a provenance says, after it agreed with the certificate of its
// signer. A field is empty if neither of the two has it. spec/verdict documents the
// JSON.
type Facts struct {
	System    System `json:"system"`    // kind of builder, whose form of provenance it is
	Builder   string `json:"builder"`   // id of the builder, of a workflow or pipeline with its ref. From the certificate if it has one, else from the statement
	BuildType string `json:"buildType"` // URI, from the statement

	Source    string            `json:"source"`              // canonical repository address (source.Canonical)
	Ref       string            `json:"ref,omitempty"`       // full ref, as in refs/tags/v1.2.0. Tekton records none
	Within    string            `json:"within,omitempty"`    // branch or tag whose history had the commit, as the builder found it, if there is no ref. Colophon only
	Commit    string            `json:"commit"`              // 40 or 64 hex digits
	Tree      string            `json:"tree,omitempty"`      // git tree of the commit, hex, as the builder found it. Colophon only
	Signature *source.Signature `json:"signature,omitempty"` // signature of the tag or commit, as the builder found it. Colophon only

	Invocation string         `json:"invocation,omitempty"` // the run: its URL in the certificate, or else its id in the statement
	Trigger    string         `json:"trigger,omitempty"`    // event that started the run, as in push, from the certificate. GitHub only
	Inputs     map[string]any `json:"inputs,omitempty"`     // inputs of a run that a person started (workflow_dispatch), decoded JSON values. GitHub only
	Runner     string         `json:"runner,omitempty"`     // kind of machine, as in github-hosted, from the certificate. GitHub and GitLab
	Host       string         `json:"host,omitempty"`       // name or address by which the platform reaches the host of its builder. Colophon only

	Parameters   json.RawMessage             `json:"parameters,omitempty"`   // all external parameters, as in the statement
	Recipe       *attest.Recipe              `json:"recipe,omitempty"`       // how the image was built. Never nil for Colophon's builders, nil for others
	Default      *attest.DefaultRecipe       `json:"default,omitempty"`      // how the commit itself says that the image is built; nil if it does not say. Colophon only
	Dependencies []attest.ResourceDescriptor `json:"dependencies,omitempty"` // all that the build used, the source among it

	Hermetic  bool              `json:"hermetic,omitempty"`  // built twice with the same result, the second time only from the downloads of the first. Colophon only
	Lock      string            `json:"lock,omitempty"`      // "sha256:HEX" of the lock file that lists the only downloads of the build. Colophon only
	Isolation *attest.Isolation `json:"isolation,omitempty"` // what isolated the build. Never nil for Colophon's builders, nil for others
}

// Document is a parsed provenance. Nothing in it was compared with anything yet.
type Document struct {
	Builder   string // builder id in the statement
	BuildType string // URI

	predicateType string
	v1            *attest.Provenance   // nil for SLSA v0.2
	v02           *attest.Provenance02 // nil for SLSA v1
}

// Parse parses the provenance of a statement strictly. The statement's predicate must
// be SLSA provenance v1 or v0.2.
func Parse(s *attest.Statement) (*Document, error) {
	switch s.PredicateType {
	case attest.PredicateSLSA1:
		p, err := attest.ParseProvenance(s.Predicate)
		if err != nil {
			return nil, err
		}
		return &Document{Builder: p.RunDetails.Builder.ID, BuildType: p.BuildDefinition.BuildType, predicateType: s.PredicateType, v1: p}, nil
	case attest.PredicateSLSA02:
		p, err := attest.ParseProvenance02(s.Predicate)
		if err != nil {
			return nil, err
		}
		return &Document{Builder: p.Builder.ID, BuildType: p.BuildType, predicateType: s.PredicateType, v02: p}, nil
	}
	return nil, fmt.Errorf("predicate: got %q, want %q or %q", s.PredicateType, attest.PredicateSLSA1, attest.PredicateSLSA02)
}

// Read parses the provenance of a statement, compares it with the certificate of its
// signer and returns its facts.
func Read(s *attest.Statement, by Origin) (*Facts, error) {
	d, err := Parse(s)
	if err != nil {
		return nil, err
	}
	return d.Facts(by)
}

// system is one kind of builder: how to recognize and read its certificates, and the
// forms of provenance that it writes.
type system struct {
	name   System
	named  func(san string) bool                     // whether a certificate with this name is of this system
	origin func(certificate.Summary) (Origin, error) // reads a certificate that named recognises
	forms  []form
	wants  string // its build types, for the error "want …"
	// unnamed means that any signer that the consumer names may sign such provenance:
	// a key, or a cluster's account whose certificate says nothing about the build.
	unnamed bool
}

// form is one form of provenance.
type form struct {
	predicateType string
	types         func(buildType string) bool // whether a build type has this form
	read          func(*Document, Origin, *Facts) error
}

// systems lists all kinds of builders. The order matters for names of certificates:
// the ref of a workflow may look like a platform's builder.
var systems = []system{github, gitLab, colophon, tekton}

// Facts compares the provenance with the certificate of its signer and returns what
// it says. It fails if they contradict each other, or the form is not one of the
// signer's system.
func (d *Document) Facts(by Origin) (*Facts, error) {
	var wants []string
	for _, s := range systems {
		if s.name != by.System && (by.System != "" || !s.unnamed) {
			continue
		}
		wants = append(wants, s.wants)
		other := ""
		for _, form := range s.forms {
			if !form.types(d.BuildType) {
				continue
			}
			if other = form.predicateType; other != d.predicateType {
				continue
			}
			f := d.common(by)
			f.System = s.name
			if err := form.read(d, by, f); err != nil {
				return nil, err
			}
			return f, nil
		}
		if other != "" {
			return nil, fmt.Errorf("predicate of build type %q: got %q, want %q", d.BuildType, d.predicateType, other)
		}
	}
	return nil, fmt.Errorf("build type: got %q, want %s", d.BuildType, strings.Join(wants, " or "))
}

// common returns the facts that every form has in the same place.
func (d *Document) common(by Origin) *Facts {
	f := &Facts{BuildType: d.BuildType, Invocation: by.Invocation, Trigger: by.Trigger, Runner: by.Runner}
	said := ""
	if d.v1 != nil {
		f.Parameters, f.Dependencies = d.v1.BuildDefinition.ExternalParameters, d.v1.BuildDefinition.ResolvedDependencies
		said = d.v1.RunDetails.Metadata.InvocationID
	} else {
		f.Parameters, f.Dependencies = d.v02.Invocation.Parameters, d.v02.Materials
		said = d.v02.Metadata.BuildInvocationID
	}
	if f.Invocation == "" {
		f.Invocation = said
	}
	return f
}

// among returns a function that reports whether a build type is one of types.
func among(types ...string) func(string) bool {
	return func(t string) bool { return slices.Contains(types, t) }
}
