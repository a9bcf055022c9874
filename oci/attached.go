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
	Manifest     []byte        // as received
	ArtifactType string        // the manifest's artifactType, or else the media type of its config
	Annotations  map[string]string
	Layers       []v1.Descriptor
	Err          error // why there is no manifest: ErrMismatch (also if it is about another image), ErrNotFound, or the store did not answer
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

// Listing is everything that is attached to one image.
type Listing struct {
	// Items are the referrers in the order of their digests, then what cosign's
	// tags name. Of more than limits.Referrers (512) referrers, those that the
	// listing calls Sigstore bundles are read first.
	Items []Attached
	// Beyond is the number of referrers that were not read, because there are more
	// than limits.Referrers. Nothing is known about them.
	Beyond int
}

// Attachments lists what is attached to subject and fetches each manifest once: the
// referrers, and what cosign v2 stores under the given tags. An item that could not
// be read is in the list with its Err. It returns an error if the referrers could
// not be listed.
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

// calledBundle returns 1 if the listing calls d a Sigstore bundle. The listing may
// lie, so this only decides what is fetched first.
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
	a.Descriptor.MediaType, a.Descriptor.Size = types.MediaType(mediaType), int64(len(raw))
	c, err := parseContent(raw, types.MediaType(mediaType))
	if a.Err = err; err != nil {
		return nil
	}
	a.Manifest, a.ArtifactType, a.Annotations, a.Layers = raw, c.kind(), c.Annotations, c.Layers
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
// attachments, and manifests about other images, are left out. It returns an error
// if subject has more than limits.Referrers referrers.
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
