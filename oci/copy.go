package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

const parallel = 8 // transfers at a time

// maxDepth is the maximum depth of a document: an index of image manifests.
const maxDepth = 2

// Copy copies the manifest or index d and everything it consists of from src to
// dst. It copies blobs first, then manifests, then the index, so that dst never
// lists an incomplete image. It copies no referrers and no tags. After a failure, a
// second call continues where the first one stopped.
func Copy(ctx context.Context, dst Target, src Source, d v1.Descriptor) error {
	c := copier{src: src, seen: map[v1.Hash]bool{}}
	if err := c.read(ctx, d); err != nil {
		return err
	}
	return c.write(ctx, dst, d)
}

// read reads all manifests of d.
func (c *copier) read(ctx context.Context, d v1.Descriptor) error {
	if err := c.walk(ctx, d); err != nil {
		return fmt.Errorf("copying %s from %s: %w", d.Digest, c.src.Name(), err)
	}
	return nil
}

// write copies what was read.
func (c *copier) write(ctx context.Context, dst Target, d v1.Descriptor) error {
	err := c.writeParts(ctx, dst)
	if err == nil {
		_, err = dst.PushManifest(ctx, c.top.raw, c.top.mediaType)
	}
	return copying(d, dst, err)
}

// copying says which copy failed.
func copying(d v1.Descriptor, dst Target, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("copying %s to %s: %w", d.Digest, dst.Name(), err)
}

// writeParts copies all that was read but the top.
func (c *copier) writeParts(ctx context.Context, dst Target) error {
	push := pusher(dst, c.src)
	err := inParallel(ctx, c.blobs, func(ctx context.Context, blob v1.Descriptor) error {
		if c.empty != nil && blob.Digest == digestOf(emptyConfig) && blob.Size == int64(len(emptyConfig)) {
			return c.empty()
		}
		err := push(ctx, blob, func() (io.ReadCloser, error) {
			if int64(len(blob.Data)) == blob.Size && checkDigest(blob.Data, blob.Digest) == nil {
				return io.NopCloser(bytes.NewReader(blob.Data)), nil
			}
			return c.src.Blob(ctx, blob)
		})
		if err == nil && c.copied != nil {
			c.copied(blob)
		}
		return err
	})
	if err != nil {
		return err
	}
	return inParallel(ctx, c.below, func(ctx context.Context, m document) error {
		_, err := dst.PushManifest(ctx, m.raw, m.mediaType)
		return err
	})
}

// inParallel calls do for each of all, until one fails.
func inParallel[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, one := range all {
		group.Go(func() error { return do(ctx, one) })
	}
	return group.Wait()
}

// pusher returns dst.PushBlob, or if src is a repository of the same registry a function
// that lets the registry take the blob from there.
func pusher(dst Target, src Source) func(context.Context, v1.Descriptor, func() (io.ReadCloser, error)) error {
	to, toRegistry := dst.(*Registry)
	from, fromRegistry := src.(*Registry)
	if !toRegistry || !fromRegistry || to.base.Host != from.base.Host || to.base.Scheme != from.base.Scheme {
		return dst.PushBlob
	}
	return func(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
		return to.pushBlob(ctx, d, strings.TrimPrefix(from.base.Path, "/v2/"), open)
	}
}

type document struct {
	raw       []byte
	mediaType string
	content   *content
}

// copier collects what to copy, each digest once.
type copier struct {
	src     Source
	seen    map[v1.Hash]bool
	part    bool                // copy an index without the manifests that src does not have
	missing []error             // with part: one for each
	copied  func(v1.Descriptor) // may be nil
	empty   func() error        // pushes emptyConfig, which other copies push, too; may be nil
	blobs   []v1.Descriptor
	top     document
	below   []document // the manifests of an index
}

// walk reads d and, if it is an index, its manifests.
func (c *copier) walk(ctx context.Context, d v1.Descriptor) error {
	top, err := c.document(ctx, d)
	if err != nil {
		return err
	}
	c.seen[d.Digest] = true
	if c.top = top; !d.MediaType.IsIndex() {
		c.addBlobs(top, true)
		return nil
	}
	var children []v1.Descriptor
	for _, child := range top.content.Manifests {
		if !c.seen[child.Digest] {
			c.seen[child.Digest] = true
			children = append(children, child)
		}
	}
	images, missing := make([]document, len(children)), make([]error, len(children))
	places := make([]int, len(children))
	for i := range places {
		places[i] = i
	}
	err = inParallel(ctx, places, func(ctx context.Context, i int) (err error) {
		images[i], err = c.document(ctx, children[i])
		switch {
		case c.part && errors.Is(err, ErrNotFound):
			missing[i] = fmt.Errorf("manifest %s of the index %s: %w", children[i].Digest, d.Digest, err)
			return nil
		case err == nil && children[i].MediaType.IsIndex():
			return refuse("index %s is nested deeper than %d", children[i].Digest, maxDepth)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, image := range images {
		if missing[i] != nil {
			c.missing = append(c.missing, missing[i])
		} else {
			c.addBlobs(image, false) // the data of many manifests need not stay in memory
			image.content = nil
			c.below = append(c.below, image)
		}
	}
	if n := len(c.missing); n > 0 && n == len(children) {
		return fmt.Errorf("index %s: none of its manifests is there: %w", d.Digest, ErrNotFound)
	}
	return nil
}

// document reads a manifest and compares it with its descriptor.
func (c *copier) document(ctx context.Context, d v1.Descriptor) (document, error) {
	raw, mediaType, err := c.src.Manifest(ctx, d.Digest)
	if err != nil {
		return document{}, err
	}
	if d.Size != int64(len(raw)) || string(d.MediaType) != mediaType {
		return document{}, refuse("manifest %s: got %s of %d bytes, want %s of %d", d.Digest, mediaType, len(raw), d.MediaType, d.Size)
	}
	m, err := parseContent(raw, d.MediaType)
	return document{raw, mediaType, m}, err
}

// addBlobs collects the blobs of an image, with the data that their descriptors may have.
func (c *copier) addBlobs(image document, data bool) {
	for _, b := range image.content.parts() {
		if !c.seen[b.Digest] {
			c.seen[b.Digest] = true
			if !data {
				b.Data = nil
			}
			c.blobs = append(c.blobs, b)
		}
	}
}
