package verify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

// byPolicy is who gave a level, if the policy did.
const byPolicy = "the policy"

var errOnlySignature = errors.New("this is a signature and no provenance: it does not say what the file was built from")

// trustPlatform fails unless the trust root names the signer as a builder, and its
// issuer vouched for the signer.
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
			return fmt.Errorf("signer: got %q, and the trust root names no builders: say which builder to accept", id)
		}
		return fmt.Errorf("signer: got %q, want one of %q", id, want)
	}
	issuer := p.root.Issuer
	if issuer == "" {
		issuer, _ = trust.IssuerOf(b.ID) // the policy checked the id
	}
	if p.Identity.Issuer != issuer {
		return fmt.Errorf("issuer of the signer's certificate: got %q, want %q", p.Identity.Issuer, issuer)
	}
	return nil
}

// platformBuild reads the provenance of a platform's builder and compares it with
// the policy.
func (c *check) platformBuild(p *proof, s *attest.Statement) (*build, error) {
	by, err := c.origin(p)
	if err != nil {
		return nil, err
	}
	d, err := c.document(s)
	if err != nil {
		return nil, err
	}
	b, err := c.facts(d, by)
	if err != nil {
		return nil, err
	}
	facts := b.Facts
	b.evidence.Signed = fmt.Sprintf("%s, certified %s; log entry %d", facts.Builder, trust.FormatTime(p.Certified), p.Index)
	trusted, _ := p.root.Builder(facts.Builder, c.opts.Policy.Provenance().Builders)
	b.evidence.Level = trusted.Level
	if p.root.URL != "" {
		b.evidence.By = "the trust document of " + p.root.URL
	}
	c.levelByPolicy(b, facts.Builder)
	return b, c.matchPolicy(b)
}

// origin reads the signer's certificate.
func (c *check) origin(p *proof) (provenance.Origin, error) {
	return recall(c, c.of, originKey(p.Identity.SubjectAlternativeName), func() (provenance.Origin, error) { return provenance.OriginOf(p.Identity) })
}

// document parses a provenance.
func (c *check) document(s *attest.Statement) (*provenance.Document, error) {
	return recall(c, c.of, documentKey{}, func() (*provenance.Document, error) { return provenance.Parse(s) })
}

// facts returns what a provenance says, without what a verdict does not need.
func (c *check) facts(d *provenance.Document, by provenance.Origin) (*build, error) {
	b, err := recall(c, c.of, factsKey(by.Signer), func() (build, error) {
		facts, err := d.Facts(by)
		if err != nil {
			return build{}, err
		}
		b := build{Facts: facts}
		if c.keepsInputs() {
			b.inputs = inputsOf(facts.Dependencies)
		}
		if facts.Parameters = nil; c.ask == nil || !c.ask.Inputs {
			facts.Dependencies = nil
		}
		return b, nil
	})
	return &b, err
}

// inputsOf returns dependencies as lists of what is no longer trusted know them.
func inputsOf(dependencies []attest.ResourceDescriptor) []distrust.Input {
	out := make([]distrust.Input, 0, len(dependencies))
	for _, d := range dependencies {
		in := distrust.Input{URI: d.URI}
		if hex := d.Digest["sha256"]; hex != "" {
			in.Digest = "sha256:" + hex
		}
		if in != (distrust.Input{}) {
			out = append(out, in)
		}
	}
	return out
}

