package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/colophon-build/colophon/internal/strict/documents"
)

// AcceptDocument is one alternative of a rule in a policy document: exactly one of its members.
type AcceptDocument struct {
	Built      *BuiltDocument     `json:"built,omitempty"`      // provenance by a builder that a trust root names, or by a public builder on GitHub or GitLab
	Provenance *SignedDocument    `json:"provenance,omitempty"` // provenance of GitHub, GitLab or Tekton Chains by a signer that is named here
	Signature  *SignatureDocument `json:"signature,omitempty"`  // a signature by a signer that is named here: it says nothing about a source
	Notation   *NotationDocument  `json:"notation,omitempty"`   // a signature in a format of the Notary Project: it says nothing about a source
	Attested   *AttestedDocument  `json:"attested,omitempty"`   // attestations, each by a signer that is named here: they say nothing about a source
	Summary    *SummaryDocument   `json:"summary,omitempty"`    // somebody else verified the image: nothing of the builder is verified
}

// ProvenanceDocument is a Provenance in a policy document of version 2, but for its Recipe.
type ProvenanceDocument struct {
	Source         string            `json:"source"`                   // repository that the image must come from; dangerous: any
	Ref            *RefDocument      `json:"ref,omitempty"`            // if absent: any branch or tag
	Commit         string            `json:"commit,omitempty"`         // full id, lower-case hex digits
	WorkflowInputs map[string]string `json:"workflowInputs,omitempty"` // inputs that a workflow on GitHub must have been started with by hand
	MinLevel       int               `json:"minLevel,omitempty"`       // SLSA Build level, 0 to 3, that must follow from the evidence
	Builders       []BuilderDocument `json:"builders,omitempty"`       // builders to accept. If absent: those that trust roots name, and public builders
	RequireSource  bool              `json:"requireSource,omitempty"`  // the repository must answer, and still have the commit

	SourceTrack *SourceTrackDocument `json:"sourceTrack,omitempty"` // what the commit must reach on SLSA's Source track
}

// SourceTrackDocument is a SourceTrack, and who may vouch for it, in a policy document.
type SourceTrackDocument struct {
	MinLevel  int                `json:"minLevel,omitempty"`  // SLSA Source level, 1 to 4
	Reviewers int                `json:"reviewers,omitempty"` // accounts other than the author's that approved the commit
	Verifiers []VerifierDocument `json:"verifiers,omitempty"` // whose summary about the commit counts; by default of the resource git+SOURCE. Without one, the forge is asked
}

// BuiltDocument is BuilderProvenance in a policy document.
type BuiltDocument struct {
	ProvenanceDocument
	Recipe *RecipeDocument `json:"recipe,omitempty"` // if absent: the recipe of the commit itself
	SBOM   *SBOMDocument   `json:"sbom,omitempty"`   // if absent: required
	Root   string          `json:"root,omitempty"`   // trust root that must have verified the provenance. If absent: any
	BesideDocument
}

// SignedDocument is SignerProvenance in a policy document.
type SignedDocument struct {
	Signer SignerDocument `json:"signer"` // who must have signed the provenance
	ProvenanceDocument
	BesideDocument
}

// SignatureDocument is SignatureOnly in a policy document.
type SignatureDocument struct {
	Signer SignerDocument `json:"signer"` // who must have signed the image
	BesideDocument
}

// AttestedDocument is AttestationsOnly in a policy document.
type AttestedDocument struct {
	BesideDocument
}

// SummaryDocument is SummaryOnly in a policy document.
type SummaryDocument struct {
	MinLevel  int                `json:"minLevel,omitempty"` // SLSA Build level, 0 to 3, in the summary
	Verifiers []VerifierDocument `json:"verifiers"`          // one of these must have verified the image

	Absent []AttestationDocument `json:"absent,omitempty"` // attestations that the image must not have
}

// BesideDocument is what an alternative demands beside an origin.
type BesideDocument struct {
	Attestations []AttestationDocument `json:"attestations,omitempty"` // other attestations that the image must have
	Absent       []AttestationDocument `json:"absent,omitempty"`       // attestations that the image must not have: by signers that a trust root vouches for
	Verifiers    []VerifierDocument    `json:"verifiers,omitempty"`    // one of these must have verified the image, too
}

