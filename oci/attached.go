package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// CosignTag is a kind of attachment that cosign v2 stores under a tag made from the
// image's digest (cosign specs, SIGNATURE_SPEC.md).
type CosignTag string

// All kinds of cosign's tags.
const (
	CosignSignatures   CosignTag = "sig"
	CosignAttestations CosignTag = "att"
	CosignSBOM         CosignTag = "sbom"
)

// Of returns the tag for the image with the given digest: "sha256-HEX.sig".
func (t CosignTag) Of(image v1.Hash) string { return fallbackTag(image) + "." + string(t) }

// Attached is one manifest that is attached to an image. Tag and the digest come
// from the listing, everything else from the manifest.
type Attached struct {
	Tag          CosignTag     // cosign's tag that names it; empty for a referrer
	Descriptor   v1.Descriptor // media type and size are set once the manifest was fetched
	ArtifactType string        // the manifest's artifactType, or else the media type of its config
	Annotations  map[string]string
	Layers       []v1.Descriptor
	Err          error // why there is no manifest, or no list of referrers (then Descriptor is empty): ErrMismatch (also if it is about another image), ErrNotFound, or the store did not answer
}

// IsBundle reports whether the manifest says that it holds a Sigstore bundle, by its
// artifact type or, as older clients write it, by the type of its one layer.
func (a *Attached) IsBundle() bool {
	return a.ArtifactType == attest.BundleMediaType || len(a.Layers) == 1 && attest.IsBundleMediaType(string(a.Layers[0].MediaType))
}

// BundleLayer returns the layer that holds the Sigstore bundle. The error is
// ErrMismatch if the manifest has another form.
func (a *Attached) BundleLayer() (v1.Descriptor, error) {
	if len(a.Layers) != 1 {
		return v1.Descriptor{}, refuse("bundle manifest %s: got %d layers, want 1", a.Descriptor.Digest, len(a.Layers))
	}
	if got := a.Layers[0].MediaType; !attest.IsBundleMediaType(string(got)) {
		return v1.Descriptor{}, refuse("bundle manifest %s: got a layer of type %q, want %q", a.Descriptor.Digest, got, attest.BundleMediaType)
	}
	return a.Layers[0], nil
}

// errForeign means that a manifest in the listing is about another subject.
var errForeign = errors.New("not a referrer of this image")

// Caps on what Attachments keeps of the manifests that it fetches, in bytes: everybody
// who may push can attach 4096 manifests of 4 MiB.
const (
	attachedManifest = 64 << 10 // one referrer's manifest, without the data of its layers
	attachedData     = 64 << 20 // the data of layers in all manifests; the rest is fetched from the blobs when it is needed
)

// Attachments lists what is attached to subject and fetches each manifest once: the
// referrers, in the order of their digests, then what cosign v2 stores under the given
// tags. An item that could not be read is in the list with its Err. It returns an error
// if the referrers could not be listed, or are more than limits.Referrers (4096). If
// something else than the registry seems to have answered, such as a login page, the list
// has an item with that Err, because the tags may still have something.
func Attachments(ctx context.Context, src Source, subject v1.Hash, tags ...CosignTag) ([]Attached, error) {
	tagged := make([]Attached, len(tags))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, tag := range tags {
		group.Go(func() error {
			tagged[i] = fetchTagged(ctx, src, subject, tag)
			return nil
		})
	}
	referrers, err := src.Referrers(ctx, subject)
	if err == nil && len(referrers) > limits.Referrers {
		err = fmt.Errorf("%s has more than %d referrers", subject, limits.Referrers)
	}
	unlisted := err
	if noAPI(err) != nil {
		err = nil
	}
	if err != nil {
		_ = group.Wait() // no task fails: each keeps its own error
		return nil, err
	}
	items := make([]Attached, len(referrers))
	var data atomic.Int64
	for i, d := range referrers {
		group.Go(func() error {
			items[i] = fetchReferrer(ctx, src, subject, d)
			items[i].shrink(&data)
			return nil
		})
	}
	_ = group.Wait()
	slices.SortFunc(items, func(a, b Attached) int {
		return strings.Compare(a.Descriptor.Digest.String(), b.Descriptor.Digest.String())
	})
	for _, a := range tagged {
		if !errors.Is(a.Err, ErrNotFound) {
			items = append(items, a)
		}
	}
	if unlisted != nil {
		items = append(items, Attached{Err: unlisted})
	}
	return items, context.Cause(ctx)
}

