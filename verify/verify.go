package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
)

// Image verifies an image at the time now. reference is a tag of src or a digest,
// "sha256:HEX". Image always returns a verdict: rejected if something is wrong or
// missing, undecided if something that is demanded could not be read. A zero now, a
// policy that does not pass its Check, or the lack of any trust root (if the policy
// needs one) gives an undecided verdict.
func Image(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options) *Verdict {
	return Gather(ctx, src, reference, now, opts, Ask{Policies: []policy.Policy{opts.Policy}}).Verdicts()[0]
}

// Ask is what Evidence may be asked for. Gather reads what is needed for that, and nothing
// more.
type Ask struct {
	Policies   []policy.Policy // each must pass its Check; of one that does not, nothing is read
	Predicates []string        // predicate types, for Statements
	Packages   bool            // for Packages
	Distrust   bool            // for lists of what is no longer trusted: packages, and what the build used
	Inputs     bool            // for Facts.Build.Dependencies, which are nil without
	Queries    []Query         // for Testimonies
}

// Evidence is an image and all that is attached to it, read and verified once, for any
// number of questions. It never changes, so that it is safe for concurrent use, and no
// question needs a network. It keeps no content of layers, and of signed statements only
// what was asked for.
type Evidence struct {
	src       oci.Source // only its name is used once the evidence was gathered
	reference string
	now       time.Time
	opts      Options

	image      v1.Descriptor // zero if it could not be resolved
	unresolved *Link         // why it could not be
	hint       string        // what to do about that
	link       Link          // of the image
	read       reading
	unsigned   []Claim
	known      *memory
	ask        Ask
	twins      []int         // of each policy asked for: the index of one before it that is equal, or its own
	kept       *atomic.Int64 // bytes of statements
	verdicts   []*Verdict    // by the policies asked for
}

// Gather reads an image at the time now, and what is attached to it, as far as it matters to
// what ask names. The other parameters are those of Image; opts.Policy is not used. It
// asks repositories (opts.SourceCheck) what a verdict by one of the policies needs to know.
// What could not be read is part of the evidence.
func Gather(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options, ask Ask) *Evidence {
	ev := newEvidence(src, reference, now, opts, ask)
	if !ev.ready() {
		return ev.closed()
	}
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		ev.unresolved = new(failed(LinkImage, Unknown, err))
		switch {
		case errors.Is(err, oci.ErrMismatch):
			ev.unresolved.Status = Broken
		case errors.Is(err, oci.ErrNotFound) && !opts.Layout:
			// "Not found" proves nothing about the image: a registry may deny what it has.
			ev.unresolved.Reason, ev.hint = notFound(src, reference)
		}
		return ev.closed()
	}
	return ev.gather(ctx, d)
}

func newEvidence(src oci.Source, reference string, now time.Time, opts Options, ask Ask) *Evidence {
	opts.Policy = policy.Policy{}
	return &Evidence{src: src, reference: reference, now: now, opts: opts, known: newMemory(), ask: ask, twins: twins(ask.Policies), kept: new(atomic.Int64)}
}

// maxTwins limits with how many policies of the same source one is compared.
const maxTwins = 16

// twins returns for each policy the index of the first of the same source that is equal to it,
// or its own index. Many rules may have the same alternative, which is judged once.
func twins(policies []policy.Policy) []int {
	out := make([]int, len(policies))
	seen := map[string][]int{} // by source
	for i, p := range policies {
		uri := p.Provenance().Source.URI()
		twin := slices.IndexFunc(seen[uri], func(j int) bool { return policies[j].Equal(p) })
		switch {
		case twin >= 0:
			out[i] = seen[uri][twin]
			continue
		case len(seen[uri]) < maxTwins:
			seen[uri] = append(seen[uri], i)
		}
		out[i] = i
	}
	return out
}

// check returns the verification for one policy. missed is set if an answer is missing.
func (ev *Evidence) check(p policy.Policy, missed *bool) *check {
	c := &check{src: ev.src, now: ev.now, opts: ev.opts, known: ev.known, missed: missed, ask: &ev.ask, queries: ev.ask.queriesAt(nil), kept: ev.kept}
	c.opts.Policy = p
	return c
}

