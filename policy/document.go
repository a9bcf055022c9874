package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Document is a policy document with the members of spec/policy, which documents them.
// It may contain contradictions; its method Policy finds them.
type Document struct {
	Schema string `json:"$schema,omitempty"` // address of a JSON Schema, for editors: it decides nothing

	Source         string                `json:"source,omitempty"`
	AnySource      bool                  `json:"anySource,omitempty"` // dangerous
	Ref            string                `json:"ref,omitempty"`
	Commit         string                `json:"commit,omitempty"`
	Version        string                `json:"version,omitempty"`
	WorkflowInputs map[string]string     `json:"workflowInputs,omitempty"`
	Builders       []string              `json:"builders,omitempty"`
	Root           string                `json:"root,omitempty"`
	Levels         map[string]int        `json:"levels,omitempty"`
	Recipe         *DocumentRecipe       `json:"recipe,omitempty"`
	AnyRecipe      bool                  `json:"anyRecipe,omitempty"` // dangerous
	MinLevel       int                   `json:"minLevel,omitempty"`
	NoSBOM         bool                  `json:"noSBOM,omitempty"`
	Contents       bool                  `json:"contents,omitempty"`
	CompleteSBOM   bool                  `json:"completeSBOM,omitempty"`
	Signer         *DocumentSigner       `json:"signer,omitempty"`
	Attestations   []DocumentAttestation `json:"attestations,omitempty"`
	FreshTrust     bool                  `json:"freshTrust,omitempty"`
	RequireSource  bool                  `json:"requireSource,omitempty"`
	Verifiers      []DocumentVerifier    `json:"verifiers,omitempty"`
}

// DocumentSigner is a Signer in a policy document.
type DocumentSigner struct {
	Identity       string `json:"identity,omitempty"`
	IdentityRegexp string `json:"identityRegexp,omitempty"`
	Issuer         string `json:"issuer,omitempty"`
	Root           string `json:"root,omitempty"`
	Key            string `json:"key,omitempty"`           // public key, PEM (PKIX)
	InsecureNoLog  bool   `json:"insecureNoLog,omitempty"` // dangerous
}

// DocumentAttestation is an Attestation in a policy document.
type DocumentAttestation struct {
	PredicateType string          `json:"predicateType"`
	Signer        *DocumentSigner `json:"signer,omitempty"`
	Equals        map[string]any  `json:"equals,omitempty"`
}

// DocumentVerifier is a Verifier in a policy document.
type DocumentVerifier struct {
	ID           string         `json:"id"`
	Signer       DocumentSigner `json:"signer"`
	Resource     string         `json:"resource,omitempty"`
	PolicyDigest string         `json:"policyDigest,omitempty"`
	Levels       []string       `json:"levels,omitempty"`
	MaxAge       string         `json:"maxAge,omitempty"` // duration of package time, as in 720h
}

// Parse parses a policy document and returns its Policy. The document must be one JSON
// object of at most 1 MiB, with known members only, each at most once. Parse also
// fails if Document.Policy does.
func Parse(data []byte) (Policy, error) {
	d, err := ParseDocument(data)
	if err != nil {
		return Policy{}, err
	}
	return d.Policy()
}

// ParseDocument is like Parse, but does not check what the document demands.
func ParseDocument(data []byte) (Document, error) {
	var d Document
	if err := strict.UnmarshalKnown(data, limits.Request, &d); err != nil {
		return Document{}, fmt.Errorf("policy: %w", err)
	}
	return d, nil
}

// Policy returns the Policy of the document. It fails if members contradict each
// other, or if Policy.Check fails.
func (d Document) Policy() (Policy, error) {
	p, err := d.policy()
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return Policy{}, err
	}
	return p, nil
}

func (d Document) policy() (Policy, error) {
	p := Policy{FreshTrust: d.FreshTrust}
	var err error
	if p.Origin, err = d.origin(); err != nil {
		return Policy{}, err
	}
	for _, a := range d.Attestations {
		signer, err := a.Signer.Signer()
		if err != nil {
			return Policy{}, err
		}
		p.Attestations = append(p.Attestations, Attestation{a.PredicateType, signer, a.Equals})
	}
	for _, v := range d.Verifiers {
		verifier, err := v.verifier()
		if err != nil {
			return Policy{}, err
		}
		p.Verifiers = append(p.Verifiers, verifier)
	}
	return p, nil
}

