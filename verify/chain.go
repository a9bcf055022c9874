package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

// sets returns the sets that the verdict could rest on by the policy's Origin, best
// first: complete sets before others, then those of platforms before others. It
// returns at least one.
func (c *check) sets(ev *evidence) (sets []set) {
	var failed []set
	add := func(s set) {
		if s.provenance.holds() {
			sets = append(sets, s)
		} else {
			failed = append(failed, s)
		}
	}
	switch c.opts.Policy.Origin.(type) {
	case policy.BuilderProvenance:
		for _, r := range ev.refs(ofPlatform, ofKind(attest.PredicateSLSA1), nil) {
			if r.holds() {
				add(c.platformSet(ev, r))
			}
		}
		for _, r := range ev.refs(ofPlatformFile, ofKind(attest.PredicateSLSA1), nil) {
			if r.holds() {
				add(set{rules: ofPlatformFile, provenance: r})
			}
		}
		public := ev.refs(ofPublic, anything, nil)
		for _, r := range public {
			add(set{rules: ofPublic, provenance: r})
		}
		switch {
		case len(public) > 0 || len(sets) > 0:
		case c.about == aboutFile:
			failed = append(failed, set{rules: ofPlatformFile, provenance: missing(ev)})
		default:
			failed = append(failed, c.platformSet(ev, best(ev.refs(ofPlatform, ofKind(attest.PredicateSLSA1), nil))))
		}
	case policy.SignerProvenance:
		for _, r := range ev.refs(ofNamed, isProvenance, nil) {
			add(set{rules: ofNamed, provenance: r})
		}
	case policy.SignatureOnly:
		takes := func(it *item) bool { return it.signature }
		return []set{{rules: ofNamed, signature: c.best(ev.refs(ofNamed, takes, nil))}}
	}
	if len(sets) == 0 {
		// No provenance holds: the one that passed most checks says why.
		slices.SortStableFunc(failed, func(a, b set) int { return b.provenance.passed() - a.provenance.passed() })
		return append(failed, set{rules: ofNamed})[:1]
	}
	slices.SortStableFunc(sets, func(a, b set) int { return c.lacks(a) - c.lacks(b) })
	return sets
}

// missing returns what stands for the provenance of a file that has none which holds: one that
// does not hold, or else another statement, with the error that it is none.
func missing(ev *evidence) ref {
	if r := best(ev.refs(ofPlatformFile, ofKind(attest.PredicateSLSA1), nil)); r.item != nil {
		return r
	}
	r := best(ev.refs(ofPlatformFile, anything, nil))
	if r.holds() {
		r.err = fmt.Errorf("predicate type: got %q, want %q", r.item.kind, attest.PredicateSLSA1)
	}
	return r
}

// platformSet returns the set of a provenance and what its signer signed for the
// same build.
func (c *check) platformSet(ev *evidence, provenance ref) set {
	s := set{rules: ofPlatform, provenance: provenance}
	var beside *proof
	if provenance.holds() {
		beside = provenance.proof
	}
	s.signature = c.best(ev.refs(ofPlatform, ofKind(attest.PredicateSign), beside))
	s.spdx = c.best(ev.refs(ofPlatform, inFormat(attest.PredicateSPDX), beside))
	s.cdx = c.best(ev.refs(ofPlatform, inFormat(attest.PredicateCDX), beside))
	return s
}

// lacks counts what the policy demands and the set does not have.
func (c *check) lacks(s set) (n int) {
	demanded := []ref{s.provenance}
	if s.rules == ofPlatform {
		demanded = append(demanded, s.signature)
	}
	if c.demandsSBOM(s) {
		demanded = append(demanded, s.spdx, s.cdx)
	}
	for _, r := range demanded {
		if !r.holds() {
			n++
		}
	}
	return n + c.unwitnessed(s)
}

// demandsSBOM reports whether a set needs SBOMs. Only platforms attach any, so of
// other builders they are demanded only if the policy compares the contents.
func (c *check) demandsSBOM(s set) bool {
	switch c.opts.Policy.SBOM() {
	case policy.SBOMContents:
		return true
	case policy.SBOMRequired:
		return s.rules == ofPlatform
	}
	return false
}