// ready reports whether one of the policies asked for is ready for evidence, or a query is.
func (ev *Evidence) ready() bool {
	return len(ev.ask.Queries) > 0 && !ev.now.IsZero() || slices.ContainsFunc(ev.ask.Policies, func(p policy.Policy) bool { return ev.check(p, nil).ready() == nil })
}

// closed completes evidence with the verdicts that were not given while it was read.
func (ev *Evidence) closed() *Evidence {
	ev.known.closed = true
	if ev.verdicts == nil {
		ev.verdicts = make([]*Verdict, len(ev.ask.Policies))
	}
	for i, p := range ev.ask.Policies {
		switch {
		case ev.twins[i] < i:
			ev.verdicts[i] = ev.verdicts[ev.twins[i]]
		case ev.verdicts[i] == nil:
			ev.verdicts[i] = ev.Verdict(p)
		default:
			ev.verdicts[i].Unsigned = ev.unsigned
		}
	}
	return ev
}

// gather reads an image whose digest is known. What a verdict needs depends on what was
// read before, so each policy is asked for its verdict.
func (ev *Evidence) gather(ctx context.Context, d v1.Descriptor) *Evidence {
	ev.image = d
	read := make(chan struct{})
	go func() {
		defer close(read)
		ev.link, ev.read = ev.check(policy.Policy{}, nil).image(ctx, ev.reference, d)
	}()
	asks := make([]*check, len(ev.ask.Policies)) // nil: not ready, or asked for before
	for i, p := range ev.ask.Policies {
		if ev.twins[i] < i {
			continue
		}
		if c := ev.check(p, nil); c.ready() == nil {
			asks[i] = c
		}
	}
	ready := slices.DeleteFunc(slices.Clone(asks), func(c *check) bool { return c == nil })
	attached := make([]*evidence, len(asks))
	subjects := make([]v1.Descriptor, len(asks))
	for i, c := range asks {
		if c != nil {
			c.asks = ready
			subjects[i], attached[i] = c.subject(ctx, d)
		}
	}
	for _, q := range ev.ask.Queries {
		_, _ = ev.check(policy.Policy{}, nil).foundFor(ctx, q, d.Digest) // remembered, with its error
	}
	<-read
	ev.verdicts = make([]*Verdict, len(asks))
	for i, c := range asks {
		if c != nil {
			ev.verdicts[i] = ev.verdict(ctx, c, subjects[i], attached[i])
		}
	}
	if !ev.opts.Pinned {
		ev.unsigned = Claims(ctx, ev.src, d.Digest, false)
	}
	return ev.closed()
}

// Verdicts returns what Verdict returns for each of the policies that Gather was asked for, in
// their order. Gather found them, because what there is to read depends on them, so that this
// costs nothing. All calls share them: callers must not change them.
func (ev *Evidence) Verdicts() []*Verdict { return ev.verdicts }

// verdictsInOrder returns a function that answers as Verdict does. If it is asked for policies in
// the order in which Gather was, it finds each verdict at once, and otherwise it may judge again.
// Policies are compared whole, so that one that was changed since is another one.
func (ev *Evidence) verdictsInOrder() func(policy.Policy) *Verdict {
	next := 0
	return func(p policy.Policy) *Verdict {
		for ; next < len(ev.ask.Policies); next++ {
			if ev.ask.Policies[next].Equal(p) {
				next++
				return ev.verdicts[next-1]
			}
		}
		return ev.Verdict(p)
	}
}

// Verdict decides whether the image meets a policy. If Gather was not asked for the policy,
// and did not read what its verdict needs, the verdict is undecided and says so.
func (ev *Evidence) Verdict(p policy.Policy) *Verdict {
	missed := false
	c := ev.check(p, &missed)
	v := &Verdict{Image: ev.name(), Dangers: p.Dangers()}
	err := c.ready()
	switch {
	case err != nil:
	case ev.unresolved != nil:
		v.Hint = ev.hint
		v.add(*ev.unresolved)
		v.decide(map[string]bool{LinkImage: true})
		return v
	case ev.image.Digest == v1.Hash{}:
		err = errNotGathered
	default:
		ctx := context.Background() // nothing waits: all was read
		subject, attached := c.subject(ctx, ev.image)
		v = ev.verdict(ctx, c, subject, attached)
		if v.Unsigned = slices.Clone(ev.unsigned); !missed {
			return v
		}
		v, err = &Verdict{Image: v.Image, Digest: ev.image.Digest.String(), Dangers: v.Dangers}, errNotGathered
	}
	v.add(failed(LinkImage, Unknown, err))
	return v
}

