package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// CosignTag is a kind of thing that cosign v2 attaches to an image under a tag
// made from the image's digest (cosign specs, SIGNATURE_SPEC.md).
type CosignTag string

// The kinds that exist.
const (
	CosignSignatures   CosignTag = "sig"
	CosignAttestations CosignTag = "att"
	CosignSBOM         CosignTag = "sbom"
)

// Of returns the tag for the image with the given digest: "sha256-HEX.sig".
func (t CosignTag) Of(image v1.Hash) string { return fallbackTag(image) + "." + string(t) }

// Attached is one manifest that is attached to an image. All fields but Tag and
// the digest come from the manifest, never from the listing.
type Attached struct {
	Tag          CosignTag     // how it was found; empty for a referrer
	Descriptor   v1.Descriptor // digest as listed; media type and size once the manifest was fetched
	Manifest     []byte        // as received
	ArtifactType string        // the manifest's, or the media type of its config
	Annotations  map[string]string
	Layers       []v1.Descriptor
	Err          error // why the manifest does not count: ErrMismatch (also one about another image), ErrNotFound, or the store failed
}

// IsBundle says whether the manifest holds a Sigstore bundle, or claims to. The
// listing has no say, and older clients name no artifact type.
func (a *Attached) IsBundle() bool {
	return a.ArtifactType == attest.BundleMediaType || len(a.Layers) == 1 && attest.IsBundleMediaType(string(a.Layers[0].MediaType))
}

// BundleLayer returns the layer of a manifest that holds a Sigstore bundle.
func (a *Attached) BundleLayer() (v1.Descriptor, error) {
	if len(a.Layers) != 1 {
		return v1.Descriptor{}, refuse("bundle manifest %s: got %d layers, want 1", a.Descriptor.Digest, len(a.Layers))
	}
	if got := a.Layers[0].MediaType; !attest.IsBundleMediaType(string(got)) {
		return v1.Descriptor{}, refuse("bundle manifest %s: got a layer of type %q, want %q", a.Descriptor.Digest, got, attest.BundleMediaType)
	}
	return a.Layers[0], nil
}

// errForeign marks a manifest that was listed and is about something else.
var errForeign = errors.New("not a referrer of this image")

// Listing is all that is attached to one image.
type Listing struct {
	// Items are the referrers in the order of their digests, then what cosign's
	// tags name. Where there are too many referrers, those that the listing calls
	// Sigstore bundles come before others.
	Items []Attached
	// Beyond is the number of referrers past limits.Referrers. They were not
	// fetched, so nothing is known about them.
	Beyond int
}

// Attachments lists what is attached to subject and fetches each manifest, once:
// the referrers, and what cosign v2 keeps under the given tags. An item that
// cannot be had is there with its Err. A listing of referrers that fails is an error.
func Attachments(ctx context.Context, src Source, subject v1.Hash, tags ...CosignTag) (*Listing, error) {
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
	if err != nil {
		_ = group.Wait() // no task fails: each keeps its own error
		return nil, err
	}
	slices.SortStableFunc(referrers, func(a, b v1.Descriptor) int { return calledBundle(b) - calledBundle(a) })
	list := &Listing{Beyond: max(0, len(referrers)-limits.Referrers)}
	referrers = referrers[:len(referrers)-list.Beyond]
	list.Items = make([]Attached, len(referrers))
	for i, d := range referrers {
		group.Go(func() error {
			list.Items[i] = fetchReferrer(ctx, src, subject, d.Digest)
			return nil
		})
	}
	_ = group.Wait()
	slices.SortFunc(list.Items, func(a, b Attached) int {
		return strings.Compare(a.Descriptor.Digest.String(), b.Descriptor.Digest.String())
	})
	for _, a := range tagged {
		if !errors.Is(a.Err, ErrNotFound) {
			list.Items = append(list.Items, a)
		}
	}
	return list, ctx.Err()
}

// calledBundle decides only who is fetched first: the listing may lie.
func calledBundle(d v1.Descriptor) int {
	if d.ArtifactType == attest.BundleMediaType {
		return 1
	}
	return 0
}

func fetchReferrer(ctx context.Context, src Source, subject, digest v1.Hash) Attached {
	a := Attached{Descriptor: v1.Descriptor{Digest: digest}}
	c := a.fetch(ctx, src)
	switch {
	case c == nil:
	case c.Subject == nil:
		a.Err = &refusal{fmt.Errorf("manifest %s has no subject, want %s: %w", digest, subject, errForeign)}
	case c.Subject.Digest != subject:
		a.Err = &refusal{fmt.Errorf("subject of manifest %s: got %s, want %s: %w", digest, c.Subject.Digest, subject, errForeign)}
	}
	return a
}

// fetchTagged fetches what cosign v2 attached. Nothing but the tag's name ties
// the manifest to the image; each layer has to name the image by itself.
func fetchTagged(ctx context.Context, src Source, subject v1.Hash, tag CosignTag) Attached {
	a := Attached{Tag: tag}
	if a.Descriptor, a.Err = src.Resolve(ctx, tag.Of(subject)); a.Err == nil {
		a.fetch(ctx, src)
	}
	return a
}

// fetch fills in what the manifest says. It returns nil where Err is set.
func (a *Attached) fetch(ctx context.Context, src Source) *content {
	raw, mediaType, err := src.Manifest(ctx, a.Descriptor.Digest)
	if a.Err = err; err != nil {
		return nil
	}
	a.Descriptor.MediaType, a.Descriptor.Size = types.MediaType(mediaType), int64(len(raw))
	c, err := parseContent(raw, types.MediaType(mediaType))
	if a.Err = err; err != nil {
		return nil
	}
	a.Manifest, a.ArtifactType, a.Annotations, a.Layers = raw, c.kind(), c.Annotations, c.Layers
	return c
}

// Content reads the content of a small blob whole: from the descriptor's own
// data (OCI image spec, descriptor.md) where it has any, else from src. The
// content matches digest and size; otherwise the error is ErrMismatch.
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

// bundlesTotal bounds what Bundles holds in memory at once.
const bundlesTotal = 8 * limits.Bundle

// Bundles returns the Sigstore bundles attached to subject, and those that
// could not be had (Err set). What is attached and is something else, or is listed
// and about another image, is left out.
func Bundles(ctx context.Context, src Source, subject v1.Hash) ([]Bundle, error) {
	list, err := Attachments(ctx, src, subject)
	if err != nil {
		return nil, err
	}
	if list.Beyond > 0 {
		return nil, fmt.Errorf("%s has more than %d referrers", subject, limits.Referrers)
	}
	var found []Bundle
	for _, a := range list.Items {
		if !errors.Is(a.Err, errForeign) && (a.Err != nil || a.IsBundle()) {
			found = append(found, Bundle{Attached: a})
		}
	}
	fetchBundles(ctx, src, found)
	return found, ctx.Err()
}

func fetchBundles(ctx context.Context, src Source, found []Bundle) {
	var group errgroup.Group
	group.SetLimit(parallel)
	var total int64
	for i := range found {
		b := &found[i]
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