func (d Document) origin() (Origin, error) {
	signer, err := d.Signer.Signer()
	if err != nil {
		return nil, err
	}
	built := d.Source != "" || d.AnySource
	switch {
	case !built && signer == nil && len(d.Verifiers) == 0:
		return nil, errNoSource
	case d.Root != "" && signer != nil:
		return nil, errors.New("policy: root: a policy that names a signer names the trust root there: signer.root")
	case d.Contents && (!built || signer != nil):
		return nil, errors.New("policy: contents: only a policy that demands a builder's SBOMs can compare them with the image")
	case d.CompleteSBOM && (!built || signer != nil):
		return nil, errors.New("policy: completeSBOM: only a policy that demands a builder's SBOMs can ask for complete ones")
	case !built:
		return d.withoutProvenance(signer)
	}
	p, err := d.provenance()
	switch {
	case err != nil:
		return nil, err
	case signer != nil:
		return SignerProvenance{Provenance: p, Signer: signer}, nil
	}
	o := BuilderProvenance{Provenance: p, CompleteSBOM: d.CompleteSBOM, Root: d.Root}
	switch {
	case d.Contents:
		o.SBOM = SBOMContents
	case d.NoSBOM:
		o.SBOM = SBOMOptional
	}
	return o, nil
}

// withoutProvenance returns the Origin of a document that demands only a signature or,
// without a signer, only a summary. It fails if there are members about provenance.
func (d Document) withoutProvenance(signer Signer) (Origin, error) {
	var members []string
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"ref", d.Ref != ""}, {"version", d.Version != ""}, {"commit", d.Commit != ""}, {"workflowInputs", len(d.WorkflowInputs) > 0},
		{"builders", len(d.Builders) > 0}, {"levels", len(d.Levels) > 0}, {"requireSource", d.RequireSource},
		{"root", d.Root != ""},
		{"recipe", d.Recipe != nil}, {"anyRecipe", d.AnyRecipe},
		{"minLevel", d.MinLevel != 0 && signer != nil}, // a summary states a level, too
	} {
		if m.set {
			members = append(members, m.name)
		}
	}
	switch {
	case len(members) > 0:
		return nil, fmt.Errorf("policy: %s: only provenance can prove it: name a source, too, or accept any source", strings.Join(members, ", "))
	case signer == nil:
		return SummaryOnly{MinLevel: d.MinLevel}, nil
	}
	return SignatureOnly{Signer: signer}, nil
}

func (d Document) provenance() (Provenance, error) {
	p := Provenance{
		Commit: d.Commit, Inputs: d.WorkflowInputs, MinLevel: d.MinLevel, Builders: d.Builders, Levels: d.Levels, RequireSource: d.RequireSource,
	}
	switch {
	case d.Source != "" && d.AnySource:
		return Provenance{}, fmt.Errorf("policy: got source %q and anySource, want one of them", d.Source)
	case d.Version != "" && d.Ref != "":
		return Provenance{}, fmt.Errorf("policy: got ref %q and version %q, want at most one of them", d.Ref, d.Version)
	case d.Version != "":
		p.Ref = Version(d.Version)
	case d.Ref != "":
		p.Ref = RefName(d.Ref)
	}
	var err error
	if d.Recipe != nil {
		if p.Recipe, err = d.Recipe.Recipe(); err != nil {
			return Provenance{}, err
		}
	}
	p.Recipe.Any = d.AnyRecipe
	if d.AnySource {
		p.Source = AnySource()
		return p, nil
	}
	p.Source, err = ParseSource(d.Source)
	return p, err
}

// Signer returns the signer that the document names, or nil for nil.
func (s *DocumentSigner) Signer() (Signer, error) {
	if s == nil {
		return nil, nil
	}
	identity := s.Identity != "" || s.IdentityRegexp != "" || s.Issuer != ""
	switch {
	case s.Identity != "" && s.IdentityRegexp != "":
		return nil, errors.New("policy: signer: got identity and identityRegexp, want one of them")
	case (s.Key != "") == identity:
		return nil, errNoSigner
	case s.Key != "":
		k, err := ParseKey(s.Key)
		k.InsecureNoLog, k.Root = s.InsecureNoLog, s.Root
		return k, err
	case s.InsecureNoLog:
		return nil, errors.New("policy: insecureNoLog: only a key can have it, because a certificate proves nothing without a time")
	case s.IdentityRegexp != "":
		p, err := ParsePattern(s.IdentityRegexp, s.Issuer)
		p.Root = s.Root
		return p, err
	}
	i := Identity{Name: s.Identity, Issuer: s.Issuer, Root: s.Root}
	return i, i.checkSigner()
}