// RefDocument is a Ref in a policy document: exactly one of its members.
type RefDocument struct {
	Name    string `json:"name,omitempty"`    // full ref, or the short name of a tag or branch
	Version string `json:"version,omitempty"` // version of the tag, or its beginning
}

// BuilderDocument is a builder to accept.
type BuilderDocument struct {
	ID    string `json:"id"`              // as provenance names it
	Level *int   `json:"level,omitempty"` // SLSA Build level, 0 to 3, that it is trusted for, in place of the trust root's
}

// SBOMDocument is a demand for SBOMs: exactly one of its members.
type SBOMDocument struct {
	Optional *NothingDocument      `json:"optional,omitempty"` // an image without SBOMs is accepted
	Required *RequiredSBOMDocument `json:"required,omitempty"` // an SPDX and a CycloneDX document
}

// RequiredSBOMDocument is what SBOMs must be.
type RequiredSBOMDocument struct {
	Contents bool `json:"contents,omitempty"` // they list what is installed in the image, and nothing else
	Complete bool `json:"complete,omitempty"` // they name no file that their scanner could not read
}

// NothingDocument has no members.
type NothingDocument struct{}

// ValueDocument is a Value in a policy document of version 2: exactly one of its members.
type ValueDocument struct {
	Is      *string `json:"is,omitempty"`      // text, compared whole
	Matches string  `json:"matches,omitempty"` // regular expression (RE2), anchored at both ends
}

// RecipeDocument is a Recipe in a policy document of version 2: exactly one of its members.
type RecipeDocument struct {
	Any        *NothingDocument    `json:"any,omitempty"`        // dangerous: whoever requested the build may have chosen anything
	Declared   *DeclaredDocument   `json:"declared,omitempty"`   // the recipe of the commit itself, with demands
	Dockerfile *DockerfileDocument `json:"dockerfile,omitempty"` // a Dockerfile: path, target or buildArgs
	Golang     *GolangDocument     `json:"golang,omitempty"`     // a Go main package
}

// DeclaredDocument is what any recipe may have.
type DeclaredDocument struct {
	Image     string         `json:"image,omitempty"`     // name of the image in .colophon.yaml. If absent: that of the image's repository
	Context   *ValueDocument `json:"context,omitempty"`   // directory that is the build context
	Downloads string         `json:"downloads,omitempty"` // hermetic, or sha256:HEX of the lock file that the requester brought
}

// DockerfileDocument is a recipe of the builder buildkit.
type DockerfileDocument struct {
	DeclaredDocument
	Path      *ValueDocument           `json:"path,omitempty"`      // of the Dockerfile
	Target    *ValueDocument           `json:"target,omitempty"`    // stage; no target is the empty text
	BuildArgs map[string]ValueDocument `json:"buildArgs,omitempty"` // build arguments
}

// GolangDocument is a recipe of the builder golang.
type GolangDocument struct {
	Image    string         `json:"image,omitempty"`    // as in declared
	Context  *ValueDocument `json:"context,omitempty"`  // as in declared
	Package  ValueDocument  `json:"package"`            // directory of the main package
	Hermetic bool           `json:"hermetic,omitempty"` // the build must be hermetic
}

