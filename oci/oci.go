// Package oci reads and writes images by digest: registries, OCI layouts, and
// referrers with the fallback tag done right (OCI image and distribution 1.1).
package oci

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNotFound says that the store answered, and does not have the thing.
// Anything else but ErrMismatch means that the store could not be asked.
var ErrNotFound = errors.New("not found")

// ErrMismatch says that a store handed out bytes that are not what their
// digest or size says. Callers reject; they never retry elsewhere silently.
var ErrMismatch = errors.New("bytes do not match their digest")

// A Source is one repository of a registry, or one OCI layout. Whatever it
// returns has been checked against the digest and size it was asked for;
// manifests are returned as the bytes received. Safe for concurrent use.
type Source interface {
	// Name is the repository ("127.0.0.1:8080/team/app") or the layout's path.
	Name() string
	// Resolve turns a tag or a digest ("sha256:…") into a descriptor.
	Resolve(ctx context.Context, reference string) (v1.Descriptor, error)
	// Manifest returns a manifest or index. At most limits.Manifest bytes.
	Manifest(ctx context.Context, digest v1.Hash) (raw []byte, mediaType string, err error)
	// Blob streams a blob. The last Read returns ErrMismatch instead of io.EOF
	// where size or digest differ.
	Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// Referrers lists the manifests whose subject is the digest, from the
	// referrers API or the fallback tag; none is an empty list, not an error.
	// Content decides, never the listing: callers check the subject themselves.
	Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error)
}

// A Target is a Source that takes content. All methods are idempotent.
type Target interface {
	Source
	// PushBlob uploads unless the target has it already.
	PushBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PushManifest stores raw by digest; with a subject it also appears among
	// the subject's referrers (the fallback tag is kept where the API is missing).
	PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error)
	// Tag points tag at a manifest that is already there. Where the registry
	// refuses to move a tag the error matches ErrTagExists.
	Tag(ctx context.Context, tag string, d v1.Descriptor) error
}

// ErrTagExists says that a tag points elsewhere and may not move.
var ErrTagExists = errors.New("tag exists and may not move")
