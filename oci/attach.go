package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// emptyConfig is the OCI 1.1 empty descriptor's content (image-spec manifest.md).
var emptyConfig = []byte("{}")

// maxInline is the size in bytes up to which an attached file is also written into
// the manifest that attaches it, as the "data" of its layer (OCI image spec,
// descriptor.md), so that one request fetches both. In base64 it stays far below
// the 4 MiB that registries accept for a manifest.
const maxInline = 512 << 10

// BundleManifest returns the OCI 1.1 manifest that attaches a Sigstore bundle to
// subject, with the fields that cosign v3 writes. A bundle of at most 512 KiB is
// also inside the manifest. The same arguments give the same bytes. predicateType is
// the predicate type of the bundle's statement; created is written in UTC, in whole
// seconds.
func BundleManifest(subject v1.Descriptor, bundle []byte, predicateType string, created time.Time) ([]byte, error) {
	return artifactManifest(subject, attest.BundleMediaType, bundle, map[string]string{
		attest.AnnotationContent: "dsse-envelope",
		attest.AnnotationType:    predicateType,
		createdAnnotation:        created.UTC().Format(time.RFC3339),
	})
}

const createdAnnotation = "org.opencontainers.image.created"

// artifactManifest returns a manifest with the content as its one layer (image-spec
// manifest.md, "Guidelines for Artifact Usage").
func artifactManifest(subject v1.Descriptor, mediaType types.MediaType, content []byte, annotations map[string]string) ([]byte, error) {
	layer := v1.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: digestOf(content)}
	if len(content) <= maxInline {
		layer.Data = content
	}
	return json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config: v1.Descriptor{
			MediaType: types.OCIEmptyJSON, Size: int64(len(emptyConfig)), Digest: digestOf(emptyConfig),
			ArtifactType: string(mediaType),
		},
		Layers:       []v1.Descriptor{layer},
		Annotations:  annotations,
		Subject:      &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest},
		ArtifactType: string(mediaType),
	})
}

// AttachBundle attaches a Sigstore bundle to subject at dst: it stores
// BundleManifest and its blobs, and returns the descriptor of the manifest.
// Repeating it changes nothing.
func AttachBundle(ctx context.Context, dst Target, subject v1.Descriptor, bundle []byte, predicateType string, created time.Time) (v1.Descriptor, error) {
	if len(bundle) > limits.Bundle {
		return v1.Descriptor{}, fmt.Errorf("size of the bundle: got %d bytes, want at most %d", len(bundle), limits.Bundle)
	}
	raw, err := BundleManifest(subject, bundle, predicateType, created)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return attach(ctx, dst, raw, attest.BundleMediaType, bundle)
}

// TryAttach stores the one part that all attachments share, unless dst has it already. A store
// that takes no attachment, for example because this client may only read, is so found
// before anything is signed for it.
func TryAttach(ctx context.Context, dst Target) error {
	return pushContent(ctx, dst, types.OCIEmptyJSON, emptyConfig)
}

func pushContent(ctx context.Context, dst Target, mediaType types.MediaType, content []byte) error {
	d := v1.Descriptor{MediaType: mediaType, Digest: digestOf(content), Size: int64(len(content))}
	return dst.PushBlob(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
}

// AttachFile attaches a file to subject at dst: an artifact of the given media type
// with the file as its one layer. It returns the descriptor of the manifest.
// Repeating it changes nothing.
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
		group.Go(func() error { return pushContent(gctx, dst, mediaType, blob) })
	}
	if err := group.Wait(); err != nil {
		return v1.Descriptor{}, err
	}
	return dst.PushManifest(ctx, manifest, string(types.OCIManifestSchema1))
}