// maxAsked is the maximum number of questions to repositories about one subject.
const maxAsked = 8

// choose returns the set that the verdict rests on, and its source link: the first
// set that lacks nothing and that its repository does not contradict.
func (c *check) choose(ctx context.Context, sets []set) (set, Link) {
	first := c.sourceLink(ctx, sets[0])
	for _, s := range sets[1:min(len(sets), maxAsked)] {
		if first.Status != Broken || c.lacks(s) > 0 {
			break
		}
		if l := c.sourceLink(ctx, s); l.Status != Broken {
			return s, l
		}
	}
	return sets[0], first
}

// chain adds the links of the policy's Origin to v, and sets the outcome that
// follows from all links of v. image is nil for a file, which has fewer links.
func (c *check) chain(ctx context.Context, v *Verdict, ev *evidence, image *v1.Hash) set {
	s, source := c.choose(ctx, c.sets(ev))
	required := map[string]bool{LinkImage: image != nil, LinkFile: image == nil, LinkSignature: true, LinkLog: !withoutLog(c.opts.Policy.Signer())}
	links := c.proofLinks(ev, s)
	if _, only := c.opts.Policy.Origin.(policy.SignatureOnly); !only {
		required[LinkProvenance], required[LinkSource] = true, c.opts.Policy.Provenance().RequireSource
		links = append(links, source)
		if required[LinkTrack] = demandsTrack(c.opts.Policy); required[LinkTrack] {
			links = append(links, c.trackLink(ctx, ev, s))
		}
	}
	if image != nil {
		required[LinkSBOM] = c.demandsSBOM(s)
		links = append(links, c.sbomLink(ctx, *image, ev, s))
	}
	onceUntrusted(links)
	for _, l := range links {
		v.add(l)
	}
	c.fillRequirements(v, s)
	v.decide(required)
	v.Facts = c.factsOf(s)
	return s
}

// proofLinks returns the links of signature, log and provenance.
func (c *check) proofLinks(ev *evidence, s set) []Link {
	signature, log := c.signatureLinks(ev, s)
	if _, only := c.opts.Policy.Origin.(policy.SignatureOnly); only {
		return []Link{signature, log, {Name: LinkProvenance, Status: NotAsked, Reason: "the policy demands only a signer"}}
	}
	return []Link{signature, log, c.provenanceLink(ev, s)}
}

// takes selects the items that could have the signature of a set; what is their
// name for people.
func (c *check) takes(s set) (takes func(*item) bool, what string) {
	_, only := c.opts.Policy.Origin.(policy.SignatureOnly)
	if only || s.rules == ofPlatform {
		return func(it *item) bool { return it.signature || it.kind == attest.PredicateSign }, "signature"
	}
	return isProvenance, "provenance"
}

func (c *check) signatureLinks(ev *evidence, s set) (signature, log Link) {
	r := s.signed()
	takes, what := c.takes(s)
	p := r.proof
	if p == nil || !r.holds() && ev.unread(takes) != nil {
		signature = ev.lacking(LinkSignature, takes, what, r)
		return signature, Link{Name: LinkLog, Status: signature.Status, Reason: "there is no signature to look up"}
	}
	signature = Link{Name: LinkSignature, Status: Holds, Claim: c.signatureClaim(p)}
	log = c.addWitnesses(c.logLink(p), s)
	// What the statement says belongs to another link.
	fault := p.Signature
	if fault == nil {
		fault = p.signer
	}
	if fault == nil && p.Result.Err() == nil && p.says == nil {
		fault = r.err // another release
	}
	switch {
	case fault == nil:
	case p.Undecidable:
		signature = failed(LinkSignature, Unknown, fault)
	default:
		signature = failed(LinkSignature, Broken, fault)
	}
	return signature, log
}

