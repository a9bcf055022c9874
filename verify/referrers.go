package verify

import (
	"context"
	"errors"
	"fmt"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
)

// parallel bounds the requests in flight, and with them the bundles in memory.
const parallel = 8

// candidate is one referrer that may be one of the proofs looked for.
type candidate struct {
	at      string // digest of the manifest, or of the layer, that it was found in; empty beside a file
	kind    string // predicate type; as the statement says, or else as the manifest hints, or empty
	err     error  // why it is none: broken, or not about this image
	missing bool   // it could not be fetched, so that nothing is known about it
	proof   *proof // nil where it was not a bundle
	prov    *provenance
	sbom    *sbom.Document
}

// score orders candidates by how far they came, to show the best one's reason.
func (c *candidate) score() int {
	if c.proof == nil {
		return 0
	}
	s := 1 + c.proof.score
	if c.err == nil {
		s += 1000
	}
	return s
}

// evidence is all that a subject's referrers have to say.
type evidence struct {
	candidates []*candidate
	workflows  []*workflowSigned // signed by workflows on GitHub, judged by their rules
	err        error             // the referrers could not be listed: nothing is known
	skipped    int               // referrers beyond limits.Referrers
}

// gather fetches the referrers of digest and judges each. Nothing that one of
// them does (lie, be huge, be missing) changes what is known about another.
func (c *check) gather(ctx context.Context, digest v1.Hash) *evidence {
	listed, err := c.src.Referrers(ctx, digest)
	if err != nil {
		return &evidence{err: fmt.Errorf("referrers of %s: %w", digest, err)}
	}
	// The listing may lie, so that it only decides who is looked at first.
	sort.SliceStable(listed, func(i, j int) bool { return hinted(listed[i]) && !hinted(listed[j]) })
	ev := &evidence{}
	if n := len(listed); n > limits.Referrers {
		ev.skipped, listed = n-limits.Referrers, listed[:limits.Referrers]
	}
	ev.candidates = make([]*candidate, len(listed))
	workflows := make([]*workflowSigned, len(listed))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, d := range listed {
		g.Go(func() error {
			ev.candidates[i], workflows[i] = c.candidate(ctx, digest, d)
			if ev.candidates[i] != nil {
				ev.candidates[i].at = d.Digest.String()
			}
			if workflows[i] != nil {
				workflows[i].at = d.Digest.String()
			}
			return nil
		})
	}
	_ = g.Wait()
	for _, w := range workflows {
		if w != nil {
			ev.workflows = append(ev.workflows, w)
		}
	}
	c.cosign2(ctx, digest, ev)
	for _, raw := range c.opts.Bundles {
		if b := c.byWorkflow(raw); b != nil {
			ev.workflows = append(ev.workflows, c.judgeWorkflow(b, Subject{Digest: digest}))
		} else {
			ev.candidates = append(ev.candidates, c.ofPlatform(raw, "", digest, v1.Descriptor{Digest: digest}))
		}
	}
	c.checkLocks(ctx, digest, listed, ev)
	return ev
}

func hinted(d v1.Descriptor) bool { return d.ArtifactType == attest.BundleMediaType }

// candidate judges one referrer, by the rules of platforms or by those of
// workflows. It returns nils for what is not a bundle.
func (c *check) candidate(ctx context.Context, subject v1.Hash, d v1.Descriptor) (*candidate, *workflowSigned) {
	raw, hint, err := fetchBundle(ctx, c.src, subject, d)
	if err != nil {
		gone := errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrMismatch) || errors.Is(err, errHostile)
		return &candidate{kind: hint, err: fmt.Errorf("attestation %s: %w", d.Digest, err), missing: !gone}, nil
	}
	if raw == nil {
		return nil, nil
	}
	if b := c.byWorkflow(raw); b != nil {
		return nil, c.judgeWorkflow(b, Subject{Digest: subject})
	}
	return c.ofPlatform(raw, hint, subject, d), nil
}

