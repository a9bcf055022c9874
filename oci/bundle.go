package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// emptyConfig is the OCI 1.1 empty descriptor's content (image-spec manifest.md).
var emptyConfig = []byte("{}")

// BundleManifest is the OCI 1.1 manifest that carries a Sigstore bundle about
// subject, field by field as cosign v3 writes it. The same arguments give the
// same bytes. predicateType is that of the statement in the bundle; created is
// written in UTC, in whole seconds.
func BundleManifest(subject v1.Descriptor, bundle []byte, predicateType string, created time.Time) ([]byte, error) {
	return artifactManifest(subject, attest.BundleMediaType, bundle, map[string]string{
		attest.AnnotationContent: "dsse-envelope",
		attest.AnnotationType:    predicateType,
		createdAnnotation:        created.UTC().Format(time.RFC3339),
	})
}

const createdAnnotation = "org.opencontainers.image.created"

// artifactManifest has the content as its one layer (image-spec manifest.md,
// "Guidelines for Artifact Usage").
func artifactManifest(subject v1.Descriptor, mediaType types.MediaType, content []byte, annotations map[string]string) ([]byte, error) {
	return json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config: v1.Descriptor{
			MediaType: types.OCIEmptyJSON, Size: int64(len(emptyConfig)), Digest: digestOf(emptyConfig),
			ArtifactType: string(mediaType),
		},
		Layers:       []v1.Descriptor{{MediaType: mediaType, Size: int64(len(content)), Digest: digestOf(content)}},
		Annotations:  annotations,
		Subject:      &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest},
		ArtifactType: string(mediaType),
	})
}

// AttachBundle stores BundleManifest and its blobs at dst and returns the
// manifest's descriptor. Doing it again changes nothing.
func AttachBundle(ctx context.Context, dst Target, subject v1.Descriptor, bundle []byte, predicateType string, created time.Time) (v1.Descriptor, error) {
	if len(bundle) > limits.Bundle {
		return v1.Descriptor{}, fmt.Errorf("bundle of %d bytes, at most %d are taken", len(bundle), limits.Bundle)
	}
	raw, err := BundleManifest(subject, bundle, predicateType, created)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return attach(ctx, dst, raw, attest.BundleMediaType, bundle)
}

// AttachFile stores a file about subject at dst: an artifact of the file's media
// type with the file as its one layer. Doing it again changes nothing.
func AttachFile(ctx context.Context, dst Target, subject v1.Descriptor, mediaType types.MediaType, content []byte, created time.Time) (v1.Descriptor, error) {
	raw, err := artifactManifest(subject, mediaType, content, map[string]string{createdAnnotation: created.UTC().Format(time.RFC3339)})
	if err != nil {
		return v1.Descriptor{}, err
	}
	return attach(ctx, dst, raw, mediaType, content)
}