func (c *check) logLink(p *proof) Link {
	l := Link{Name: LinkLog, Status: Holds}
	switch {
	case p.Log != nil:
		return failed(LinkLog, Broken, p.Log)
	case p.rules == ofPlatform || p.rules == ofPlatformFile:
		l.Claim = fmt.Sprintf("entry %d, checkpoint %d", p.Index, p.TreeSize)
		if p.Signature == nil {
			l.Claim += ", timestamp within the certificate"
		}
		return l
	case p.Index >= 0:
		l.Claim = fmt.Sprintf("entry %d", p.Index)
	case p.rules == ofNamed && withoutLog(c.opts.Policy.Signer()):
		return Link{Name: LinkLog, Status: NotAsked, Reason: "dangerous: the policy accepts this signature without a log entry"}
	default:
		l.Claim = "the trust root has no transparency log"
	}
	if len(p.Times) > 0 {
		l.Claim += ", signed " + trust.FormatTime(p.Times[0])
	}
	return l
}

func (c *check) provenanceLink(ev *evidence, s set) Link {
	r := s.provenance
	switch {
	case r.holds() && r.proof.build != nil:
		return Link{Name: LinkProvenance, Status: Holds, Claim: r.proof.build.claim()}
	case s.rules == ofPlatform:
		return ev.lacking(LinkProvenance, ofKind(attest.PredicateSLSA1), "provenance", r)
	case ev.unread(isProvenance) != nil:
		return failed(LinkProvenance, Unknown, ev.unread(isProvenance))
	case r.proof != nil && r.proof.Err() == nil && r.proof.signer == nil:
		return failed(LinkProvenance, Broken, r.err)
	}
	return Link{Name: LinkProvenance, Status: Unknown, Reason: "its signature does not hold"}
}

// claim returns the provenance in one line, for people.
func (b *build) claim() string {
	ref := b.Ref
	switch {
	case ref == "" && b.Within != "":
		ref = "no ref, contained in " + b.Within
	case ref == "":
		ref = "no ref"
	}
	level := "no Build level"
	if l := b.level(); l > 0 {
		level = fmt.Sprintf("Build L%d", l)
	}
	commit := b.Commit
	if len(commit) > 7 {
		commit = commit[:7]
	}
	return fmt.Sprintf("built from %s@%s, %s; %s%s", strings.TrimPrefix(b.Source, "https://"), commit, ref, level, b.recipeClaim())
}

// recipeClaim returns, for people, in what the recipe is not that of the Dockerfile or
// main package at the top of the source, and who chose it.
func (b *build) recipeClaim() (claim string) {
	if b.Recipe == nil {
		return ""
	}
	byDefault := attest.Recipe{}
	if d := b.Default; d != nil {
		byDefault = d.Recipe
		if declared := d.Recipe.Differences(attest.Recipe{Builder: d.Recipe.Builder}); d.File != "" && len(declared) > 0 {
			claim += "; " + d.File + " of the commit says " + strings.Join(declared, ", ")
		}
	}
	chosen := b.Recipe.Differences(byDefault)
	if b.Lock != "" && !b.Hermetic {
		chosen = append(chosen, "lock "+b.Lock)
	}
	if len(chosen) > 0 {
		claim += "; the requester chose " + strings.Join(chosen, ", ")
	}
	return claim
}

// hint sets what to do about an image that was not accepted.
func (v *Verdict) hint(ev *evidence) {
	signed, untrusted, unread := 0, 0, false
	for _, it := range ev.items {
		unread = unread || it.unread
		if len(it.proofs) == 0 {
			continue
		}
		signed++
		// The signature is good, and no trust root knows its certificate.
		if !slices.ContainsFunc(it.proofs, func(p *proof) bool { return p.Passed > 1 || p.Result.Err() == nil }) {
			untrusted++
		}
	}
	switch {
	case v.Outcome == Accepted || ev.err != nil:
	case slices.ContainsFunc(ev.items, (*item).chosen):
		v.Hint = "if that is the recipe that you expect, say so (--context, --dockerfile, --target, --build-arg, --package, --locked; in a policy: recipe), or declare it in .colophon.yaml of the repository"
	case signed == 0 && unread: // it is not known what is attached
	case signed == 0:
		v.Hint = "nothing that proves its origin is attached to this image; release it with `colophon release`"
	case signed == untrusted && !v.has(CauseUntrusted):
		v.Hint = "it is signed, but by nobody whom this machine trusts; see `colophon trust list`"
	}
}

// has reports whether a link has a cause of this kind.
func (v *Verdict) has(kind CauseKind) bool {
	return slices.ContainsFunc(v.Links, func(l Link) bool { return l.Cause.Kind == kind })
}

