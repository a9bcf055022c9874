package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
)

// Image verifies an image at the time now. reference is a tag of src or a digest,
// "sha256:HEX". Image always returns a verdict: rejected if something is wrong or
// missing, undecided if something that is demanded could not be read. A zero now, a
// policy that does not pass its Check, or the lack of any trust root (if the policy
// needs one) gives an undecided verdict.
func Image(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options) *Verdict {
	c := &check{src: src, now: now, opts: opts}
	sep := ":"
	if strings.Contains(reference, ":") {
		sep = "@"
	}
	v := &Verdict{Image: src.Name() + sep + reference, Dangers: opts.Policy.Dangers()}
	if err := c.ready(); err != nil {
		v.add(failed(LinkImage, Unknown, err))
		return v
	}
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		l := failed(LinkImage, Unknown, err)
		switch {
		case errors.Is(err, oci.ErrMismatch):
			l.Status = Broken
		case errors.Is(err, oci.ErrNotFound) && !c.opts.Layout:
			// "Not found" proves nothing about the image: a registry may deny what it has.
			l.Reason, v.Hint = c.notFound(reference)
		}
		v.add(l)
		v.decide(map[string]bool{LinkImage: true})
		return v
	}
	c.resolved(ctx, v, reference, d)
	return v
}

// resolved verifies an image whose digest is known, and completes v.
func (c *check) resolved(ctx context.Context, v *Verdict, reference string, d v1.Descriptor) {
	v.Digest = d.Digest.String()
	read := make(chan struct{})
	var image Link
	go func() {
		defer close(read)
		image, c.read = c.image(ctx, reference, d)
	}()
	subject, ev := c.subject(ctx, d)
	<-read
	v.Missing = c.read.missing
	c.inside(v, &image, d, subject)
	v.add(image)
	var s set
	if _, only := c.opts.Policy.Origin.(policy.SummaryOnly); only {
		c.unasked(v, LinkImage, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkSBOM)
	} else {
		s = c.chain(ctx, v, ev, &subject.Digest)
	}
	resource := ""
	if !c.opts.Layout {
		resource = attest.ImageURI(c.src.Name())
	}
	c.demanded(v, ev, s, resource)
	if _, builder := c.opts.Policy.Origin.(policy.BuilderProvenance); builder {
		v.hint(ev)
	}
	c.contradictions(v)
	c.hintSpelling(v, ev)
	c.hintElsewhere(ctx, v, reference, subject, ev)
	v.Unsigned = Claims(ctx, c.src, d.Digest, false)
}

// unasked adds the links of a chain that the policy does not demand, and sets the
// outcome that follows from the first link, which is in v already.
func (c *check) unasked(v *Verdict, first string, names ...string) {
	for _, name := range names {
		v.add(Link{Name: name, Status: NotAsked, Reason: "not demanded: the policy trusts a verifier instead"})
	}
	v.decide(map[string]bool{first: true})
}

// notFound returns reason and hint for a reference that the registry does not have.
func (c *check) notFound(reference string) (reason, hint string) {
	what := fmt.Sprintf("tag %q", reference)
	if strings.Contains(reference, ":") {
		what = reference
	}
	return fmt.Sprintf("the registry says that %s has no %s", c.src.Name(), what),
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