// name returns the image as the caller named it.
func (ev *Evidence) name() string {
	if strings.Contains(ev.reference, ":") {
		return ev.src.Name() + "@" + ev.reference
	}
	return ev.src.Name() + ":" + ev.reference
}

// verdict returns the verdict of a verification that is ready, on an image whose digest is
// known, but for the unsigned claims. The proofs must be about subject, to which the rest is
// attached.
func (ev *Evidence) verdict(ctx context.Context, c *check, subject v1.Descriptor, attached *evidence) *Verdict {
	v := &Verdict{Image: ev.name(), Dangers: c.opts.Policy.Dangers(), Digest: ev.image.Digest.String()}
	c.read = ev.read
	v.Missing = slices.Clone(c.read.missing)
	image := ev.link
	c.inside(v, &image, ev.image, subject)
	v.add(image)
	var s set
	switch c.opts.Policy.Origin.(type) {
	case policy.SummaryOnly, policy.AttestationsOnly:
		c.unasked(v, LinkImage, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkSBOM)
	case policy.NotationSignature:
		c.notation(v, attached, subject)
	default:
		s = c.chain(ctx, v, attached, &subject.Digest)
	}
	resource := ""
	if !c.opts.Layout {
		resource = attest.ImageURI(c.src.Name())
	}
	c.demanded(v, attached, s, resource)
	if _, builder := c.opts.Policy.Origin.(policy.BuilderProvenance); builder {
		v.hint(attached)
	}
	c.contradictions(v)
	c.hintSpelling(v, attached)
	c.hintElsewhere(ctx, v, ev.reference, subject, attached)
	v.rests = c.restsOn(s)
	return v.distrusted(c.opts.Distrust, c.now, ev.listed(v))
}

// unasked adds the links of a chain that the policy does not demand, and sets the
// outcome that follows from the first link, which is in v already.
func (c *check) unasked(v *Verdict, first string, names ...string) {
	reason := "not demanded: the policy trusts a verifier instead"
	if _, attested := c.opts.Policy.Origin.(policy.AttestationsOnly); attested {
		reason = "not demanded: attestations are enough for the policy"
	}
	for _, name := range names {
		v.add(Link{Name: name, Status: NotAsked, Reason: reason})
	}
	v.decide(map[string]bool{first: true})
}

// notFound returns reason and hint for a reference that the registry does not have.
func notFound(src oci.Source, reference string) (reason, hint string) {
	what := fmt.Sprintf("tag %q", reference)
	if strings.Contains(reference, ":") {
		what = reference
	}
	return fmt.Sprintf("the registry says that %s has no %s", src.Name(), what),
		"check the name, and whether the release has finished: tags appear last. Some registries answer this without credentials"
}

// Examination is what is known about an image whatever a policy demands of it.
type Examination struct {
	Subject      v1.Descriptor            // what the proofs are about: the image, or the one manifest in it that can be meant
	Refused      string                   // why Image refuses the layout that has the image; empty if it does not, or for a registry
	Requirements []provenance.Requirement // those of SLSA's Build track that the provenance meets, if it holds
	Items        []Examined               // what is signed and attached, as far as opts have rules for it
}

// Examined is one signature or attestation.
type Examined struct {
	Digest string // of the manifest or layer that has it
	Holds  bool   // it is valid under a trust root, and by somebody who may sign it
	Reason string // why it does not hold
}

