package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

// build is what a verified provenance says, and what else its level rests on.
type build struct {
	*provenance.Facts
	evidence provenance.Evidence
}

// byPolicy says that a level is the consumer's own word.
const byPolicy = "the policy"

var errOnlySignature = errors.New("it is the signature of a file, which does not say what it was built from")

// trustPlatform fails unless the signer is a builder that the trust root speaks
// for: by its name, and by the issuer that vouched for it.
func (c *check) trustPlatform(p *proof) error {
	id, want := p.Identity.SubjectAlternativeName, c.opts.Policy.Provenance().Builders
	b, ok := p.root.Builder(id, want)
	if !ok {
		if len(want) == 0 {
			for _, b := range p.root.Builders {
				want = append(want, b.ID)
			}
		}
		if len(want) == 0 {
			return fmt.Errorf("signer: got %q, and the trust root names no builders: say which one to accept", id)
		}
		return fmt.Errorf("signer: got %q, want one of %q", id, want)
	}
	issuer := p.root.Issuer
	if issuer == "" {
		issuer, _ = trust.IssuerOf(b.ID) // the policy has checked the id
	}
	if p.Identity.Issuer != issuer {
		return fmt.Errorf("issuer of the signer's certificate: got %q, want %q", p.Identity.Issuer, issuer)
	}
	return nil
}

// platformBuild reads the provenance of a platform's builder, and compares it
// with the policy.
func (c *check) platformBuild(p *proof, s *attest.Statement) (*build, error) {
	by, err := provenance.OriginOf(p.Identity)
	if err != nil {
		return nil, err
	}
	facts, err := provenance.Read(s, by)
	if err != nil {
		return nil, err
	}
	b := &build{Facts: facts}
	b.evidence.Signed = fmt.Sprintf("%s, certified %s; log entry %d", facts.Builder, trust.FormatTime(p.Certified), p.Index)
	trusted, _ := p.root.Builder(facts.Builder, c.opts.Policy.Provenance().Builders)
	b.evidence.Level = trusted.Level
	if p.root.URL != "" {
		b.evidence.By = "the trust document of " + p.root.URL
	}
	c.levelByPolicy(b, facts.Builder)
	return b, c.demand(b)
}

// readPublic decides whether the signer is a builder on GitHub or GitLab that is
// trusted, and reads its provenance.
func (c *check) readPublic(p *proof, b *bundle.Bundle) {
	by, err := provenance.OriginOf(p.Identity)
	var d *provenance.Document
	var unread error
	if err == nil && b.Statement != nil {
		d, unread = provenance.Parse(b.Statement)
	}
	var builder trust.PublicBuilder
	switch {
	case err != nil:
	case by.System == provenance.GitLab:
		err = c.trustPipeline(by)
	case by.System != provenance.GitHub:
		err = fmt.Errorf("signer: got %q, want a workflow or a pipeline", by.Signer)
	case unread != nil && by.Workflow.Delegates():
		err = unread // it does not say for whom it was signed
	default:
		builder, err = c.trustWorkflow(by, d)
	}
	if p.signer = err; err != nil {
		return
	}
	switch {
	case b.Statement == nil:
		p.says = errOnlySignature
	case unread != nil:
		p.says = unread
	case by.System == provenance.GitLab:
		p.build, p.says = c.publicBuild(d, by, 0, false)
	default:
		p.build, p.says = c.workflowBuild(d, by, builder, false)
	}
}

