package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// image reads every byte of image d: the index, its manifests, their configurations and
// layers. The source compares each with its digest. Of a layout, other tools must take
// the same image for the reference.
func (c *check) image(ctx context.Context, reference string, d v1.Descriptor) Link {
	link := Link{Name: LinkImage}
	platforms, err := readImage(ctx, c.src, d.Digest)
	if layout, ok := c.src.(*oci.Layout); ok && err == nil {
		err = layout.CheckSole(ctx, reference, d)
	}
	if err != nil {
		link.Status, link.Reason = statusOf(err), err.Error()
		return link
	}
	link.Status = Holds
	link.Claim = fmt.Sprintf("%s; %s these bytes", strings.Join(platforms, ", "), c.serves())
	return link
}

func (c *check) serves() string {
	if c.opts.Layout {
		return "the layout holds"
	}
	return "the registry serves"
}

// statusOf returns the status of a link whose evidence gave err: broken if the
// content is wrong, absent if it is missing, unknown if the source did not answer.
func statusOf(err error) Status {
	switch {
	case errors.Is(err, oci.ErrMismatch), errors.Is(err, errImage):
		return Broken
	case errors.Is(err, oci.ErrNotFound):
		return Absent
	}
	return Unknown
}

// errImage means that the image's own documents are malformed or contradict each other.
var errImage = errors.New("malformed image")

// reader reads what one image consists of, each blob once.
type reader struct {
	src   oci.Source
	group *errgroup.Group
	ctx   context.Context
	mu    sync.Mutex
	seen  map[string]bool // by digest and size, so that a descriptor with a wrong size is read, too
}

// readImage returns the platforms of the image, "linux/amd64", once all of it was read.
func readImage(ctx context.Context, src oci.Source, digest v1.Hash) (platforms []string, err error) {
	r := &reader{src: src, seen: make(map[string]bool)}
	r.group, r.ctx = errgroup.WithContext(ctx)
	r.group.SetLimit(parallel)
	var index v1.IndexManifest
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	if !types.MediaType(mediaType).IsIndex() {
		platform, err := r.manifest(digest, raw, mediaType, nil)
		return []string{platform}, errors.Join(err, r.group.Wait())
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return nil, fmt.Errorf("%w: index %s: %w", errImage, digest, err)
	}
	if n := len(index.Manifests); n == 0 || n > limits.IndexManifests {
		return nil, fmt.Errorf("%w: index of %d manifests, want 1 to %d", errImage, n, limits.IndexManifests)
	}
	// Manifests have their own group: they start layers in r.group, which may be full.
	var manifests errgroup.Group
	manifests.SetLimit(parallel)
	platforms = make([]string, len(index.Manifests))
	for i, d := range index.Manifests {
		manifests.Go(func() error {
			raw, mediaType, err := src.Manifest(r.ctx, d.Digest)
			if err != nil {
				return fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			platforms[i], err = r.manifest(d.Digest, raw, mediaType, d.Platform)
			return err
		})
	}
	return platforms, errors.Join(manifests.Wait(), r.group.Wait())
}

// manifest reads the configuration, and starts to read the layers. want is the
// platform that the index gives the manifest, or nil.
func (r *reader) manifest(digest v1.Hash, raw []byte, mediaType string, want *v1.Platform) (string, error) {
	var m v1.Manifest
	if !types.MediaType(mediaType).IsImage() {
		return "", fmt.Errorf("%w: manifest %s: media type: got %q, want that of an image manifest", errImage, digest, mediaType)
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return "", fmt.Errorf("%w: manifest %s: %w", errImage, digest, err)
	}
	if n := len(m.Layers); n > limits.Layers {
		return "", fmt.Errorf("%w: manifest %s: got %d layers, want at most %d", errImage, digest, n, limits.Layers)
	}
	for _, l := range m.Layers {
		if l.Size < 0 || l.Size > limits.LayerPacked {
			return "", fmt.Errorf("%w: size of layer %s: got %d bytes, want at most %d", errImage, l.Digest, l.Size, limits.LayerPacked)
		}
		if r.first(l) {
			r.group.Go(func() error { return r.layer(l) })
		}
	}
	return r.config(m.Config, want)
}

// first reports whether d was not seen before.
func (r *reader) first(d v1.Descriptor) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprint(d.Digest, d.Size)
	seen := r.seen[key]
	r.seen[key] = true
	return !seen
}

func (r *reader) layer(d v1.Descriptor) error {
	if err := readThrough(r.ctx, r.src, d); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return nil
}

// readThrough reads a blob to its end and checks its size. The source compares
// the content with the digest.
func readThrough(ctx context.Context, src oci.Source, d v1.Descriptor) error {
	blob, err := src.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(blob, d.Size+1))
	if err == nil && n != d.Size {
		err = fmt.Errorf("%w: got %d bytes, want %d", oci.ErrMismatch, n, d.Size)
	}
	return err
}

// config reads the configuration and returns its platform, which must be the one
// that the index gives, if want is not nil.
func (r *reader) config(d v1.Descriptor, want *v1.Platform) (string, error) {
	if d.Size < 0 || d.Size > limits.Config {
		return "", fmt.Errorf("%w: size of configuration %s: got %d bytes, want at most %d", errImage, d.Digest, d.Size, limits.Config)
	}
	blob, err := r.src.Blob(r.ctx, d)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	defer blob.Close()
	raw, err := strict.Read(blob, limits.Config)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	var c struct {
		OS   string `json:"os"`
		Arch string `json:"architecture"`
	}
	if err := strict.Unmarshal(raw, limits.Config, &c); err != nil {
		return "", fmt.Errorf("%w: configuration %s: %w", errImage, d.Digest, err)
	}
	got := c.OS + "/" + c.Arch
	if want == nil {
		return got, nil
	}
	named := want.OS + "/" + want.Architecture
	if named == "unknown/unknown" {
		// BuildKit's attestation manifests have this platform.
		return "attachment", nil
	}
	if named != got {
		return "", fmt.Errorf("%w: platform of configuration %s: got %q, want %q", errImage, d.Digest, got, named)
	}
	return got, nil
}