// chosen reports whether the item is a provenance that is refused only because of what
// the requester of the build chose.
func (it *item) chosen() bool {
	return slices.ContainsFunc(it.proofs, func(p *proof) bool {
		_, chosen := errors.AsType[*policy.ChosenError](p.says)
		return chosen
	})
}

// fillRequirements sets which requirements of SLSA the provenance of a set meets. The
// links of the set must be in v already.
func (c *check) fillRequirements(v *Verdict, s set) {
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
	v.Requirements = plainEvidence(b.Facts.Requirements(b.evidence))
	v.Level = provenance.BuildLevel(v.Requirements)
}

// plainEvidence makes the texts of requirements safe for a terminal.
func plainEvidence(rs []provenance.Requirement) []provenance.Requirement {
	for i := range rs {
		rs[i].Evidence = plain(rs[i].Evidence)
	}
	return rs
}

// subject returns what the proofs must be about, and the evidence about it. That is the
// image d itself, unless d is an index about which nothing is proved, and which leads to
// one manifest that somebody signed: `docker buildx imagetools create` wraps a manifest
// in an index of another digest. Signed evidence about the index, good or bad, is never
// passed over, and neither is evidence that could not be read. If something is attached to
// the index that may be what must be absent, that is not known about the manifest either.
func (c *check) subject(ctx context.Context, d v1.Descriptor) (v1.Descriptor, *evidence) {
	c.about = aboutOf(d)
	ev := c.gather(ctx, d.Digest)
	if c.opts.Whole || ev.unread(anything) != nil || slices.ContainsFunc(ev.items, (*item).proves) || len(ev.notation) > 0 {
		return d, ev
	}
	inner, err := recall(c, c.known, onlyKey{}, func() (*v1.Descriptor, error) {
		inner, ok, err := c.only(ctx, d)
		if !ok {
			return nil, err
		}
		return &inner, err
	})
	switch {
	case err != nil:
		return d, &evidence{err: err}
	case inner == nil:
		return d, ev
	}
	c.about = aboutManifest
	about := c.gather(ctx, inner.Digest)
	if about.err == nil && !slices.ContainsFunc(about.items, (*item).signed) && len(about.notation) == 0 {
		c.about = aboutOf(d)
		return d, ev
	}
	for i, a := range c.opts.Policy.Absent {
		_, unsure := ev.carries(i, a)
		about.beside = cmp.Or(about.beside, unsure)
	}
	return *inner, about
}

// signed reports whether the item was parsed as something signed.
func (it *item) signed() bool { return len(it.proofs)+len(it.anyone) > 0 }

// proves reports whether the item has a signature about the subject that holds under a
// trust root or key.
func (it *item) proves() bool {
	holds := func(p *proof) bool { return p.Result.Err() == nil }
	return slices.ContainsFunc(it.proofs, holds) || slices.ContainsFunc(it.anyone, holds) || slices.ContainsFunc(it.forbids, holds)
}

// only returns the manifest that everybody gets who runs index d, on the platform that
// was asked for if there was one. ok is false if two could be meant. Without a platform,
// everything else in the index must be an attachment that no tool can run. An error means
// that the source did not answer.
func (c *check) only(ctx context.Context, d v1.Descriptor) (inner v1.Descriptor, ok bool, err error) {
	if !d.MediaType.IsIndex() {
		return inner, false, nil
	}
	raw, _, err := c.src.Manifest(ctx, d.Digest)
	if err != nil {
		return inner, false, unanswered(err)
	}
	entries, _, err := selected(d.Digest, raw, c.opts.Platform)
	if err != nil {
		return inner, false, nil // the image link says what is wrong
	}
	found := 0
	for _, e := range entries {
		if entryName(e) == attachmentPlatform {
			err := oci.CheckAttachment(ctx, c.src, e)
			if err == nil {
				continue
			}
			if err := unanswered(err); err != nil {
				return inner, false, err
			}
		}
		inner = e
		found++
	}
	if found != 1 || entryName(inner) == attachmentPlatform || len(inner.URLs) > 0 || len(inner.Data) > 0 {
		return inner, false, nil
	}
	manifest, mediaType, err := c.src.Manifest(ctx, inner.Digest)
	if err != nil {
		return inner, false, unanswered(err)
	}
	return inner, inner.MediaType.IsImage() && mediaType == string(inner.MediaType) && int64(len(manifest)) == inner.Size, nil
}