// one fails unless exactly one of the members is set.
func one(what string, members map[string]bool) error {
	if err := documents.OneOf(members); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Policy returns the Policy of the alternative. It does not check it.
func (d AcceptDocument) Policy() (p Policy, err error) {
	if err := one("accept", map[string]bool{"built": d.Built != nil, "provenance": d.Provenance != nil, "signature": d.Signature != nil, "notation": d.Notation != nil, "attested": d.Attested != nil, "summary": d.Summary != nil}); err != nil {
		return Policy{}, err
	}
	switch {
	case d.Built != nil:
		p, err = d.Built.policy()
		return p, in(err, "built")
	case d.Provenance != nil:
		p, err = d.Provenance.policy()
		return p, in(err, "provenance")
	case d.Signature != nil:
		o := SignatureOnly{}
		if o.Signer, err = d.Signature.Signer.Signer(); err == nil {
			p, err = d.Signature.add(Policy{Origin: o})
		}
		return p, in(err, "signature")
	case d.Notation != nil:
		p, err = d.Notation.policy()
		return p, in(err, "notation")
	case d.Attested != nil:
		if len(d.Attested.Attestations) == 0 {
			return Policy{}, in(errors.New("attestations: got none, want those that are enough"), "attested", "attestations")
		}
		p, err = d.Attested.add(Policy{Origin: AttestationsOnly{}})
		return p, in(err, "attested")
	}
	if len(d.Summary.Verifiers) == 0 {
		return Policy{}, in(errors.New("verifiers: got none, want those whose summary is enough"), "summary", "verifiers")
	}
	p, err = BesideDocument{Verifiers: d.Summary.Verifiers, Absent: d.Summary.Absent}.add(Policy{Origin: SummaryOnly{d.Summary.MinLevel}})
	return p, in(err, "summary")
}

func (d BuiltDocument) policy() (Policy, error) {
	o := BuilderProvenance{Root: d.Root}
	var err error
	if o.Provenance, err = d.provenance(); err != nil {
		return Policy{}, err
	}
	if o.Recipe, err = d.Recipe.recipe(); err != nil {
		return Policy{}, in(err, "recipe")
	}
	if d.SBOM != nil {
		if err := one("sbom", map[string]bool{"optional": d.SBOM.Optional != nil, "required": d.SBOM.Required != nil}); err != nil {
			return Policy{}, in(err, "sbom")
		}
		if d.SBOM.Optional != nil {
			o.SBOM = SBOMOptional
		} else {
			o.CompleteSBOM = d.SBOM.Required.Complete
			if d.SBOM.Required.Contents {
				o.SBOM = SBOMContents
			}
		}
	}
	return d.add(Policy{Origin: o})
}

func (d SignedDocument) policy() (Policy, error) {
	o := SignerProvenance{}
	var err error
	if o.Provenance, err = d.provenance(); err != nil {
		return Policy{}, err
	}
	if o.Signer, err = d.Signer.Signer(); err != nil {
		return Policy{}, in(err, "signer")
	}
	return d.add(Policy{Origin: o})
}

// anyRepository is what a document says in place of a repository. It is no address: it has
// no path.
const anyRepository = "any"

func (d ProvenanceDocument) provenance() (p Provenance, err error) {
	p = Provenance{Commit: d.Commit, Inputs: d.WorkflowInputs, MinLevel: d.MinLevel, RequireSource: d.RequireSource}
	switch d.Source {
	case "":
		return p, in(errors.New("source: got none, want the repository that the image must come from"), "source")
	case anyRepository:
		p.Source = AnySource()
	default:
		if p.Source, err = ParseSource(d.Source); err != nil {
			return p, in(err, "source")
		}
	}
	if d.Ref != nil {
		if err := one("ref", map[string]bool{"name": d.Ref.Name != "", "version": d.Ref.Version != ""}); err != nil {
			return p, in(err, "ref")
		}
		if p.Ref = Version(d.Ref.Version); d.Ref.Name != "" {
			p.Ref = RefName(d.Ref.Name)
		}
	}
	for i, b := range d.Builders {
		if slices.Contains(p.Builders, b.ID) {
			return p, in(fmt.Errorf("builders: got %q twice", b.ID), "builders", i)
		}
		p.Builders = append(p.Builders, b.ID)
		if b.Level == nil {
			continue
		}
		if p.Levels == nil {
			p.Levels = map[string]int{}
		}
		p.Levels[b.ID] = *b.Level
	}
	return p, in(d.SourceTrack.add(&p), "sourceTrack")
}

// add adds the demand to p; nil demands nothing.
func (d *SourceTrackDocument) add(p *Provenance) error {
	if d == nil {
		return nil
	}
	if p.SourceTrack = (SourceTrack{d.MinLevel, d.Reviewers}); p.SourceTrack == (SourceTrack{}) {
		return errors.New("sourceTrack: got neither minLevel nor reviewers")
	}
	for i, v := range d.Verifiers {
		got, err := v.verifier()
		if err != nil {
			return in(err, "verifiers", i)
		}
		p.SourceVerifiers = append(p.SourceVerifiers, got)
	}
	return p.checkTrack()
}

// recipe returns the Recipe of the document; nil means that of the commit itself.
func (d *RecipeDocument) recipe() (r Recipe, err error) {
	if d == nil {
		return Recipe{}, nil
	}
	if err := one("recipe", map[string]bool{"any": d.Any != nil, "declared": d.Declared != nil, "dockerfile": d.Dockerfile != nil, "golang": d.Golang != nil}); err != nil {
		return Recipe{}, err
	}
	switch {
	case d.Any != nil:
		return Recipe{Any: true}, nil
	case d.Declared != nil:
		err = d.Declared.add(&r)
		return r, in(err, "declared")
	case d.Golang != nil:
		r = Recipe{Image: d.Golang.Image, Hermetic: d.Golang.Hermetic}
		if r.Context, err = d.Golang.Context.value(); err == nil {
			r.Package, err = d.Golang.Package.value()
		}
		return r, in(err, "golang")
	}
	b := d.Dockerfile
	if b.Path == nil && b.Target == nil && len(b.BuildArgs) == 0 {
		return r, in(errors.New("dockerfile: want a path, target or buildArgs; of what the commit declares, demand the rest with declared"), "dockerfile")
	}
	if err := b.add(&r); err != nil {
		return r, in(err, "dockerfile")
	}
	if r.Dockerfile, err = b.Path.value(); err != nil {
		return r, in(err, "dockerfile", "path")
	}
	if r.Target, err = b.Target.value(); err != nil {
		return r, in(err, "dockerfile", "target")
	}
	for name, v := range b.BuildArgs {
		value, err := v.value()
		if err != nil {
			return r, in(err, "dockerfile", "buildArgs", name)
		}
		if r.BuildArgs == nil {
			r.BuildArgs = map[string]Value{}
		}
		r.BuildArgs[name] = *value
	}
	return r, nil
}

const hermetic = "hermetic"

func (d DeclaredDocument) add(r *Recipe) (err error) {
	r.Image = d.Image
	if r.Context, err = d.Context.value(); err != nil {
		return in(err, "context")
	}
	if r.Hermetic = d.Downloads == hermetic; r.Hermetic {
		return nil
	}
	if r.Lock = d.Downloads; r.Lock != "" && checkDigest(r.Lock) != nil {
		return in(fmt.Errorf("recipe: downloads: got %q, want %s or sha256:HEX", r.Lock, hermetic), "downloads")
	}
	return nil
}

// value returns nil for nil.
func (d *ValueDocument) value() (*Value, error) {
	if d == nil {
		return nil, nil
	}
	if err := one("value", map[string]bool{"is": d.Is != nil, "matches": d.Matches != ""}); err != nil {
		return nil, err
	}
	if d.Is != nil {
		return new(ExactValue(*d.Is)), nil
	}
	v, err := ParseValue(d.Matches)
	return &v, err
}

// add adds what is demanded beside the origin to p.
func (d BesideDocument) add(p Policy) (Policy, error) {
	for i, a := range d.Attestations {
		got, err := a.attestation()
		if err != nil {
			return Policy{}, in(err, "attestations", i)
		}
		p.Attestations = append(p.Attestations, got)
	}
	for i, a := range d.Absent {
		got, err := a.attestation()
		if err != nil {
			return Policy{}, in(err, "absent", i)
		}
		p.Absent = append(p.Absent, Absent(got))
	}
	for i, v := range d.Verifiers {
		got, err := v.verifier()
		if err != nil {
			return Policy{}, in(err, "verifiers", i)
		}
		p.Verifiers = append(p.Verifiers, got)
	}
	return p, nil
}