// publicBuild reads the provenance of a builder that no platform speaks for,
// and compares it with the policy. A table trusts the builder for level (0: no
// table does).
func (c *check) publicBuild(d *provenance.Document, by provenance.Origin, level int, unlogged bool) (*build, error) {
	facts, err := d.Facts(by)
	if err != nil {
		return nil, err
	}
	switch {
	case facts.System == provenance.GitLab && facts.Runner == "gitlab-hosted":
		level = 2
	case facts.System == provenance.GitLab:
		level = 1 // whoever runs another machine can run anything on it
	case facts.System == provenance.Tekton && facts.Builder == trust.TektonBuilder:
		level = trust.TektonLevel
	}
	b := &build{Facts: facts, evidence: provenance.Evidence{Level: level, Unlogged: unlogged}}
	if level > 0 {
		b.evidence.By = "the table of public builders"
	}
	// The policy may name a workflow or pipeline whole, or without its ref.
	unversioned, _, _ := strings.Cut(facts.Builder, "@")
	c.levelByPolicy(b, facts.Builder, unversioned)
	return b, c.demand(b)
}

// levelByPolicy takes the level that the policy trusts a builder for, if it says
// any, by the first name that it knows.
func (c *check) levelByPolicy(b *build, names ...string) {
	for _, name := range names {
		if level, ok := c.opts.Policy.Provenance().Level(name); ok {
			b.evidence.Level, b.evidence.By = level, byPolicy
			return
		}
	}
}

// trustWorkflow says for which level the workflow that built is trusted, if it is
// trusted at all to write such a document. The document is nil where a file was
// signed and no statement.
func (c *check) trustWorkflow(by provenance.Origin, d *provenance.Document) (trust.PublicBuilder, error) {
	demanded := c.opts.Policy.Provenance()
	if d == nil || !by.Workflow.Delegates() {
		return by.Workflow.TrustedBuilder(demanded.Builders, by.Source, by.Ref, demanded.Source.Names(by.Source))
	}
	workflow, err := by.Builder(d)
	if err != nil {
		return trust.PublicBuilder{}, err
	}
	// No repository is its own builder by a name in somebody's provenance.
	b, err := workflow.TrustedBuilder(demanded.Builders, by.Source, by.Ref, false)
	b.BuildTypes = []string{trust.BuildTypeDelegated}
	return b, err
}

// workflowBuild reads what a workflow on GitHub signed that is trusted as b.
func (c *check) workflowBuild(d *provenance.Document, by provenance.Origin, b trust.PublicBuilder, unlogged bool) (*build, error) {
	if !slices.Contains(b.BuildTypes, d.BuildType) {
		return nil, fmt.Errorf("build type: got %q, want one that %q makes: %q", d.BuildType, b.Workflow, b.BuildTypes)
	}
	return c.publicBuild(d, by, b.Level, unlogged)
}

// trustPipeline fails unless the pipeline is one that was demanded or, where the
// source was demanded by name, the source's own at the ref that was built.
func (c *check) trustPipeline(by provenance.Origin) error {
	p, demanded := by.Pipeline, c.opts.Policy.Provenance()
	switch {
	case len(demanded.Builders) > 0:
		if !slices.Contains(demanded.Builders, p.String()) {
			return fmt.Errorf("signer: got %q, want one of %q", p, demanded.Builders)
		}
	case !demanded.Source.Names(by.Source) || p.Repository != by.Source:
		return fmt.Errorf("signer: got %q, which is no pipeline of the source repository demanded: say which one to accept", p)
	case p.Ref != by.Ref:
		return fmt.Errorf("signer: got the pipeline of %q, want that of the ref that was built, %q", p.Ref, by.Ref)
	}
	return nil
}