func (v DocumentVerifier) verifier() (Verifier, error) {
	signer, err := v.Signer.Signer()
	if err != nil {
		return Verifier{}, err
	}
	out := Verifier{ID: v.ID, Signer: signer, Resource: v.Resource, PolicyDigest: v.PolicyDigest, Levels: v.Levels}
	if v.MaxAge == "" {
		return out, nil
	}
	if out.MaxAge, err = time.ParseDuration(v.MaxAge); err == nil && out.MaxAge <= 0 {
		err = fmt.Errorf("got %q, want more than 0s", v.MaxAge)
	}
	if err != nil {
		return Verifier{}, fmt.Errorf("policy: verifier %q: maxAge: %w", v.ID, err)
	}
	return out, nil
}

// MarshalJSON returns the policy as a policy document, which Parse turns into the same
// Policy again. It fails if the Origin, Ref or a Signer has a type that Check refuses, or if
// the policy demands what version 1 of the document cannot say.
func (p Policy) MarshalJSON() ([]byte, error) {
	if len(p.Absent) > 0 || p.MaxTrustAge != 0 || !p.Witnesses.None() {
		return nil, errors.New("policy: version 1 of the document has neither what must be absent nor a maximum age of trust roots nor witnesses")
	}
	d := Document{FreshTrust: p.FreshTrust, MinLevel: p.minLevel()}
	switch o := p.Origin.(type) {
	case BuilderProvenance:
		d.NoSBOM, d.Contents, d.Root = o.SBOM == SBOMOptional, o.SBOM == SBOMContents, o.Root
		d.CompleteSBOM = o.CompleteSBOM
	case SignerProvenance, SignatureOnly, SummaryOnly:
	case NotationSignature:
		return nil, errors.New("policy: version 1 of the document has no signatures of notation")
	case AttestationsOnly:
		return nil, errors.New("policy: version 1 of the document has no attestations without a signature or provenance")
	default:
		return nil, fmt.Errorf("policy: origin: got a %T", p.Origin)
	}
	if err := d.setProvenance(p.Provenance()); err != nil {
		return nil, err
	}
	var err error
	if d.Signer, err = documentSigner(p.Signer()); err != nil {
		return nil, err
	}
	for _, a := range p.Attestations {
		signer, err := documentSigner(a.Signer)
		if err != nil {
			return nil, err
		}
		d.Attestations = append(d.Attestations, DocumentAttestation{a.PredicateType, signer, a.Equals})
	}
	for _, v := range p.Verifiers {
		signer, err := documentSigner(v.Signer)
		if err != nil {
			return nil, err
		}
		if signer == nil {
			return nil, errNoSigner
		}
		out := DocumentVerifier{ID: v.ID, Signer: *signer, Resource: v.Resource, PolicyDigest: v.PolicyDigest, Levels: v.Levels}
		if v.MaxAge != 0 {
			out.MaxAge = v.MaxAge.String()
		}
		d.Verifiers = append(d.Verifiers, out)
	}
	return json.Marshal(d)
}

func (d *Document) setProvenance(p Provenance) error {
	if p.SourceTrack != (SourceTrack{}) {
		return errors.New("policy: version 1 of the document has no Source level and no reviewers")
	}
	switch r := p.Ref.(type) {
	case nil:
	case RefName:
		d.Ref = string(r)
	case Version:
		d.Version = string(r)
	default:
		return fmt.Errorf("policy: ref: got a %T", p.Ref)
	}
	d.Source, d.AnySource = p.Source.uri, p.Source.any
	d.Commit, d.WorkflowInputs, d.RequireSource = p.Commit, p.Inputs, p.RequireSource
	d.Builders, d.Levels = p.Builders, p.Levels
	d.Recipe, d.AnyRecipe = p.Recipe.document(), p.Recipe.Any
	return nil
}

func documentSigner(s Signer) (*DocumentSigner, error) {
	switch s := s.(type) {
	case nil:
		return nil, nil
	case Identity:
		return &DocumentSigner{Identity: s.Name, Issuer: s.Issuer, Root: s.Root}, nil
	case Pattern:
		return &DocumentSigner{IdentityRegexp: s.expr, Issuer: s.issuer, Root: s.Root}, nil
	case Key:
		return &DocumentSigner{Key: s.pem, InsecureNoLog: s.InsecureNoLog, Root: s.Root}, nil
	}
	return nil, fmt.Errorf("policy: signer: got a %T", s)
}