// Beside lists what the fallback tag names and listed, from Attachments, does not have, and
// fetches each manifest. Attachments reads that tag only if there is no referrers API; clients
// that knew no API may have written it. An item that could not be read is in the list with its
// Err. Beside returns an error if it is not known what the tag names.
func Beside(ctx context.Context, src Source, subject v1.Hash, listed []Attached) ([]Attached, error) {
	d, err := src.Resolve(ctx, fallbackTag(subject))
	if errors.Is(err, ErrNotFound) || err == nil && d.Digest == subject { // GitLab gives it to the image itself
		return nil, nil
	}
	var raw []byte
	var mediaType string
	if err == nil {
		raw, mediaType, err = src.Manifest(ctx, d.Digest)
	}
	if err == nil && !types.MediaType(mediaType).IsIndex() {
		err = errNoListing
	}
	var list referrerList
	if err == nil {
		err = list.add(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", fallbackTag(subject), err)
	}
	list.entries = slices.DeleteFunc(list.entries, func(d v1.Descriptor) bool {
		return slices.ContainsFunc(listed, func(a Attached) bool { return a.Tag == "" && a.Descriptor.Digest == d.Digest })
	})
	items := make([]Attached, len(list.entries))
	var data atomic.Int64
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, d := range list.entries {
		group.Go(func() error {
			items[i] = fetchReferrer(ctx, src, subject, d)
			items[i].shrink(&data)
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
	return items, context.Cause(ctx)
}

// shrink refuses a large manifest of a referrer, and drops the data of its layers once
// total has reached attachedData.
func (a *Attached) shrink(total *atomic.Int64) {
	var data int64
	for _, l := range a.Layers {
		data += int64(len(l.Data))
	}
	if rest := a.Descriptor.Size - data*4/3; a.Err == nil && rest > attachedManifest+4*int64(len(a.Layers)) {
		a.Err = refuse("manifest %s: got %d bytes without the data of its layers, want at most %d", a.Descriptor.Digest, rest, attachedManifest)
	}
	if a.Err != nil {
		a.Annotations, a.Layers = nil, nil
		return
	}
	if total.Add(data) > attachedData {
		for i := range a.Layers {
			a.Layers[i].Data = nil
		}
	}
}

// packed returns the size of all layers, in bytes as stored. The small items are read or
// copied first, so that large ones cannot take their place.
func (a *Attached) packed() (n int64) {
	for _, l := range a.Layers {
		n += min(max(l.Size, 0), limits.LayerPacked)
	}
	return n
}

// fetchReferrer fetches the manifest of a referrer, unless the list has it in the data of the descriptor.
func fetchReferrer(ctx context.Context, src Source, subject v1.Hash, listed v1.Descriptor) Attached {
	digest := listed.Digest
	a := Attached{Descriptor: v1.Descriptor{Digest: digest}}
	var c *content
	if len(listed.Data) > 0 && int64(len(listed.Data)) == listed.Size && checkDigest(listed.Data, digest) == nil {
		c = a.parse(listed.Data, listed.MediaType)
		if r, ok := src.(*Registry); ok && c != nil { // whoever copies it does not fetch it again
			r.remember(digest, listed.Data, string(listed.MediaType))
		}
	} else {
		c = a.fetch(ctx, src)
	}
	switch {
	case c == nil:
	case c.Subject == nil:
		a.Err = &refusal{fmt.Errorf("manifest %s has no subject, want %s: %w", digest, subject, errForeign)}
	case c.Subject.Digest != subject:
		a.Err = &refusal{fmt.Errorf("subject of manifest %s: got %s, want %s: %w", digest, c.Subject.Digest, subject, errForeign)}
	}
	return a
}

// fetchTagged fetches what cosign v2 attached. Only the name of the tag connects the
// manifest to the image; the content of each layer must name the image itself.
func fetchTagged(ctx context.Context, src Source, subject v1.Hash, tag CosignTag) Attached {
	a := Attached{Tag: tag}
	if a.Descriptor, a.Err = src.Resolve(ctx, tag.Of(subject)); a.Err == nil {
		a.fetch(ctx, src)
	}
	return a
}

// fetch fills in what the manifest says. It returns nil if it sets Err.
func (a *Attached) fetch(ctx context.Context, src Source) *content {
	raw, mediaType, err := src.Manifest(ctx, a.Descriptor.Digest)
	if a.Err = err; err != nil {
		return nil
	}
	return a.parse(raw, types.MediaType(mediaType))
}

// parse fills in what a manifest says that has the digest. It returns nil if it sets Err.
func (a *Attached) parse(raw []byte, mediaType types.MediaType) *content {
	a.Descriptor.MediaType, a.Descriptor.Size = mediaType, int64(len(raw))
	c, err := parseContent(raw, mediaType)
	if a.Err = err; err != nil {
		return nil
	}
	a.ArtifactType, a.Annotations, a.Layers = c.kind(), c.Annotations, c.Layers
	return c
}

// Content returns the content of a blob of at most max bytes: from the data of the
// descriptor (OCI image spec, descriptor.md) if it has any, else from src. If the
// content does not match digest and size, or is larger, the error is ErrMismatch.
func Content(ctx context.Context, src Source, d v1.Descriptor, max int) ([]byte, error) {
	if len(d.Data) == 0 {
		return readBlob(ctx, src, d, max)
	}
	if int64(len(d.Data)) != d.Size || len(d.Data) > max {
		return nil, refuse("data of blob %s: got %d bytes, want %d and at most %d", d.Digest, len(d.Data), d.Size, max)
	}
	if err := checkDigest(d.Data, d.Digest); err != nil {
		return nil, fmt.Errorf("data of the descriptor: %w", err)
	}
	return d.Data, nil
}

// Bundle is one Sigstore bundle that is attached to an image.
type Bundle struct {
	Attached
	Raw []byte // as received and matching its digest; not parsed
}

// bundlesTotal is the maximum total size in bytes of what Bundles returns.
const bundlesTotal = 8 * limits.Bundle

// Bundles returns the Sigstore bundles attached to subject. A bundle, or a manifest
// of unknown kind, that could not be read is in the list with its Err. Other
// attachments, and manifests about other images, are left out. Of bundles of more than
// 128 MiB, the small ones are read.
func Bundles(ctx context.Context, src Source, subject v1.Hash) ([]Bundle, error) {
	list, err := Attachments(ctx, src, subject)
	if err != nil {
		return nil, err
	}
	var found []Bundle
	for _, a := range list {
		if noAPI(a.Err) != nil {
			return nil, a.Err
		}
		if !errors.Is(a.Err, errForeign) && (a.Err != nil || a.IsBundle()) {
			found = append(found, Bundle{Attached: a})
		}
	}
	fetchBundles(ctx, src, found)
	return found, context.Cause(ctx)
}

func fetchBundles(ctx context.Context, src Source, found []Bundle) {
	var group errgroup.Group
	group.SetLimit(parallel)
	var total int64
	small := make([]*Bundle, len(found))
	for i := range found {
		small[i] = &found[i]
	}
	slices.SortStableFunc(small, func(a, b *Bundle) int { return cmp.Compare(a.packed(), b.packed()) })
	for _, b := range small {
		if b.Err != nil {
			continue
		}
		layer, err := b.BundleLayer()
		if b.Err = err; err != nil {
			continue
		}
		if total += layer.Size; total > bundlesTotal {
			b.Err = fmt.Errorf("bundles attached to one image have more than %d bytes", int64(bundlesTotal))
			continue
		}
		group.Go(func() error {
			b.Raw, b.Err = Content(ctx, src, layer, limits.Bundle)
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
}
