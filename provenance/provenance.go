// Package provenance reads what builders say about their builds: a statement
// with SLSA provenance (slsa.dev/spec/v1.2/build-provenance, or v0.2) and what
// the signer's certificate says go in, Facts come out.
//
// Reading has two stages, because a verifier must decide whether to trust the
// signer before it reads what the signer says:
//
//  1. OriginOf reads the certificate, which the CI system or platform vouches for;
//  2. Read compares the statement with it, field by field, and returns the facts.
//
// Neither verifies a signature, and neither knows what a consumer demands.
//
// Each kind of builder has one file and one row of systems.
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

// Facts is what a provenance says, after all of it agreed with its signer's
// certificate. An empty field means that neither of the two says anything.
type Facts struct {
	System    System `json:"system"`    // whose form of provenance it is
	Builder   string `json:"builder"`   // id of the builder; a workflow or pipeline has its ref. From the certificate where it names one, else from the statement
	BuildType string `json:"buildType"` // from the statement

	Source    string            `json:"source"`              // canonical repository address (source.Canonical)
	Ref       string            `json:"ref,omitempty"`       // full ref, as in refs/tags/v1.2.0. GitLab, GitHub: from the certificate; Tekton: never known
	Commit    string            `json:"commit"`              // 40 or 64 hex digits
	Tree      string            `json:"tree,omitempty"`      // git tree of the commit, hex, as the builder saw it. Colophon only
	Signature *source.Signature `json:"signature,omitempty"` // of the tag or commit, as the builder saw it. Colophon only

	Invocation string         `json:"invocation,omitempty"` // the run: its URL from the certificate, else what the statement calls it
	Trigger    string         `json:"trigger,omitempty"`    // from the certificate: what started the run, as in push. GitHub only
	Inputs     map[string]any `json:"inputs,omitempty"`     // decoded JSON values that somebody started the run with by hand (workflow_dispatch). GitHub only
	Runner     string         `json:"runner,omitempty"`     // from the certificate: the kind of machine, as in github-hosted

	Parameters   json.RawMessage             `json:"parameters,omitempty"` // the external parameters as the statement has them, whole
	Recipe       *attest.Recipe              `json:"recipe,omitempty"`     // what the requester chose. Colophon only, from the external parameters
	Dependencies []attest.ResourceDescriptor `json:"dependencies,omitempty"`

	Hermetic  bool              `json:"hermetic,omitempty"`  // built twice with the same result, the second time from what the first had fetched. Colophon only
	Lock      string            `json:"lock,omitempty"`      // sha256:hex of the lock that the build's downloads were held to. Colophon only
	Isolation *attest.Isolation `json:"isolation,omitempty"` // what kept the build apart. Of Colophon's builders, never nil; nil of others
}

// Document is a provenance that was parsed, and compared with nothing.
type Document struct {
	Builder   string // builder id, as the statement says
	BuildType string

	predicateType string
	v1            *attest.Provenance   // nil for SLSA v0.2
	v02           *attest.Provenance02 // nil for SLSA v1
}

// Parse reads the provenance of a statement strictly.
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

// Read parses the provenance of a statement and returns its facts.
func Read(s *attest.Statement, by Origin) (*Facts, error) {
	d, err := Parse(s)
	if err != nil {
		return nil, err
	}
	return d.Facts(by)
}

// system is one kind of builder: how its certificates are recognised and read,
// and the forms of provenance that it writes.
type system struct {
	name   System
	named  func(san string) bool                     // whether a certificate's name is one of this system's
	origin func(certificate.Summary) (Origin, error) // reads a certificate that named recognises
	forms  []form
	wants  string // what build type it writes, in "want …"
	// unnamed: whoever the consumer names may sign such provenance (a key, a
	// cluster's account), with a certificate that says nothing about the build.
	unnamed bool
}

// form is one form of provenance.
type form struct {
	predicateType string
	types         func(buildType string) bool
	read          func(*Document, Origin, *Facts) error
}

// systems are all kinds of builders. Names are tried in this order: the ref of
// a workflow may look like a platform's builder.
var systems = []system{github, gitLab, colophon, tekton}

// Facts compares the provenance with what the certificate of its signer says,
// and returns what both agree on.
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

// common returns what is in the same place whoever built.
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

// among returns the test for a build type of a list.
func among(types ...string) func(string) bool {
	return func(t string) bool { return slices.Contains(types, t) }
}
