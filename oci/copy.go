package oci

import (
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
	return (&copier{src: src, seen: map[v1.Hash]bool{}}).copy(ctx, dst, d)
}

func (c *copier) copy(ctx context.Context, dst Target, d v1.Descriptor) error {
	src := c.src
	if err := c.walk(ctx, d, 1); err != nil {
		return fmt.Errorf("copying %s from %s: %w", d.Digest, src.Name(), err)
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	push := pusher(dst, src)
	for _, blob := range c.blobs {
		group.Go(func() error {
			err := push(gctx, blob, func() (io.ReadCloser, error) { return src.Blob(gctx, blob) })
			if err == nil && c.copied != nil {
				c.copied(blob)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("copying %s to %s: %w", d.Digest, dst.Name(), err)
	}
	for _, level := range [][]document{c.images, c.indexes} {
		group, gctx := errgroup.WithContext(ctx)
		group.SetLimit(parallel)
		for _, m := range level {
			group.Go(func() error {
				_, err := dst.PushManifest(gctx, m.raw, m.mediaType)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("copying %s to %s: %w", d.Digest, dst.Name(), err)
		}
	}
	return nil
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
}

// copier collects what to copy, each digest once.
type copier struct {
	src     Source
	seen    map[v1.Hash]bool
	part    bool                // copy an index without the manifests that src does not have
	missing []error             // with part: one for each
	copied  func(v1.Descriptor) // may be nil
	blobs   []v1.Descriptor
	images  []document
	indexes []document // with maxDepth 2 there is one at most
}

func (c *copier) walk(ctx context.Context, d v1.Descriptor, depth int) error {
	if c.seen[d.Digest] {
		return nil
	}
	c.seen[d.Digest] = true
	raw, mediaType, err := c.src.Manifest(ctx, d.Digest)
	if err != nil {
		return err
	}
	if d.Size != int64(len(raw)) || string(d.MediaType) != mediaType {
		return refuse("manifest %s: got %s of %d bytes, want %s of %d", d.Digest, mediaType, len(raw), d.MediaType, d.Size)
	}
	m, err := parseContent(raw, d.MediaType)
	if err != nil {
		return err
	}
	if !d.MediaType.IsIndex() {
		c.images = append(c.images, document{raw, mediaType})
		for _, b := range m.parts() {
			if !c.seen[b.Digest] {
				c.seen[b.Digest] = true
				c.blobs = append(c.blobs, b)
			}
		}
		return nil
	}
	if depth >= maxDepth {
		return refuse("index %s is nested deeper than %d", d.Digest, maxDepth)
	}
	c.indexes = append(c.indexes, document{raw, mediaType})
	for _, child := range m.Manifests {
		switch err := c.walk(ctx, child, depth+1); {
		case c.part && errors.Is(err, ErrNotFound):
			c.missing = append(c.missing, fmt.Errorf("manifest %s of the index %s: %w", child.Digest, d.Digest, err))
		case err != nil:
			return err
		}
	}
	if n := len(c.missing); n > 0 && n == len(m.Manifests) {
		return fmt.Errorf("index %s: none of its manifests is there: %w", d.Digest, ErrNotFound)
	}
	return nil
}
