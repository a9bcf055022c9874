package verify

import (
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

// Requirements returns which requirements of SLSA's Build track the provenance
// attached to an image meets at the time now, if it holds under opts. It verifies
// only signature, log and provenance, so it is not a verdict on the image.
func Requirements(ctx context.Context, src oci.Source, image v1.Descriptor, now time.Time, opts Options) []provenance.Requirement {
	c := &check{src: src, now: now, opts: opts}
	if err := c.ready(); err != nil {
		return plainEvidence(provenance.WithoutProvenance(provenance.NotKnown, err.Error()))
	}
	subject, ev := c.subject(ctx, image)
	v := &Verdict{Digest: subject.Digest.String()}
	s := c.sets(ev)[0]
	for _, l := range c.proofLinks(ev, s) {
		v.add(l)
	}
	c.fillRequirements(v, s)
	return v.Requirements
}
