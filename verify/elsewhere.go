package verify

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/trust"
)

// What was signed elsewhere than on a platform of Colophon: by a workflow on
// GitHub or a pipeline on GitLab, under a plain Sigstore trusted root. The name in the certificate
// decides which rules a bundle is judged by, before anything is verified: a
// workflow's are here, and no platform's builder has such a name.

// workflowSigned is a candidate whose certificate names a workflow.
type workflowSigned struct {
	candidate
	signature error // what is wrong with signature, certificate, log or time
	signer    error // who signed, and should not have
	signed    *Signature
}

// plainRoots are the trust roots that speak for no platform.
func (c *check) plainRoots() []*trust.Root {
	var plain []*trust.Root
	for _, r := range c.opts.Trust {
		if len(r.Builders) == 0 {
			plain = append(plain, r)
		}
	}
	return plain
}

// byWorkflow says whether a bundle claims to be of a workflow, and returns it.
func (c *check) byWorkflow(raw []byte) *attest.Signed {
	if len(c.plainRoots()) == 0 {
		return nil
	}
	b, err := attest.ParseSigned(raw)
	if err != nil || !namesBuilder(b) {
		return nil
	}
	return b
}

// namesBuilder says whether the certificate is for a builder that is believed
// by the rules of this file.
func namesBuilder(b *attest.Signed) bool { return namesWorkflow(b) || namesPipeline(b) }

func namesWorkflow(b *attest.Signed) bool {
	if b.Certificate == nil || len(b.Certificate.URIs) != 1 {
		return false
	}
	_, err := trust.ParseWorkflow(b.Certificate.URIs[0].String())
	return err == nil
}

// judgeWorkflow verifies a workflow's bundle about subject.
func (c *check) judgeWorkflow(b *attest.Signed, subject Subject) *workflowSigned {
	w := &workflowSigned{candidate: candidate{kind: "signature of a file", proof: &proof{}}}
	if b.Statement != nil {
		w.kind = b.Statement.PredicateType
	}
	if w.signature = w.bySomeRoot(c, b, subject); w.signature != nil {
		w.err = w.signature
		return w
	}
	w.signed.Statement = nil // b has it; too large to be held for a flood of them
	w.proof.identity, w.proof.certified, w.proof.index, w.proof.score = w.signed.Identity, b.Certificate.NotBefore.UTC(), w.signed.Index, 100
	if namesPipeline(b) {
		w.byPipeline(c, b)
		return w
	}
	r, err := runOf(w.signed.Identity)
	if err != nil {
		w.signer, w.err = err, err
		return w
	}
	own := c.opts.Policy.Provenance().Source.Names(r.source)
	delegates := r.workflow.Delegates() && b.Statement != nil
	if delegates {
		// No repository is its own builder by a name in somebody's provenance.
		own, err = false, r.delegated(b.Statement)
	}
	builder := trust.PublicBuilder{}
	if err == nil {
		builder, err = r.builder.Believe(c.opts.Policy.Provenance().Builders, r.source, r.ref, own)
	}
	if err != nil {
		w.signer, w.err = err, err
		return w
	}
	if delegates {
		builder.BuildTypes = []string{trust.BuildTypeDelegated}
	}
	w.proof.score += 100
	if b.Statement == nil {
		w.err = errOnlySignature
		return w
	}
	w.prov, w.err = c.workflowProvenance(b.Statement, r, builder)
	return w
}

