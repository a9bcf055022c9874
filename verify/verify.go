package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// Options are what a verdict depends on besides the evidence.
type Options struct {
	Trust       []*trust.Root // whom to believe; each bundle must verify whole under one of them
	Policy      policy.Policy // what to demand; must pass its Check
	Now         time.Time     // no timestamp may lie after it; required
	SourceCheck SourceCheck   // asks the repository; nil: not asked
	Bundles     [][]byte      // evidence that the caller brings, beside what is attached to the image
	Layout      bool          // src is a layout and no registry; only changes words
}

// SourceCheck asks a repository, as source.Lookup does. It may add Signers to
// the question: where the answer then has a signature that is not verified, the
// link is broken. An error means that the repository could not be asked.
type SourceCheck func(ctx context.Context, q source.Question) (source.Standing, error)

// check is one verification under way.
type check struct {
	src   oci.Source
	opts  Options
	about string // what the proofs are to be about: "index", "manifest", "file"

	proven *candidate // the provenance that came furthest, once it has been looked for
}

// Image answers whether the image that reference (a tag or digest of src)
// names proves where it came from. It always returns a verdict; whatever could
// not be had leaves it undecided, whatever is wrong gets it rejected.
func Image(ctx context.Context, src oci.Source, reference string, opts Options) *Verdict {
	c := &check{src: src, opts: opts}
	sep := ":"
	if strings.Contains(reference, ":") {
		sep = "@"
	}
	v := &Verdict{Image: src.Name() + sep + reference, Dangers: opts.Policy.Dangers()}
	if err := c.ready(); err != nil {
		v.add(Link{Name: LinkImage, Status: Unknown, Reason: err.Error()})
		return v
	}
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		l := Link{Name: LinkImage, Status: Unknown, Reason: err.Error()}
		switch {
		case errors.Is(err, oci.ErrMismatch):
			l.Status = Broken
		case errors.Is(err, oci.ErrNotFound) && !c.opts.Layout:
			// A registry that denies what it holds proves nothing about the image.
			l.Reason, v.Hint = c.nowhere(reference)
		}
		v.add(l)
		v.conclude(opts.Policy, true)
		return v
	}
	c.resolved(ctx, v, d)
	return v
}

// resolved is Image from where the digest is known.
func (c *check) resolved(ctx context.Context, v *Verdict, d v1.Descriptor) {
	v.Digest = d.Digest.String()
	c.about = aboutOf(d)
	switch c.opts.Policy.Origin.(type) {
	case policy.SummaryOnly:
		c.summarised(ctx, v, d.Digest)
	case policy.SignerProvenance, policy.SignatureOnly:
		c.namedImage(ctx, v, d.Digest)
	default:
		c.chain(ctx, v, d.Digest)
	}
	resource := ""
	if !c.opts.Layout {
		resource = attest.ImageURI(c.src.Name())
	}
	look := func(w wanted) *search { return c.look(ctx, d.Digest, w) }
	c.attested(v, look)
	c.summarise(v, resource, look)
	v.Unsigned = Claims(ctx, c.src, d.Digest, false)
}

// chain is Image for what platforms and public builders made.
func (c *check) chain(ctx context.Context, v *Verdict, digest v1.Hash) {
	image := make(chan Link, 1)
	go func() { image <- c.image(ctx, digest) }()
	ev := c.gather(ctx, digest)
	prov := ev.best(attest.PredicateSLSA1, nil)
	if len(ev.workflows) > 0 && !prov.good() {
		links, best := c.workflowLinks(ev)
		v.add(<-image)
		for _, l := range append(links, c.sourceLink(ctx, &best.candidate), Link{Name: LinkSBOM, Status: NotAsked, Reason: "workflows attach none of their own"}) {
			v.add(l)
		}
		c.proven = &best.candidate
		c.require(v)
		v.conclude(c.opts.Policy, c.opts.Policy.SBOM() == policy.SBOMContents)
		return
	}
	var signer *proof
	if prov.good() {
		signer = prov.proof
	}
	sig := ev.best(attest.PredicateSign, signer)
	signature, log := c.signatureLinks(ev, sig)
	provenance := c.provenanceLink(ev, prov)
	source := c.sourceLink(ctx, prov)
	sbom := c.sbomLink(ctx, digest, ev, signer, prov)
	for _, l := range []Link{<-image, signature, log, provenance, source, sbom} {
		v.add(l)
	}
	c.proven = prov
	c.require(v)
	v.conclude(c.opts.Policy, c.opts.Policy.SBOM() != policy.SBOMOptional)
	v.hint(ev, c)
}

// require fills in which requirements of SLSA the best provenance meets, once
// its link is there.
func (c *check) require(v *Verdict) {
	best := c.proven
	if best == nil || best.prov == nil {
		for _, l := range v.Links {
			if l.Name == LinkProvenance && l.Status != NotAsked {
				v.Requirements = noBuild(l)
			}
		}
		return
	}
	b := best.prov.built
	b.provenance = fmt.Sprintf("%s about the %s %s", best.kind, c.about, v.Digest)
	if best.at != "" {
		b.provenance = best.at + ", " + b.provenance
	}
	v.Requirements = b.requirements()
	v.Level = BuildLevel(v.Requirements)
}

