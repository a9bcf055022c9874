package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
)

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