// readPublic decides whether the signer is a trusted builder on GitHub or GitLab,
// and reads its provenance.
func (c *check) readPublic(p *proof, b *bundle.Bundle) {
	by, err := c.origin(p)
	var d *provenance.Document
	var unread error
	if err == nil && b.Statement != nil {
		d, unread = c.document(b.Statement)
	}
	var builder trust.PublicBuilder
	switch {
	case err != nil:
	case by.System == provenance.GitLab:
		err = c.trustPipeline(by)
	case by.System != provenance.GitHub:
		err = fmt.Errorf("signer: got %q, want a workflow or a pipeline", by.Signer)
	case unread != nil && by.Workflow.Delegates():
		err = unread // it does not say which builder it was signed for
	default:
		builder, err = c.trustWorkflow(by, d)
	}
	if err != nil {
		p.signer = c.otherSigner(p, err)
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
	c.noteSigner(p)
}

// noteSigner says in the evidence of a build who signed its provenance, if one was read.
func (c *check) noteSigner(p *proof) {
	if p.build == nil {
		return
	}
	p.build.evidence.Signed = c.signatureClaim(p)
	if p.Index >= 0 {
		p.build.evidence.Signed += fmt.Sprintf("; log entry %d", p.Index)
	}
}

// publicBuild reads the provenance of a builder that is not a platform's, and
// compares it with the policy. level is the Build level that trust's table of
// public workflows gives the builder, or 0; unlogged means that the signature has
// no log entry.
func (c *check) publicBuild(d *provenance.Document, by provenance.Origin, level int, unlogged bool) (*build, error) {
	b, err := c.facts(d, by)
	if err != nil {
		return nil, err
	}
	facts := b.Facts
	switch {
	case facts.System == provenance.GitLab && facts.Runner == "gitlab-hosted":
		level = 2
	case facts.System == provenance.GitLab:
		level = 1 // the owner of a self-hosted runner can change what runs on it
	case facts.System == provenance.Tekton && facts.Builder == trust.TektonBuilder:
		level = trust.TektonLevel
	}
	b.evidence = provenance.Evidence{Level: level, Unlogged: unlogged}
	if level > 0 {
		b.evidence.By = "the table of public builders"
	}
	// The policy may name a workflow or pipeline with its ref or without it.
	unversioned, _, _ := strings.Cut(facts.Builder, "@")
	c.levelByPolicy(b, facts.Builder, unversioned)
	return b, c.matchPolicy(b)
}

// levelByPolicy sets the level that the policy gives a builder, under the first of
// its names that the policy knows.
func (c *check) levelByPolicy(b *build, names ...string) {
	for _, name := range names {
		if level, ok := c.opts.Policy.Provenance().Level(name); ok {
			b.evidence.Level, b.evidence.By = level, byPolicy
			return
		}
	}
}

// trustWorkflow returns for which Build level and build types the workflow that
// built is trusted; an error means not at all. The document is nil if a file was
// signed without a statement.
func (c *check) trustWorkflow(by provenance.Origin, d *provenance.Document) (trust.PublicBuilder, error) {
	demanded := c.opts.Policy.Provenance()
	if d == nil || !by.Workflow.Delegates() {
		return by.Workflow.TrustedBuilder(demanded.Builders, by.Source, by.Ref, demanded.Source.Names(by.Source))
	}
	workflow, err := by.Builder(d)
	if err != nil {
		return trust.PublicBuilder{}, err
	}
	// The provenance alone names this builder, so it is never trusted merely as a
	// workflow of the source repository.
	b, err := workflow.TrustedBuilder(demanded.Builders, by.Source, by.Ref, false)
	b.BuildTypes = []string{trust.BuildTypeDelegated}
	return b, err
}

// workflowBuild reads the provenance of a workflow on GitHub that is trusted as b.
func (c *check) workflowBuild(d *provenance.Document, by provenance.Origin, b trust.PublicBuilder, unlogged bool) (*build, error) {
	if !slices.Contains(b.BuildTypes, d.BuildType) {
		return nil, fmt.Errorf("build type: got %q, want one that %q makes: %q", d.BuildType, b.Workflow, b.BuildTypes)
	}
	return c.publicBuild(d, by, b.Level, unlogged)
}

// trustPipeline fails unless the policy names the pipeline or, if it names the
// source, the pipeline is that repository's own at the ref that was built.
func (c *check) trustPipeline(by provenance.Origin) error {
	p, demanded := by.Pipeline, c.opts.Policy.Provenance()
	switch {
	case len(demanded.Builders) > 0:
		if !slices.Contains(demanded.Builders, p.String()) {
			return fmt.Errorf("signer: got %q, want one of %q", p, demanded.Builders)
		}
	case !demanded.Source.Names(by.Source) || p.Repository != by.Source:
		return fmt.Errorf("signer: got %q, want a pipeline of the source repository demanded: say which one to accept", p)
	case p.Ref != by.Ref:
		return fmt.Errorf("signer: got the pipeline of %q, want that of the ref that was built, %q", p.Ref, by.Ref)
	}
	return nil
}

// namedBuild reads a provenance by the signer that the policy names, and compares
// it with the policy.
func (c *check) namedBuild(b *bundle.Bundle, p *proof) (*build, error) {
	d, err := c.document(b.Statement)
	if err != nil {
		return nil, err
	}
	if demanded := c.opts.Policy.Provenance().Builders; len(demanded) > 0 && !slices.Contains(demanded, d.Builder) {
		return nil, fmt.Errorf("builder id: got %q, want one of %q", d.Builder, demanded)
	}
	by, err := c.origin(p)
	if err != nil {
		return nil, err
	}
	unlogged := p.Index < 0 && withoutLog(c.opts.Policy.Signer())
	switch by.System {
	case provenance.Colophon:
		// Only a trust document can make a platform's builders trusted.
		return nil, fmt.Errorf("build type: got %q, want one of GitHub, GitLab or Tekton", d.BuildType)
	case provenance.GitHub:
		if by.Workflow.Delegates() {
			return nil, fmt.Errorf("signer: %q signs for other builders: name the builder in place of the signer", by.Workflow)
		}
		// The signer was already compared, with its ref.
		trusted, err := by.Workflow.TrustedBuilder([]string{by.Workflow.String()}, by.Source, by.Ref, false)
		if err != nil {
			return nil, err
		}
		return c.workflowBuild(d, by, trusted, unlogged)
	}
	return c.publicBuild(d, by, 0, unlogged)
}

// withoutLog reports whether s accepts a signature without a log entry.
func withoutLog(s policy.Signer) bool {
	k, ok := s.(policy.Key)
	return ok && k.InsecureNoLog
}

// matchPolicy compares the facts with the policy. There may be many large facts, so
// a build that differs keeps only what a verdict needs.
func (c *check) matchPolicy(b *build) error {
	p := c.opts.Policy.Provenance()
	level := 0
	if p.MinLevel > 0 {
		level = b.level() // computes many words
	}
	err := cmp.Or(
		p.MatchSource(b.Source),
		p.MatchRef(b.Ref),
		p.MatchCommit(b.Commit),
		p.MatchInputs(b.Inputs),
		p.MatchRecipe(c.built(b)),
		p.MatchLevel(level),
	)
	if err != nil {
		less := *b.Facts // other verdicts share them
		less.Inputs, less.Recipe, less.Default = nil, nil, nil
		b.Facts = &less
	}
	return err
}

// built returns how the image was built, or nil if no Colophon builder built it.
func (c *check) built(b *build) *policy.Built {
	if b.Recipe == nil {
		return nil
	}
	out := &policy.Built{Recipe: *b.Recipe, Default: b.Default, Hermetic: b.Hermetic}
	if !b.Hermetic {
		out.Lock = b.Lock // a hermetic build writes its own
	}
	if c.src != nil && !c.opts.Layout {
		out.Image = c.src.Name()
	}
	return out
}

// signatureClaim says who signed a proof, in words for people.
func (c *check) signatureClaim(p *proof) string {
	if p.Identity.SubjectAlternativeName == "" {
		return "by the key that the policy names"
	}
	return fmt.Sprintf("%s, certified %s", p.Identity.SubjectAlternativeName, trust.FormatTime(p.Certified))
}