// bySomeRoot looks for a root that all of the bundle verifies under.
func (w *workflowSigned) bySomeRoot(c *check, b *attest.Signed, subject Subject) error {
	var first error
	for _, r := range c.plainRoots() {
		var err error
		if b.Statement != nil {
			err = aboutDigest(b.Statement, subject.Digest)
		}
		switch {
		case err != nil:
		case b.Promised != nil:
			w.signed, err = judgePromised(b, subject, r.Material, c.opts.Now)
		default:
			w.signed, err = judgeSigned(b, subject, Signer{}, r.Material, c.opts.Now)
		}
		if err == nil {
			w.proof.root = r
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// cosign2 judges what cosign v2 attached under the tag sha256-HEX.att.
func (c *check) cosign2(ctx context.Context, digest v1.Hash, ev *evidence) {
	if len(c.plainRoots()) == 0 {
		return
	}
	missing := func(err error) {
		ev.candidates = append(ev.candidates, &candidate{err: err, missing: true})
	}
	tag := digest.Algorithm + "-" + digest.Hex + ".att"
	d, err := c.src.Resolve(ctx, tag)
	if errors.Is(err, oci.ErrNotFound) {
		return
	} else if err != nil {
		missing(err)
		return
	}
	raw, _, err := c.src.Manifest(ctx, d.Digest)
	if err != nil {
		missing(err)
		return
	}
	var m v1.Manifest
	if err := unmarshal(raw, &m); err != nil {
		return // nothing that could be an attestation
	}
	layers := m.Layers
	if n := len(layers); n > limits.Referrers {
		ev.skipped += n - limits.Referrers
		layers = layers[:limits.Referrers]
	}
	for _, l := range layers {
		if l.MediaType != attest.EnvelopeMediaType {
			continue
		}
		envelope, err := readEnvelope(ctx, c.src, l)
		if err != nil {
			missing(fmt.Errorf("attestation %s: %w", l.Digest, err))
			continue
		}
		if b, err := attest.ParseCosign2(envelope, l.Annotations); err == nil && namesBuilder(b) {
			w := c.judgeWorkflow(b, Subject{Digest: digest})
			w.at = l.Digest.String()
			ev.workflows = append(ev.workflows, w)
		}
	}
}

// bestWorkflow is the candidate that passed everything, or came furthest.
func bestWorkflow(all []*workflowSigned) *workflowSigned {
	var best *workflowSigned
	for _, w := range all {
		if best == nil || w.score() > best.score() {
			best = w
		}
	}
	return best
}

// workflowLinks are the links of a chain that a workflow signed. Its
// provenance is the one thing signed, so that three links are of one bundle.
func (c *check) workflowLinks(ev *evidence) (links []Link, best *workflowSigned) {
	best = bestWorkflow(ev.workflows)
	signature, log, prov := Link{Name: LinkSignature}, Link{Name: LinkLog}, Link{Name: LinkProvenance}
	if best.signature != nil || best.signer != nil {
		signature.Status, signature.Reason = Broken, best.err.Error()
		prov.Status, prov.Reason = Unknown, "there is no good signature over it"
	} else {
		signature.Status = Holds
	}
	if best.signature != nil {
		log.Status, log.Reason = Unknown, "not told apart from the signature"
	} else {
		signature.Claim = fmt.Sprintf("%s, certified %s", best.proof.identity.SubjectAlternativeName, show(best.proof.certified))
		log.Status, log.Claim = Holds, c.loggedClaim(best)
	}
	if best.prov != nil {
		best.prov.built.signed = signature.Claim + "; " + log.Claim
	}
	switch {
	case best.good() && best.prov != nil:
		prov.Status, prov.Claim = Holds, best.prov.claim()
	case best.signature == nil && best.signer == nil:
		prov.Status, prov.Reason = Broken, best.err.Error()
	}
	if !best.good() {
		// One that was not read might have been the good one.
		if l := ev.unread(); l != nil {
			for _, link := range []*Link{&signature, &log, &prov} {
				if link.Status != Holds {
					link.Status, link.Reason = Unknown, l.Error()
				}
			}
		}
	}
	return []Link{signature, log, prov}, best
}

func (c *check) loggedClaim(w *workflowSigned) string {
	at := show(w.signed.Times[0])
	if w.signed.Index < 0 {
		return "signed " + at + "; the trust root keeps no log"
	}
	return fmt.Sprintf("entry %d, signed %s", w.signed.Index, at)
}

// unread says why there may be evidence that nobody looked at.
func (ev *evidence) unread() error {
	if ev.err != nil {
		return ev.err
	}
	for _, c := range ev.candidates {
		if c != nil && c.missing {
			return c.err
		}
	}
	if ev.skipped > 0 {
		return fmt.Errorf("%d more attestations were not looked at", ev.skipped)
	}
	return nil
}