// ofPlatform judges a bundle in the narrow form that platforms make.
func (c *check) ofPlatform(raw []byte, hint string, subject v1.Hash, d v1.Descriptor) *candidate {
	b, err := attest.ParseBundle(raw)
	if err != nil {
		return &candidate{kind: hint, err: fmt.Errorf("attestation %s: %w", d.Digest, err)}
	}
	cand := &candidate{kind: b.Statement.PredicateType, proof: &proof{}}
	if err := aboutDigest(b.Statement, subject); err != nil {
		cand.err = err
		return cand
	}
	c.judgeByRoots(cand, b, subject)
	if cand.err != nil {
		return cand
	}
	// What the predicate says is boiled down here, so that no flood of large
	// statements is held in memory.
	switch cand.kind {
	case attest.PredicateSLSA1:
		cand.prov, cand.err = c.readProvenance(cand.proof, b.Statement.Predicate)
	case attest.PredicateSPDX, attest.PredicateCDX:
		cand.sbom, cand.err = c.readSBOM(b.Statement.Predicate, cand.kind, subject)
	}
	return cand
}

// judgeByRoots looks for a root that the bundle verifies under, and that
// believes its signer. Signature and log links take the parts of the proof.
func (c *check) judgeByRoots(cand *candidate, b *attest.Bundle, subject v1.Hash) {
	for _, r := range c.opts.Trust {
		p := judge(b, r, subject, c.opts.Now)
		if p.signature == nil {
			if p.signature = c.believed(p); p.signature == nil {
				p.score++
			}
		}
		if cand.proof.root == nil || p.score > cand.proof.score || p.err() == nil {
			cand.proof, cand.err = p, p.err()
		}
		if cand.err == nil {
			return
		}
	}
	if cand.proof.root == nil {
		cand.err = errors.New("no trust root was given")
	}
}

// believed holds the signer to the builders that the root speaks for: the
// name, and the issuer that vouched for it.
func (c *check) believed(p *proof) error {
	id := p.identity.SubjectAlternativeName
	b, ok := p.root.Builder(id, c.opts.Policy.Provenance().Builders)
	if !ok {
		want := c.opts.Policy.Provenance().Builders
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
		issuer = issuerOf(b.ID)
	}
	if p.identity.Issuer != issuer {
		return fmt.Errorf("issuer of the signer's certificate: got %q, want %q", p.identity.Issuer, issuer)
	}
	return nil
}

// errHostile says that the content is there and unusable: nobody has to ask again.
var errHostile = errors.New("not an attestation")

// fetchBundle returns a referrer's bundle, nil if it is something else, and
// what kind it is said to be. Only the manifest's own subject counts.
func fetchBundle(ctx context.Context, src oci.Source, subject v1.Hash, d v1.Descriptor) (raw []byte, hint string, err error) {
	hint = d.Annotations[attest.AnnotationType]
	manifest, _, err := src.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, hint, err
	}
	var m struct {
		ArtifactType string            `json:"artifactType"`
		Subject      *v1.Descriptor    `json:"subject"`
		Layers       []v1.Descriptor   `json:"layers"`
		Annotations  map[string]string `json:"annotations"`
	}
	if err := unmarshal(manifest, &m); err != nil {
		return nil, hint, fmt.Errorf("%w: %w", errHostile, err)
	}
	if len(m.Layers) != 1 || !attest.IsBundleMediaType(string(m.Layers[0].MediaType)) {
		if m.ArtifactType == attest.BundleMediaType {
			return nil, hint, fmt.Errorf("%w: %d layers, want one bundle", errHostile, len(m.Layers))
		}
		return nil, "", nil
	}
	if m.Annotations[attest.AnnotationType] != "" {
		hint = m.Annotations[attest.AnnotationType]
	}
	if m.Subject == nil || m.Subject.Digest != subject {
		return nil, hint, fmt.Errorf("%w: its manifest has another subject than %s", errHostile, subject)
	}
	layer := m.Layers[0]
	if layer.Size < 0 || layer.Size > limits.Bundle {
		return nil, hint, fmt.Errorf("%w: bundle of %d bytes, at most %d are taken", errHostile, layer.Size, limits.Bundle)
	}
	blob, err := src.Blob(ctx, layer)
	if err != nil {
		return nil, hint, err
	}
	defer blob.Close()
	raw, err = strict.Read(blob, limits.Bundle)
	if err == nil && int64(len(raw)) != layer.Size {
		err = fmt.Errorf("%w: bundle: got %d bytes, want %d", oci.ErrMismatch, len(raw), layer.Size)
	}
	return raw, hint, err
}

func unmarshal(raw []byte, v any) error { return strict.Unmarshal(raw, limits.Manifest, v) }
