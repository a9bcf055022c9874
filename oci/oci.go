// Package oci reads and writes container images by digest, in registries (OCI
// distribution spec 1.1), in OCI image layouts and in tar archives of them (OCI
// image spec 1.1). It compares everything that it reads with its digest and size.
//
// ParseReference parses the name of an image, Reference.Open opens its repository
// or layout as a Source. Attachments lists everything attached to an image:
// referrers, by the API or the fallback tag, and what cosign v2 keeps under tags.
// Copy and Save copy images. MeasureLayout checks a layout from a stranger byte by
// byte. Digests are "sha256:HEX" (sha512 is read, too), sizes are bytes.
package oci

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrNotFound means that the store answered that it does not have the content. Any
// error that is neither ErrNotFound nor ErrMismatch means that the store did not
// answer, so that nothing is known.
var ErrNotFound = errors.New("not found")

// ErrDenied means that the registry gives the content only to others, or only to those who
// log in. A registry may deny content that it does not have.
var ErrDenied = errors.New("access denied")

// ErrFailing means that the registry answered, and not with what was asked for nor with a reason: it
// is busy or broken, broke off, leads in a circle, or something else answers in its place.
var ErrFailing = errors.New("the registry does not work now")

// ErrMismatch means that the content is there and unacceptable: it does not match
// its digest or size, is malformed, or exceeds a limit. Callers must reject it and
// must not retry.
var ErrMismatch = errors.New("bytes do not match their digest")

// A Source is one repository of a registry, or one OCI layout. What it returns
// matches the digest and size that the caller asked for; manifests are the bytes as
// received. A Source is safe for concurrent use.
type Source interface {
	// Name returns the repository, "registry.example.com/team/app", or the path of
	// the layout.
	Name() string
	// Resolve returns the descriptor of a tag or digest ("sha256:HEX").
	Resolve(ctx context.Context, reference string) (v1.Descriptor, error)
	// Manifest returns a manifest or index of at most limits.Manifest bytes (4 MiB).
	Manifest(ctx context.Context, digest v1.Hash) (raw []byte, mediaType string, err error)
	// Blob streams a blob. The last Read returns ErrMismatch instead of io.EOF if
	// size or digest differ.
	Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// Referrers lists the manifests whose subject is the digest. No referrers is
	// an empty list and no error. The listing may lie, so callers must check the
	// subject in each manifest; Attachments does.
	Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error)
}

// A Target is a Source that can be written. All methods are idempotent.
type Target interface {
	Source
	// PushBlob stores a blob, unless the target has it already. It calls open for
	// the content, again for each attempt.
	PushBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PushManifest stores a manifest or index under its digest. One with a subject
	// is listed among the subject's referrers from then on; if the registry has no
	// referrers API, PushManifest adds it to the fallback tag.
	PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error)
	// Tag sets a tag to a manifest that the target has. If the tag may not move,
	// the error is ErrTagExists.
	Tag(ctx context.Context, tag string, d v1.Descriptor) error
}

// ErrTagExists means that the tag names another manifest and may not move.
var ErrTagExists = errors.New("tag exists and may not move")
