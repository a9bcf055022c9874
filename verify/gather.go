package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
)

// maxGathered limits the total size in bytes of what is signed and attached to one image.
const maxGathered = limits.Referrers << 20

// signedSize returns the size in bytes of the layers that attached reads.
func signedSize(a oci.Attached) (n int64) {
	for _, l := range a.Layers {
		if parserOf(l) != nil {
			n += min(max(l.Size, 0), limits.Bundle)
		}
	}
	return n
}

// found is everything attached to an image, as it was read once for all policies.
type found struct {
	list  []oci.Attached
	tags  []oci.CosignTag // that were looked for
	items []*item         // in no policy's eyes

	notation []*notationSignature
	anchors  map[notation.Fingerprint]bool // under which signatures of notation were read

	beside error // why it is not known what is under the fallback tag; nil if no policy asked
}

// gather returns everything attached to an image, in the eyes of the policy. It reads what
// was not read before. A false, huge or missing item changes nothing that is known about
// another.
func (c *check) gather(ctx context.Context, image v1.Hash) *evidence {
	c.digest = image
	all, err := recall(c, c.known, foundKey(image), func() (*found, error) { return c.find(ctx, image) })
	if err != nil {
		return &evidence{err: err}
	}
	ev := &evidence{items: make([]*item, 0, len(all.items)), beside: all.beside, notation: c.notationOf(all)}
	tags := c.tags()
	if slices.ContainsFunc(tags, func(t oci.CosignTag) bool { return !slices.Contains(all.tags, t) }) {
		c.miss()
	}
	subject := func() bundle.Subject { return bundle.Subject{Digest: image} }
	for _, read := range all.items {
		if read.tag != "" && !slices.Contains(tags, read.tag) {
			continue // another policy asked for it
		}
		it := *read
		if it.read != nil {
			c.judge(&it, it.read.bundle, it.read.platform, subject)
		}
		ev.items = append(ev.items, &it)
	}
	c.compareLocks(ctx, all.list, ev)
	return ev
}

// find lists everything attached to an image, once, and reads each item.
func (c *check) find(ctx context.Context, image v1.Hash) (*found, error) {
	all := &found{tags: c.allTags()}
	listed := slices.DeleteFunc(slices.Clone(all.tags), func(tag oci.CosignTag) bool { return tag == besideAPI })
	list, err := oci.Attachments(ctx, c.src, image, listed...)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", image, err)
	}
	all.list = list
	if len(listed) < len(all.tags) {
		var beside []oci.Attached
		beside, all.beside = oci.Beside(ctx, c.src, image, list)
		list = append(list[:len(list):len(list)], beside...)
	}
	// The small ones first: junk must be many items to delay a proof, and cheap to read.
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(signedSize(list[a]), signedSize(list[b])) })
	items := make([][]*item, len(list))
	var g errgroup.Group
	g.SetLimit(parallel)
	left := int64(maxGathered)
	for _, i := range order {
		if left -= signedSize(list[i]); left < 0 && list[i].Err == nil {
			list[i].Err = fmt.Errorf("not read: what is attached to the image exceeds %d bytes", int64(maxGathered))
		}
		g.Go(func() error {
			items[i] = c.attached(ctx, image, &list[i])
			for _, it := range items[i] {
				if i >= len(all.list) {
					it.tag = besideAPI
				}
			}
			return nil
		})
	}
	_ = g.Wait() // no task returns an error: each item keeps its own
	all.items = slices.Concat(items...)
	all.anchors = c.notationAnchors()
	all.notation = c.findNotation(ctx, image, all.list, all.anchors)
	subject := func() bundle.Subject { return bundle.Subject{Digest: image} }
	for _, raw := range c.opts.Bundles {
		it, b := supplied(raw)
		if b != nil {
			c.keep(it, b, true, subject)
		}
		all.items = append(all.items, it)
	}
	return all, nil
}

// keep lets each policy that asks judge an item while its content is at hand, so that all
// that they want of it is remembered, and drops the content.
func (c *check) keep(it *item, b *bundle.Bundle, platform bool, subject func() bundle.Subject) {
	it.read = &piece{bundle: b, platform: platform, memory: newMemory()}
	for _, of := range c.all() {
		asks, judged := *of, *it
		asks.about = c.about
		asks.judge(&judged, b, platform, subject)
	}
	if of := subject(); len(c.queries) > 0 && of.Content == nil {
		c.answer(it, b, of.Digest)
	}
	it.read.forget()
}

// all returns the verifications that will look at what is read now.
func (c *check) all() []*check {
	if len(c.asks) == 0 {
		return []*check{c}
	}
	return c.asks
}

// besideAPI stands for the fallback tag of a registry that has the referrers API.
const besideAPI oci.CosignTag = "beside the API"

// tags returns cosignTags and, if the policy demands that something is absent, besideAPI.
func (c *check) tags() []oci.CosignTag {
	if tags := c.cosignTags(); len(c.opts.Policy.Absent) == 0 {
		return tags
	}
	return []oci.CosignTag{oci.CosignSignatures, oci.CosignAttestations, besideAPI}
}