func attach(ctx context.Context, dst Target, manifest []byte, mediaType types.MediaType, content []byte) (v1.Descriptor, error) {
	group, gctx := errgroup.WithContext(ctx)
	for mediaType, blob := range map[types.MediaType][]byte{types.OCIEmptyJSON: emptyConfig, mediaType: content} {
		d := v1.Descriptor{MediaType: mediaType, Digest: digestOf(blob), Size: int64(len(blob))}
		group.Go(func() error {
			return dst.PushBlob(gctx, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
		})
	}
	if err := group.Wait(); err != nil {
		return v1.Descriptor{}, err
	}
	return dst.PushManifest(ctx, manifest, string(types.OCIManifestSchema1))
}

// Attached is one manifest that a store lists as a referrer. Fields beside
// Descriptor and Err come from the manifest, never from the listing.
type Attached struct {
	Descriptor   v1.Descriptor // digest as listed; media type and size of the manifest once it was fetched
	Manifest     []byte        // as received
	ArtifactType string        // the manifest's, or its config's media type
	Annotations  map[string]string
	Layers       []v1.Descriptor
	Bundle       []byte // content of the one layer of a Sigstore bundle; checked against its digest, not parsed
	Err          error  // why this one could not be had: ErrMismatch, ErrNotFound, or the store failed
}

// IsBundle says whether the manifest holds a Sigstore bundle, or says that it
// does. What a listing calls it plays no part, and older clients name no
// artifact type.
func (a *Attached) IsBundle() bool {
	return a.ArtifactType == attest.BundleMediaType || len(a.Layers) == 1 && attest.IsBundleMediaType(string(a.Layers[0].MediaType))
}

// errForeign marks a manifest that was listed and is about something else.
var errForeign = errors.New("not a referrer of this image")

// bundlesTotal bounds what Bundles holds in memory at once.
const bundlesTotal = 8 * limits.Bundle

// Attachments fetches all referrers of subject with their manifests, in the
// order of their digests. A candidate that cannot be had is there with its
// Err; a listing that fails is an error.
func Attachments(ctx context.Context, src Source, subject v1.Hash) ([]Attached, error) {
	list, err := src.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	if len(list) > limits.Referrers {
		return nil, fmt.Errorf("%s has more than %d referrers", subject, limits.Referrers)
	}
	found := make([]Attached, len(list))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, d := range list {
		group.Go(func() error {
			found[i] = fetchAttached(ctx, src, subject, d.Digest)
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
	slices.SortFunc(found, func(a, b Attached) int {
		return cmp.Compare(a.Descriptor.Digest.String(), b.Descriptor.Digest.String())
	})
	return found, ctx.Err()
}

func fetchAttached(ctx context.Context, src Source, subject, digest v1.Hash) Attached {
	a := Attached{Descriptor: v1.Descriptor{Digest: digest}}
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		a.Err = err
		return a
	}
	a.Descriptor.MediaType, a.Descriptor.Size = types.MediaType(mediaType), int64(len(raw))
	c, err := parseContent(raw, types.MediaType(mediaType))
	if err != nil {
		a.Err = err
		return a
	}
	a.Manifest, a.ArtifactType, a.Annotations, a.Layers = raw, c.kind(), c.Annotations, c.Layers
	switch {
	case c.Subject == nil:
		a.Err = &refusal{fmt.Errorf("manifest %s has no subject, want %s: %w", digest, subject, errForeign)}
	case c.Subject.Digest != subject:
		a.Err = &refusal{fmt.Errorf("subject of manifest %s: got %s, want %s: %w", digest, c.Subject.Digest, subject, errForeign)}
	}
	return a
}

// Bundles returns the Sigstore bundles attached to subject, and the
// candidates of which it could not be told (Err set). What is attached and is
// something else, or is listed and about another image, is left out.
func Bundles(ctx context.Context, src Source, subject v1.Hash) ([]Attached, error) {
	all, err := Attachments(ctx, src, subject)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(a Attached) bool {
		return errors.Is(a.Err, errForeign) || a.Err == nil && !a.IsBundle()
	})
	FetchBundles(ctx, src, all)
	return all, ctx.Err()
}

// FetchBundles fills in Bundle, or Err, of those that are bundles.
func FetchBundles(ctx context.Context, src Source, attached []Attached) {
	var group errgroup.Group
	group.SetLimit(parallel)
	var total int64
	for i := range attached {
		a := &attached[i]
		if a.Err != nil || !a.IsBundle() {
			continue
		}
		if a.Err = checkBundleLayer(a); a.Err != nil {
			continue
		}
		if total += a.Layers[0].Size; total > bundlesTotal {
			a.Err = fmt.Errorf("bundles attached to one image have more than %d bytes", int64(bundlesTotal))
			continue
		}
		group.Go(func() error {
			a.Bundle, a.Err = readBlob(ctx, src, a.Layers[0], limits.Bundle)
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
}

func checkBundleLayer(a *Attached) error {
	if len(a.Layers) != 1 {
		return refuse("bundle manifest %s: got %d layers, want 1", a.Descriptor.Digest, len(a.Layers))
	}
	if got := a.Layers[0].MediaType; !attest.IsBundleMediaType(string(got)) {
		return refuse("bundle manifest %s: got a layer of type %q, want %q", a.Descriptor.Digest, got, attest.BundleMediaType)
	}
	return nil
}
