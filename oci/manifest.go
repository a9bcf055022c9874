package oci

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// A refusal is an error about content that was received and is not acceptable. It
// is ErrMismatch, because callers treat both alike: reject, and do not retry.
type refusal struct{ err error }

func refuse(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }

func (r *refusal) Error() string        { return r.err.Error() }
func (r *refusal) Unwrap() error        { return r.err }
func (r *refusal) Is(target error) bool { return target == ErrMismatch }

// content has the members of image manifests and of indexes, so that one strict
// parse finds out which of the two a document is.
type content struct {
	SchemaVersion int64             `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *v1.Descriptor    `json:"config"`
	Layers        []v1.Descriptor   `json:"layers"`
	Manifests     []v1.Descriptor   `json:"manifests"`
	Subject       *v1.Descriptor    `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseContent parses a manifest or index. mediaType is what the store says that it
// is. A digest covers only the bytes, so parseContent refuses a document that two
// readers could take for different things.
func parseContent(raw []byte, mediaType types.MediaType) (*content, error) {
	return parseListing(raw, mediaType, limits.IndexManifests)
}

// parseListing is parseContent for an index of up to most manifests.
func parseListing(raw []byte, mediaType types.MediaType, most int) (*content, error) {
	c, err := decodeContent(raw)
	if err == nil {
		err = c.check(mediaType, most)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func decodeContent(raw []byte) (*content, error) {
	c := new(content)
	if err := strict.Unmarshal(raw, limits.Manifest, c); err != nil {
		return nil, refuse("manifest: %w", err)
	}
	return c, nil
}

// check refuses what parseListing refuses, and sets the media type if c gives none.
func (c *content) check(mediaType types.MediaType, most int) error {
	if c.SchemaVersion != 2 {
		return refuse("manifest schema version: got %d, want 2", c.SchemaVersion)
	}
	if c.MediaType == "" {
		c.MediaType = mediaType // optional in OCI manifests
	}
	if c.MediaType != mediaType {
		return refuse("media type of the manifest: got %q, the store says %q", c.MediaType, mediaType)
	}
	switch {
	case mediaType.IsIndex():
		if c.Config != nil || c.Layers != nil {
			return refuse("index has the config or layers of a manifest")
		}
		if len(c.Manifests) > most {
			return refuse("index: got %d manifests, want at most %d", len(c.Manifests), most)
		}
	case mediaType.IsImage():
		if c.Manifests != nil {
			return refuse("manifest has the manifests of an index")
		}
		if c.Config == nil {
			return refuse("manifest has no config")
		}
		if len(c.Layers) > limits.Layers {
			return refuse("manifest: got %d layers, want at most %d", len(c.Layers), limits.Layers)
		}
	default:
		return refuse("media type of the manifest: got %q, want that of an image manifest or index", mediaType)
	}
	for _, d := range c.parts() {
		if d.Size < 0 || d.Digest.Hex == "" {
			return refuse("descriptor in the manifest: got digest %q and size %d", d.Digest.String(), d.Size)
		}
	}
	return nil
}

// parts returns all descriptors of the document except its subject, config first.
func (c *content) parts() []v1.Descriptor {
	var parts []v1.Descriptor
	if c.Config != nil {
		parts = append(parts, *c.Config)
	}
	parts = append(parts, c.Layers...)
	return append(parts, c.Manifests...)
}

// kind returns the artifact type as the referrers API defines it: the media type of
// the config if the manifest has no artifactType.
func (c *content) kind() string {
	if c.ArtifactType == "" && c.Config != nil {
		return string(c.Config.MediaType)
	}
	return c.ArtifactType
}

// parseUntyped is parseContent for a document from a store that keeps no media types.
func parseUntyped(raw []byte) (*content, error) {
	c, err := decodeContent(raw)
	if err == nil {
		err = c.check(c.guessMediaType(), limits.IndexManifests)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// guessMediaType returns the media type that c gives, or else that of its form.
func (c *content) guessMediaType() types.MediaType {
	switch {
	case c.MediaType != "":
		return c.MediaType
	case c.Manifests != nil:
		return types.OCIImageIndex
	}
	return types.OCIManifestSchema1
}

// newHash returns the hash function of h's algorithm.
func newHash(h v1.Hash) (hash.Hash, error) {
	switch h.Algorithm {
	case "sha256":
		return sha256.New(), nil
	case "sha512":
		return sha512.New(), nil
	}
	return nil, refuse("digest %q: algorithm %q is not known", h.String(), h.Algorithm)
}

// checkDigest compares received bytes with the digest that was asked for.
func checkDigest(raw []byte, want v1.Hash) error {
	sum, err := newHash(want)
	if err != nil {
		return err
	}
	sum.Write(raw)
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return fmt.Errorf("digest: got %s:%s, want %s: %w", want.Algorithm, got, want, ErrMismatch)
	}
	return nil
}

func digestOf(raw []byte) v1.Hash {
	sum := sha256.Sum256(raw)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// verifyingReader reads a blob, and ends with ErrMismatch instead of io.EOF if the
// blob does not match its descriptor. It returns no bytes beyond the descriptor's
// size.
type verifyingReader struct {
	inner io.ReadCloser
	want  v1.Descriptor
	sum   hash.Hash
	left  int64
	err   error
}

// openVerifying returns what open returns, verified while it is read.
func openVerifying(open func() (io.ReadCloser, error), want v1.Descriptor) (io.ReadCloser, error) {
	rc, err := open()
	if err != nil {
		return nil, err
	}
	return verifying(rc, want)
}

func verifying(inner io.ReadCloser, want v1.Descriptor) (io.ReadCloser, error) {
	if r, ok := inner.(*verifyingReader); ok && r.left == want.Size && r.want.Size == want.Size && r.want.Digest == want.Digest {
		return r, nil // from the start, and for the same bytes
	}
	sum, err := newHash(want.Digest)
	if err == nil && (want.Size < 0 || want.Size > limits.LayerPacked) {
		err = refuse("size of blob %s: got %d bytes, want at most %d", want.Digest, want.Size, int64(limits.LayerPacked))
	}
	if err != nil {
		inner.Close()
		return nil, err
	}
	return &verifyingReader{inner: inner, want: want, sum: sum, left: want.Size}, nil
}

func (r *verifyingReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		r.err = r.end()
		return 0, r.err
	}
	n, err := r.inner.Read(p[:min(int64(len(p)), r.left)])
	r.sum.Write(p[:n])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		r.err = fmt.Errorf("blob %s: got %d bytes, want %d: %w", r.want.Digest, r.want.Size-r.left, r.want.Size, ErrMismatch)
	} else if err != nil && !errors.Is(err, io.EOF) {
		r.err = fmt.Errorf("blob %s: %w", r.want.Digest, err)
	}
	if r.left == 0 && r.err == nil {
		// The last bytes are given only if all are right: whoever gets all of an upload may answer at once.
		if r.err = r.end(); !errors.Is(r.err, io.EOF) {
			return 0, r.err
		}
		return n, nil
	}
	return n, r.err
}

// end checks that the blob ends here, and that its digest matches.
func (r *verifyingReader) end() error {
	var extra [1]byte
	if n, err := io.ReadFull(r.inner, extra[:]); n > 0 {
		return fmt.Errorf("blob %s: got more than the %d bytes of its descriptor: %w", r.want.Digest, r.want.Size, ErrMismatch)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("blob %s: %w", r.want.Digest, err)
	}
	if got := hex.EncodeToString(r.sum.Sum(nil)); got != r.want.Digest.Hex {
		return fmt.Errorf("blob digest: got %s:%s, want %s: %w", r.want.Digest.Algorithm, got, r.want.Digest, ErrMismatch)
	}
	return io.EOF
}

func (r *verifyingReader) Close() error { return r.inner.Close() }

// readBlob returns the content of a blob of at most max bytes.
func readBlob(ctx context.Context, src Source, d v1.Descriptor, max int) ([]byte, error) {
	if d.Size > int64(max) {
		return nil, refuse("size of blob %s: got %d bytes, want at most %d", d.Digest, d.Size, max)
	}
	rc, err := src.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return strict.ReadSized(rc, d.Size, max)
}