// Examine looks at an image and at what is attached to it with the eyes of Image, at the
// time now. reference is what image was resolved from. Examine verifies no layers and
// demands nothing beside what opts say, so that it is not a verdict on the image.
func Examine(ctx context.Context, src oci.Source, reference string, image v1.Descriptor, now time.Time, opts Options) *Examination {
	c := &check{src: src, now: now, opts: opts}
	unready := c.ready()
	subject, ev := c.subject(ctx, image)
	e := &Examination{Subject: subject}
	if layout, ok := src.(*oci.Layout); ok {
		if err := layout.CheckSole(ctx, reference, image); err != nil {
			e.Refused = plain(err.Error())
		}
	}
	if unready != nil {
		e.Requirements = plainEvidence(provenance.WithoutProvenance(provenance.NotKnown, unready.Error()))
		return e
	}
	for _, it := range ev.items {
		if x, known := it.examined(); known {
			e.Items = append(e.Items, x)
		}
	}
	v := &Verdict{Digest: subject.Digest.String()}
	s := c.sets(ev)[0]
	links := c.proofLinks(ev, s)
	onceUntrusted(links)
	for _, l := range links {
		v.add(l)
	}
	c.fillRequirements(v, s)
	e.Requirements = v.Requirements
	return e
}

// examined says whether the item holds. known is false if no rule applies to it.
func (it *item) examined() (x Examined, known bool) {
	x.Digest = it.at
	fault := cmp.Or(it.err, it.form)
	best := -1
	for _, p := range it.proofs {
		if n := p.passed(); n > best {
			best, fault = n, p.fault()
		}
	}
	switch {
	case fault != nil:
		x.Reason = plain(reason(fault))
	case best < 0:
		return x, false
	default:
		x.Holds = true
	}
	return x, it.at != ""
}

// DecideAt is DecideWith at a later time than that of Gather: what depends on the time (the modes
// of rules, exemptions, the age of trust roots and summaries, conditions) is as of now. Whoever
// keeps evidence must gather it again when a trust root stops being valid (trust.Root.Until).
func (ev *Evidence) DecideAt(sets []*policy.Set, image policy.Image, now time.Time, with With) *Decision {
	later, found := *ev, ev.verdictsInOrder()
	later.now = now
	verdict := func(p policy.Policy) *Verdict {
		if timeless(p) {
			return found(p)
		}
		return later.Verdict(p)
	}
	return ev.knowing(decide(sets, asked{image: image, now: now, verdict: verdict, more: later.addFacts, packages: ev.listed, With: with}), with.Others)
}

// timeless reports whether the verdict on a policy stays the same: nothing that it demands is
// compared with the time of the question. Signatures are verified as of the time of Gather.
func timeless(p policy.Policy) bool {
	_, notation := p.Origin.(policy.NotationSignature)
	return !notation && !p.FreshTrust && p.MaxTrustAge == 0 && len(p.Verifiers) == 0 && len(p.Provenance().SourceVerifiers) == 0
}

// Approximate sizes in bytes.
const (
	sizeOfEvidence = 16 << 10
	sizeOfItem     = 12 << 10 // one signed item with its certificate and results
	sizeOfPackage  = 256
)

// sizeOfInputs estimates how much memory the inputs of builds take, in bytes.
func (m *memory) sizeOfInputs() (n int64) {
	for _, a := range m.answers {
		if b, ok := a.(answer[build]); ok {
			for _, in := range b.value.inputs {
				n += int64(64 + len(in.URI) + len(in.Digest))
			}
		}
	}
	return n
}

// Size estimates how much memory the evidence takes, in bytes.
func (ev *Evidence) Size() int64 {
	n := sizeOfEvidence + ev.kept.Load()
	for _, a := range ev.known.answers {
		all, ok := a.(answer[*found])
		if !ok || all.value == nil {
			continue
		}
		for _, s := range all.value.notation {
			if s.signature != nil {
				n += s.signature.Size()
			}
			if s.err != nil {
				n += int64(len(s.err.Error()))
			}
		}
		for _, it := range all.value.items {
			n += sizeOfItem
			if it.err != nil {
				n += int64(len(it.err.Error()))
			}
			if it.read == nil {
				continue
			}
			n += it.read.memory.sizeOfInputs()
			if d, ok := it.read.memory.answers[sbomKey{}].(answer[*sbom.Document]); ok && d.value != nil {
				n += sizeOfPackage * int64(len(d.value.List))
			}
		}
	}
	return n
}
