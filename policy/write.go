package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/colophon-build/colophon/internal/strict/documents"
)

// Document returns the set as a policy document of version 2, which means the same Set again.
// It fails if Check refuses a part of it.
func (s *Set) Document() (*SetDocument, error) {
	d := &SetDocument{APIVersion: APIVersion, Kind: KindPolicy, Metadata: MetadataDocument{Name: s.Name, Namespace: s.Namespace}, Spec: SpecDocument{Unmatched: string(s.Unmatched), Rules: []RuleDocument{}}}
	if s.Namespaced {
		d.Kind = KindNamespacePolicy
	}
	for _, r := range s.Rules {
		rule, err := r.document()
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		d.Spec.Rules = append(d.Spec.Rules, rule)
	}
	if _, err := d.Set(); err != nil {
		return nil, err
	}
	return d, nil
}

// YAML returns the document as text for a file.
func (d *SetDocument) YAML() ([]byte, error) { return documents.YAML(d) }

func (r Rule) document() (RuleDocument, error) {
	if len(r.Accept) == 0 {
		return RuleDocument{}, errors.New("accept: got no alternatives")
	}
	d := RuleDocument{Name: r.Name, Images: patternDocuments(r.Images), Mode: string(r.Mode), OnRunning: string(r.OnRunning)}
	if !r.EnforceFrom.IsZero() {
		d.EnforceFrom = r.EnforceFrom.UTC().Format(time.RFC3339)
	}
	trust := TrustDocument{Fresh: r.Accept[0].FreshTrust, MaxAge: ageText(r.Accept[0].MaxTrustAge)}
	for _, p := range r.Accept {
		if p.FreshTrust != trust.Fresh || ageText(p.MaxTrustAge) != trust.MaxAge {
			return d, errors.New("the alternatives demand different freshness of trust roots, and a document has one for all of a rule")
		}
		if !p.Witnesses.equal(r.Accept[0].Witnesses) {
			return d, errors.New("the alternatives demand different witnesses, and a document has one demand for all of a rule")
		}
		a, err := p.acceptDocument()
		if err != nil {
			return d, err
		}
		d.Accept = append(d.Accept, a)
	}
	if trust != (TrustDocument{}) {
		d.Trust = &trust
	}
	if w := r.Accept[0].Witnesses; !w.None() {
		d.Log = &LogDocument{w.AtLeast, w.Keys}
	}
	if r.DistrustMaxAge != 0 {
		d.Distrust = &DistrustDocument{MaxAge: ageText(r.DistrustMaxAge)}
	}
	for _, c := range r.Conditions {
		d.Conditions = append(d.Conditions, ConditionDocument{c.expression, c.message})
	}
	for _, e := range r.Exemptions {
		d.Exemptions = append(d.Exemptions, ExemptionDocument{patternDocuments(e.Images), e.Reason, e.Owner, e.Until.UTC().Format(time.RFC3339)})
	}
	if r.Rebuilds != nil {
		d.Rebuilds = &RebuildsDocument{r.Rebuilds.AtLeast, r.Rebuilds.By}
	}
	return d, nil
}

func patternDocuments(patterns []ImagePattern) (out []PatternDocument) {
	for _, p := range patterns {
		out = append(out, PatternDocument(p))
	}
	return out
}

func ageText(age time.Duration) string {
	if age == 0 {
		return ""
	}
	return age.String()
}

func (p Policy) acceptDocument() (d AcceptDocument, err error) {
	var beside BesideDocument
	for _, a := range p.Attestations {
		got, err := a.document()
		if err != nil {
			return d, err
		}
		beside.Attestations = append(beside.Attestations, got)
	}
	for _, a := range p.Absent {
		got, err := Attestation(a).document()
		if err != nil {
			return d, err
		}
		beside.Absent = append(beside.Absent, got)
	}
	if beside.Verifiers, err = verifierDocuments(p.Verifiers); err != nil {
		return d, err
	}
	signer := &SignerDocument{}
	if p.Signer() != nil {
		if signer, err = DocumentOfSigner(p.Signer()); err != nil {
			return d, err
		}
	}
	said, err := p.Provenance().document()
	if err != nil {
		return d, err
	}
	switch o := p.Origin.(type) {
	case BuilderProvenance:
		d.Built = &BuiltDocument{ProvenanceDocument: said, Recipe: o.Recipe.document2(), SBOM: o.sbomDocument(), Root: o.Root, BesideDocument: beside}
	case SignerProvenance:
		d.Provenance = &SignedDocument{*signer, said, beside}
	case SignatureOnly:
		d.Signature = &SignatureDocument{*signer, beside}
	case NotationSignature:
		d.Notation = o.document(beside)
	case AttestationsOnly:
		d.Attested = &AttestedDocument{beside}
	case SummaryOnly:
		d.Summary = &SummaryDocument{o.MinLevel, beside.Verifiers, beside.Absent}
	default:
		err = fmt.Errorf("policy: origin: got a %T", p.Origin)
	}
	return d, err
}