// unanswered returns err unless it is an answer: that the content is wrong or not there.
func unanswered(err error) error {
	if permanent(err) {
		return nil
	}
	return err
}

// inside completes a verdict whose proofs are about the manifest inner in the index d.
func (c *check) inside(v *Verdict, image *Link, d, inner v1.Descriptor) {
	if inner.Digest == d.Digest {
		return
	}
	v.Digest, v.Index = inner.Digest.String(), d.Digest.String()
	c.read = reading{platforms: c.read.platforms}
	if image.Status != Holds {
		return
	}
	if c.opts.Platform != nil {
		image.Claim += fmt.Sprintf("; the proofs are about this manifest, and not about the index %s that has it", d.Digest)
		return
	}
	image.Claim += fmt.Sprintf("; the index %s wraps this manifest, and adds nothing that can be run", d.Digest)
}

// maxChildren is the maximum number of manifests of an index that are searched for
// something attached, to say where it is.
const maxChildren = 16

// hintElsewhere says where evidence is, if it is missing where the image was expected to
// have it.
func (c *check) hintElsewhere(ctx context.Context, v *Verdict, reference string, d v1.Descriptor, ev *evidence) {
	absent := func(l Link) bool { return l.Status == Absent && l.Name != LinkImage }
	if v.Outcome != Rejected || ev.err != nil || !slices.ContainsFunc(v.Links, absent) {
		return
	}
	var hints []string
	if without, ok := c.src.(interface{ WithoutReferrersAPI() string }); ok && without.WithoutReferrersAPI() != "" {
		hints = append(hints, plain(without.WithoutReferrersAPI())+"; proofs were looked for under tags alone")
	}
	switch {
	case d.MediaType.IsIndex():
		at, _ := recall(c, c.known, childrenKey(len(c.cosignTags())), func() ([]string, error) { return c.attachedToChildren(ctx, d), nil })
		if len(at) > 0 {
			hints = append(hints, "something is attached to "+strings.Join(at, ", ")+", and proves that platform alone: verify it with --platform, or by its digest")
		}
	case strings.Contains(reference, ":") && !slices.ContainsFunc(ev.items, (*item).signed): // asked for by digest
		hints = append(hints, "if this is one platform of an image, verify the image's index, with --platform")
	}
	if v.Hint != "" {
		hints = append([]string{v.Hint}, hints...)
	}
	v.Hint = strings.Join(hints, ". ")
}

// attachedToChildren returns, for people, the manifests of index d to which something is
// attached.
func (c *check) attachedToChildren(ctx context.Context, d v1.Descriptor) (at []string) {
	raw, _, err := c.src.Manifest(ctx, d.Digest)
	if err != nil {
		return nil
	}
	entries, _, err := selected(d.Digest, raw, c.opts.Platform)
	if err != nil {
		return nil
	}
	for _, e := range entries[:min(len(entries), maxChildren)] {
		if entryName(e) == attachmentPlatform {
			continue
		}
		list, err := c.src.Referrers(ctx, e.Digest)
		found := err == nil && len(list) > 0
		for _, tag := range c.cosignTags() {
			_, err := c.src.Resolve(ctx, tag.Of(e.Digest))
			found = found || err == nil
		}
		if found {
			at = append(at, entryName(e)+" ("+e.Digest.String()+")")
		}
	}
	return at
}

// hintSpelling says how the source is spelled in a certificate that is trusted, if the
// host takes the spelling demanded for the same.
func (c *check) hintSpelling(v *Verdict, ev *evidence) {
	if v.Outcome != Rejected {
		return
	}
	for _, it := range ev.items {
		for _, p := range it.proofs {
			if uri := p.Identity.SourceRepositoryURI; p.Result.Err() == nil && c.opts.Policy.Provenance().Source.Misspells(uri) {
				v.Hint = fmt.Sprintf("it was built from %s: write the source as its builder does, if that is the one that you mean", plain(uri))
				return
			}
		}
	}
}