func (c *check) ready() error {
	switch {
	case len(c.opts.Trust) == 0 && !c.opts.Policy.WithoutRoots():
		return trust.ErrEmpty
	case c.opts.Now.IsZero():
		return errors.New("the time of verification is not set")
	}
	if c.opts.Policy.FreshTrust {
		if err := c.dropStale(); err != nil {
			return err
		}
	}
	return c.opts.Policy.Check()
}

// dropStale leaves out trust roots that may have been withdrawn.
func (c *check) dropStale() error {
	var fresh []*trust.Root
	stale := ""
	for _, r := range c.opts.Trust {
		if r.Stale(c.opts.Now) {
			stale = r.Repository.URL
			continue
		}
		fresh = append(fresh, r)
	}
	if c.opts.Trust = fresh; len(fresh) == 0 {
		return fmt.Errorf("the policy demands fresh trust roots, and the one from %s is stale", stale)
	}
	return nil
}

// nowhere words a reference that the registry says it does not have.
func (c *check) nowhere(reference string) (reason, hint string) {
	what := fmt.Sprintf("tag %q", reference)
	if strings.Contains(reference, ":") {
		what = reference
	}
	return fmt.Sprintf("the registry says that %s has no %s", c.src.Name(), what),
		"is the name right, and the release finished? Tags appear last. Some registries answer so where credentials are missing"
}

// good says that a candidate passed everything.
func (c *candidate) good() bool { return c != nil && c.proof != nil && c.err == nil }

// best returns the candidate of a kind that passed everything, or else the one
// that came furthest, or nil. With a signer, it must be the signer of both.
func (ev *evidence) best(kind string, signer *proof) *candidate {
	var best *candidate
	for _, c := range ev.candidates {
		// A candidate that was never read may be of any kind.
		if c == nil || c.kind != kind && c.kind != "" {
			continue
		}
		if c.good() && signer != nil && !sameSigner(c.proof, signer) {
			other := *c
			other.err = fmt.Errorf("signer: got %q, want that of the provenance, %q", c.proof.identity.SubjectAlternativeName, signer.identity.SubjectAlternativeName)
			c = &other
		}
		if best == nil || c.score() > best.score() {
			best = c
		}
	}
	return best
}

func sameSigner(a, b *proof) bool {
	return a.root == b.root && a.identity.SubjectAlternativeName == b.identity.SubjectAlternativeName && a.identity.Issuer == b.identity.Issuer
}

// lacking words the absence of a good candidate: unknown as long as one that
// could not be fetched might have been it.
func (ev *evidence) lacking(name, kind, what string, best *candidate) Link {
	l := Link{Name: name, Status: Broken}
	var unread error
	for _, c := range ev.candidates {
		if c != nil && c.missing && (c.kind == kind || c.kind == "") {
			unread = c.err
		}
	}
	switch {
	case ev.err != nil:
		l.Status, l.Reason = Unknown, ev.err.Error()
	case unread != nil:
		l.Status, l.Reason = Unknown, unread.Error()
	case ev.skipped > 0:
		l.Status, l.Reason = Unknown, fmt.Sprintf("none among the first %d referrers, and %d more were not looked at", len(ev.candidates), ev.skipped)
	case best != nil:
		l.Reason = best.err.Error()
	default:
		l.Status, l.Reason = Absent, "the image carries no "+what
	}
	return l
}

func (c *check) signatureLinks(ev *evidence, best *candidate) (signature, log Link) {
	if best.good() {
		p := best.proof
		return Link{Name: LinkSignature, Status: Holds, Claim: fmt.Sprintf("%s, certified %s", p.identity.SubjectAlternativeName, show(p.certified))},
			Link{Name: LinkLog, Status: Holds, Claim: fmt.Sprintf("entry %d, checkpoint %d, timestamp within the certificate", p.index, p.size)}
	}
	signature = ev.lacking(LinkSignature, attest.PredicateSign, "signature", best)
	log = Link{Name: LinkLog, Status: signature.Status, Reason: "there is no signature to look up"}
	if signature.Status != Broken || best.proof == nil || best.proof.root == nil {
		return signature, log
	}
	// The bundle was read: say of each link what is wrong with it.
	p := best.proof
	log.Status, log.Reason = Holds, ""
	log.Claim = fmt.Sprintf("entry %d, checkpoint %d", p.index, p.size)
	if p.log != nil {
		log = Link{Name: LinkLog, Status: Broken, Reason: p.log.Error()}
		if p.unjudgable {
			signature = Link{Name: LinkSignature, Status: Unknown, Reason: p.signature.Error()}
		} else if p.signature == nil {
			signature = Link{Name: LinkSignature, Status: Holds, Claim: p.identity.SubjectAlternativeName + ", certified " + show(p.certified)}
		} else {
			signature.Reason = p.signature.Error()
		}
	}
	return signature, log
}