// allTags returns the tags that a policy asks for.
func (c *check) allTags() (tags []oci.CosignTag) {
	for _, tag := range []oci.CosignTag{oci.CosignSignatures, oci.CosignAttestations, besideAPI} {
		if len(c.queries) > 0 && tag != besideAPI || slices.ContainsFunc(c.all(), func(c *check) bool { return slices.Contains(c.tags(), tag) }) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// CosignTags returns the tags under which Gather looks for what is attached to an image, besides its
// referrers.
func (a Ask) CosignTags(opts Options) []oci.CosignTag {
	c := &check{opts: opts, queries: a.queriesAt(nil)}
	for _, p := range a.Policies {
		of := &check{opts: opts}
		of.opts.Policy = p
		c.asks = append(c.asks, of)
	}
	return slices.DeleteFunc(c.allTags(), func(tag oci.CosignTag) bool { return tag == besideAPI })
}

// gatherBundles verifies the bundles that the caller supplied with a file. Each
// call of subject gives a subject that can be read once.
func (c *check) gatherBundles(bundles [][]byte, subject func() bundle.Subject) *evidence {
	ev := &evidence{file: true}
	for _, raw := range bundles {
		it, b := supplied(raw)
		if b != nil {
			c.judge(it, b, true, subject)
		}
		ev.items = append(ev.items, it)
	}
	return ev
}

// cosignTags returns the tags of cosign v2 that may hold something that the policy
// asks for. Platforms attach nothing under them.
func (c *check) cosignTags() []oci.CosignTag {
	_, builders := c.opts.Policy.Origin.(policy.BuilderProvenance)
	_, summary := c.opts.Policy.Origin.(policy.SummaryOnly)
	switch {
	case !builders && !summary && c.trustsNotation() == nil, len(c.opts.Policy.Attestations) > 0, len(c.opts.Policy.Verifiers) > 0, len(c.opts.Policy.Provenance().SourceVerifiers) > 0:
		return []oci.CosignTag{oci.CosignSignatures, oci.CosignAttestations}
	case len(c.plainRoots()) > 0:
		return []oci.CosignTag{oci.CosignAttestations}
	}
	return nil
}

// attached reads the items of one attached manifest. A manifest with nothing signed in it
// has no items.
func (c *check) attached(ctx context.Context, image v1.Hash, a *oci.Attached) (items []*item) {
	at, kind := a.Descriptor.Digest.String(), a.Annotations[attest.AnnotationType]
	fail := func(err error) []*item {
		return append(items, &item{at: at, kind: kind, tag: a.Tag, err: fmt.Errorf("attestation %s: %w", at, err), unread: !permanent(err)})
	}
	switch {
	case a.Err != nil && a.Descriptor.Digest.Hex == "": // the referrers, or what a tag names
		return []*item{{tag: a.Tag, err: a.Err, unread: !permanent(a.Err)}}
	case a.Err != nil:
		return fail(a.Err)
	}
	if a.Tag == "" && a.ArtifactType == attest.BundleMediaType {
		if _, err := a.BundleLayer(); err != nil {
			return fail(err)
		}
	}
	for _, l := range a.Layers {
		parse := parserOf(l)
		if parse == nil {
			continue
		}
		raw, err := c.content(ctx, image, l)
		if err != nil {
			items = fail(err)
			continue
		}
		it := &item{at: at, kind: kind, tag: a.Tag}
		if a.Tag != "" {
			it.at = l.Digest.String()
		}
		b, err := parse(raw)
		if err != nil {
			it.err = fmt.Errorf("attestation %s: %w", it.at, bounded(err))
		} else {
			c.keep(it, b, platformForm(a, l), func() bundle.Subject { return bundle.Subject{Digest: image} })
		}
		items = append(items, it)
	}
	return items
}

// content returns the content of a layer of what is attached to an image. Most payloads that cosign
// signs can be told from the image, and the layer's digest says that this is one of them.
func (c *check) content(ctx context.Context, image v1.Hash, l v1.Descriptor) ([]byte, error) {
	if l.MediaType == attest.SimpleSigningMediaType && len(l.Data) == 0 {
		guess := bundle.SimpleSigning(c.src.Name(), image)
		if sum := sha256.Sum256(guess); l.Size == int64(len(guess)) && l.Digest.String() == "sha256:"+hex.EncodeToString(sum[:]) {
			return guess, nil
		}
	}
	return oci.Content(ctx, c.src, l, limits.Bundle)
}

// parserOf returns the parser for a layer, or nil if nothing in it is signed.
func parserOf(l v1.Descriptor) func([]byte) (*bundle.Bundle, error) {
	switch t := string(l.MediaType); {
	case attest.IsBundleMediaType(t):
		return bundle.Parse
	case t == attest.SimpleSigningMediaType:
		return func(raw []byte) (*bundle.Bundle, error) { return bundle.ParseCosign2Signature(raw, l.Annotations) }
	case t == attest.EnvelopeMediaType:
		return func(raw []byte) (*bundle.Bundle, error) { return bundle.ParseCosign2(raw, l.Annotations) }
	}
	return nil
}

// platformForm reports whether platforms attach anything in the way of this layer.
func platformForm(a *oci.Attached, l v1.Descriptor) bool {
	return a.Tag == "" && len(a.Layers) == 1 && attest.IsBundleMediaType(string(l.MediaType))
}

// supplied parses a bundle, or an envelope without a bundle, that the caller supplied. There
// is no bundle if it is malformed, which the item says.
func supplied(raw []byte) (*item, *bundle.Bundle) {
	parse := bundle.Parse
	if bundle.IsEnvelope(raw) {
		parse = bundle.ParseEnvelope
	}
	b, err := parse(raw)
	return &item{err: err}, b
}