// namedBuild reads a provenance that the signer whom the policy names has
// signed, and compares it with the policy.
func (c *check) namedBuild(b *bundle.Bundle, p *proof) (*build, error) {
	d, err := provenance.Parse(b.Statement)
	if err != nil {
		return nil, err
	}
	if demanded := c.opts.Policy.Provenance().Builders; len(demanded) > 0 && !slices.Contains(demanded, d.Builder) {
		return nil, fmt.Errorf("builder id: got %q, want one of %q", d.Builder, demanded)
	}
	by, err := provenance.OriginOf(p.Identity)
	if err != nil {
		return nil, err
	}
	unlogged := p.Index < 0 && withoutLog(c.opts.Policy.Signer())
	switch by.System {
	case provenance.Colophon:
		// A platform's builders are trusted through its trust document alone.
		return nil, fmt.Errorf("build type: got %q, want one that is known, of GitHub, GitLab or Tekton", d.BuildType)
	case provenance.GitHub:
		if by.Workflow.Delegates() {
			return nil, fmt.Errorf("signer: %q signs for other builders: name the builder, and no signer", by.Workflow)
		}
		// The signer was compared whole, with its ref.
		trusted, err := by.Workflow.TrustedBuilder([]string{by.Workflow.String()}, by.Source, by.Ref, false)
		if err != nil {
			return nil, err
		}
		return c.workflowBuild(d, by, trusted, unlogged)
	}
	return c.publicBuild(d, by, 0, unlogged)
}

// withoutLog reports whether a signature that no log has is accepted.
func withoutLog(s policy.Signer) bool {
	k, ok := s.(policy.Key)
	return ok && k.InsecureNoLog
}

// demand compares the facts with the policy. They may be large and many, so that
// only what a verdict needs stays in memory.
func (c *check) demand(b *build) error {
	p := c.opts.Policy.Provenance()
	err := cmp.Or(
		p.MatchSource(b.Source),
		p.MatchRef(b.Ref),
		p.MatchCommit(b.Commit),
		p.MatchInputs(b.Inputs),
		p.MatchLevel(b.level()),
	)
	b.Parameters, b.Dependencies = nil, nil
	if err != nil {
		b.Inputs, b.Recipe = nil, nil
	}
	return err
}

// requirements are those of SLSA, with texts that are fit for a terminal.
func (b *build) requirements() []provenance.Requirement {
	return plainEvidence(b.Facts.Requirements(b.evidence))
}

func (b *build) level() int { return provenance.BuildLevel(b.Facts.Requirements(b.evidence)) }

// Requirements answers which requirements of SLSA's Build track the provenance
// attached to an image meets, to one who demands nothing but opts.Policy of it.
// It reads the provenance alone, and is no verdict on the image.
func Requirements(ctx context.Context, src oci.Source, image v1.Descriptor, now time.Time, opts Options) []provenance.Requirement {
	c := &check{src: src, now: now, opts: opts, about: aboutOf(image)}
	if err := c.ready(); err != nil {
		return plainEvidence(provenance.WithoutProvenance(provenance.NotKnown, err.Error()))
	}
	v := &Verdict{Digest: image.Digest.String()}
	ev := c.gather(ctx, image.Digest)
	s := c.sets(ev)[0]
	for _, l := range c.proofLinks(ev, s) {
		v.add(l)
	}
	c.require(v, s)
	return v.Requirements
}

// require fills in which requirements of SLSA the provenance of a set meets,
// once the links of the set are there.
func (c *check) require(v *Verdict, s set) {
	p := s.provenance.proof
	if p == nil || p.build == nil {
		for _, l := range v.Links {
			if l.Name == LinkProvenance && l.Status != NotAsked {
				exists := provenance.NotMet
				if l.Status == Unknown {
					exists = provenance.NotKnown
				}
				v.Requirements = plainEvidence(provenance.WithoutProvenance(exists, l.Reason))
			}
		}
		return
	}
	b := *p.build
	b.evidence.Provenance = fmt.Sprintf("%s about the %s %s", s.provenance.item.kind, c.about, v.Digest)
	if at := s.provenance.item.at; at != "" {
		b.evidence.Provenance = at + ", " + b.evidence.Provenance
	}
	v.Requirements = b.requirements()
	v.Level = provenance.BuildLevel(v.Requirements)
}

// plainEvidence makes texts that come from outside fit for a terminal.
func plainEvidence(rs []provenance.Requirement) []provenance.Requirement {
	for i := range rs {
		rs[i].Evidence = plain(rs[i].Evidence)
	}
	return rs
}