func verifierDocuments(all []Verifier) (out []VerifierDocument, err error) {
	for _, v := range all {
		signer, err := DocumentOfSigner(v.Signer)
		if err != nil {
			return nil, err
		}
		out = append(out, VerifierDocument{v.ID, *signer, v.Resource, v.PolicyDigest, v.Levels, ageText(v.MaxAge)})
	}
	return out, nil
}

func (p Provenance) document() (ProvenanceDocument, error) {
	d := ProvenanceDocument{Source: p.Source.uri, Commit: p.Commit, WorkflowInputs: p.Inputs, MinLevel: p.MinLevel, RequireSource: p.RequireSource}
	if p.Source.any {
		d.Source = anyRepository
	}
	switch r := p.Ref.(type) {
	case nil:
	case RefName:
		d.Ref = &RefDocument{Name: string(r)}
	case Version:
		d.Ref = &RefDocument{Version: string(r)}
	default:
		return d, fmt.Errorf("policy: ref: got a %T", p.Ref)
	}
	for _, id := range p.Builders {
		b := BuilderDocument{ID: id}
		if level, ok := p.Levels[id]; ok {
			b.Level = &level
		}
		d.Builders = append(d.Builders, b)
	}
	if p.SourceTrack == (SourceTrack{}) {
		return d, nil
	}
	verifiers, err := verifierDocuments(p.SourceVerifiers)
	d.SourceTrack = &SourceTrackDocument{p.SourceTrack.MinLevel, p.SourceTrack.Reviewers, verifiers}
	return d, err
}

// sbomDocument returns nil for the demand that a document without the member makes.
func (o BuilderProvenance) sbomDocument() *SBOMDocument {
	switch {
	case o.SBOM == SBOMOptional:
		return &SBOMDocument{Optional: &NothingDocument{}}
	case o.SBOM == SBOMContents || o.CompleteSBOM:
		return &SBOMDocument{Required: &RequiredSBOMDocument{o.SBOM == SBOMContents, o.CompleteSBOM}}
	}
	return nil
}

// document2 returns nil for a Recipe that demands nothing.
func (r Recipe) document2() *RecipeDocument {
	declared := DeclaredDocument{r.Image, r.Context.document(), r.Lock}
	if r.Hermetic {
		declared.Downloads = hermetic
	}
	switch {
	case r.Any:
		return &RecipeDocument{Any: &NothingDocument{}}
	case r.demandsNothing():
		return nil
	case r.Package != nil:
		return &RecipeDocument{Golang: &GolangDocument{r.Image, declared.Context, *r.Package.document(), r.Hermetic}}
	case r.builder() == "":
		return &RecipeDocument{Declared: &declared}
	}
	d := &DockerfileDocument{DeclaredDocument: declared, Path: r.Dockerfile.document(), Target: r.Target.document()}
	for name, v := range r.BuildArgs {
		if d.BuildArgs == nil {
			d.BuildArgs = map[string]ValueDocument{}
		}
		d.BuildArgs[name] = *v.document()
	}
	return &RecipeDocument{Dockerfile: d}
}

// document returns nil for nil.
func (v *Value) document() *ValueDocument {
	switch {
	case v == nil:
		return nil
	case v.pattern != nil:
		return &ValueDocument{Matches: v.expr}
	}
	return &ValueDocument{Is: &v.exact}
}

// DocumentOfSigner returns the document of a Signer.
func DocumentOfSigner(s Signer) (*SignerDocument, error) {
	switch s := s.(type) {
	case Identity:
		return &SignerDocument{Certificate: &CertificateDocument{s.Issuer, ValueDocument{Is: &s.Name}, s.Root}}, nil
	case Pattern:
		return &SignerDocument{Certificate: &CertificateDocument{s.issuer, ValueDocument{Matches: s.expr}, s.Root}}, nil
	case Key:
		if s.InsecureNoLog {
			return &SignerDocument{InsecureUnloggedKey: &UnloggedKeyDocument{s.pem}}, nil
		}
		return &SignerDocument{Key: &KeyDocument{s.pem, s.Root}}, nil
	}
	return nil, fmt.Errorf("policy: signer: got a %T", s)
}

func (a Attestation) document() (d AttestationDocument, err error) {
	d.PredicateType = a.PredicateType
	if a.Signer != nil {
		if d.Signer, err = DocumentOfSigner(a.Signer); err != nil {
			return d, err
		}
	}
	for _, pointer := range slices.Sorted(maps.Keys(a.Equals)) {
		v := PredicateDocument{Pointer: pointer}
		switch want := a.Equals[pointer].(type) {
		case nil:
			v.Null = true
		case string:
			v.String = &want
		case bool:
			v.Boolean = &want
		case float64:
			v.Integer = new(int64(want))
		default:
			return d, fmt.Errorf("policy: %s: got a %T", pointer, want)
		}
		d.Values = append(d.Values, v)
	}
	return d, nil
}