func (c *check) provenanceLink(ev *evidence, best *candidate) Link {
	if best.good() && best.prov != nil {
		return Link{Name: LinkProvenance, Status: Holds, Claim: best.prov.claim()}
	}
	return ev.lacking(LinkProvenance, attest.PredicateSLSA1, "provenance", best)
}

// sourceLink asks the repository. That it cannot be reached keeps nobody from
// accepting the image, unless the policy says so: the signed record stands.
func (c *check) sourceLink(ctx context.Context, best *candidate) Link {
	l := Link{Name: LinkSource, Status: NotAsked, Reason: "the repository was not asked"}
	if c.opts.SourceCheck == nil {
		return l
	}
	if !best.good() || best.prov == nil {
		l.Reason = "no provenance was found to hold that says where to ask"
		return l
	}
	p := best.prov
	now, err := c.opts.SourceCheck(ctx, source.Question{URI: p.uri, Ref: p.ref, Commit: p.commit, Tree: p.tree})
	if err != nil {
		l.Status, l.Reason = Unknown, fmt.Sprintf("%s could not be asked: %v", p.uri, err)
		if !c.opts.Policy.Provenance().RequireSource {
			l.Reason += "; this alone does not refuse the image"
		}
		return l
	}
	l.Status, l.Reason, l.Claim = Holds, "", now.String()
	signed := p.signed
	switch s := now.Signature; {
	case !now.Holds():
		l.Status, l.Reason = Broken, fmt.Sprintf("%s, %s: %s", p.uri, p.named(), now)
	case p.tree != "" && now.Tree != p.tree:
		l.Status, l.Reason = Broken, fmt.Sprintf("tree of commit %s: got %q in %s, the provenance says %q", p.commit, now.Tree, p.uri, p.tree)
	case s.Status == source.Verified:
		signed = fmt.Sprintf("%s signed by %s, which was checked here", s.Object, s.Signer)
	case s.Status != "":
		l.Status, l.Reason = Broken, fmt.Sprintf("signature of %s in %s: got %q, want one of a signer that was named", p.named(), p.uri, s.Status)
		if s.Reason != "" {
			l.Reason += ": " + s.Reason
		}
	}
	switch {
	case l.Status == Broken:
		l.Claim = ""
	case signed != "":
		l.Claim += "; " + signed
	}
	return l
}

// add appends a link. Much of a reason comes from outside, and goes to
// terminals: one line, no control characters, bounded.
func (v *Verdict) add(l Link) {
	l.Claim, l.Reason = plain(l.Claim), plain(l.Reason)
	v.Links = append(v.Links, l)
}

func plain(s string) string {
	s = strings.ReplaceAll(s, "\n", "; ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > 2000 {
		s = strings.ToValidUTF8(s[:2000], "") + "…"
	}
	return s
}

// conclude sets the outcome of an image, of which an SBOM may be demanded.
func (v *Verdict) conclude(p policy.Policy, sbom bool) {
	v.demand(map[string]bool{LinkImage: true, LinkSignature: true, LinkLog: true, LinkProvenance: true, LinkSBOM: sbom, LinkSource: p.Provenance().RequireSource})
}

// demand sets the outcome. Accepted is only what each required link earned.
func (v *Verdict) demand(required map[string]bool) {
	holds := make(map[string]bool)
	for _, l := range v.Links {
		holds[l.Name] = l.Status == Holds
		if l.Status == Broken || l.Status == Absent && required[l.Name] {
			v.Outcome = Rejected
			return
		}
	}
	for name, needed := range required {
		if needed && !holds[name] {
			v.Outcome = Undecided
			return
		}
	}
	v.Outcome = Accepted
}

// Why is the first link that kept the image from being accepted, and its
// reason; empty for an accepted image.
func (v *Verdict) Why() string {
	if v.Outcome == Accepted {
		return ""
	}
	for _, status := range [][2]Status{{Broken, Absent}, {Unknown, NotAsked}} {
		for _, l := range v.Links {
			if l.Status == status[0] || l.Status == status[1] {
				return l.Name + ": " + l.Reason
			}
		}
	}
	return "nothing was verified"
}

func (v *Verdict) hint(ev *evidence, c *check) {
	bundles, unknown := 0, 0
	for _, cand := range ev.candidates {
		if cand != nil && cand.proof != nil {
			bundles++
			if cand.err != nil && cand.proof.score <= 1 && cand.proof.root != nil {
				unknown++
			}
		}
	}
	switch {
	case v.Outcome == Accepted || ev.err != nil:
	case bundles == 0:
		v.Hint = "nothing that proves its origin is attached to this image; release it with `colophon release`"
	case bundles == unknown:
		v.Hint = "nobody that this machine believes signed it; see `colophon trust list`"
	}
}
