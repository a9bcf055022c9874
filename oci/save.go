package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// maxSaved is how many referrers of an image are copied: a layout that takes
// more entries is not read.
const maxSaved = limits.Referrers - 16

// Save copies the image d with everything that is attached to it or to one of
// its platforms: referrers, and what cosign v2 keeps under tags made of the
// digest. Anybody who may push can attach what cannot be copied, or more than
// anybody reads; that is left out, and returned. Where src could not be asked,
// that is an error.
func Save(ctx context.Context, dst Target, src Source, d v1.Descriptor) (left []error, err error) {
	if err := Copy(ctx, dst, src, d); err != nil {
		return nil, err
	}
	subjects := []v1.Hash{d.Digest}
	if d.MediaType.IsIndex() {
		raw, _, err := src.Manifest(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		index, err := parseContent(raw, d.MediaType)
		if err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			if !slices.Contains(subjects, m.Digest) {
				subjects = append(subjects, m.Digest)
			}
		}
	}
	room := maxSaved
	for _, subject := range subjects {
		out, err := saveAttached(ctx, dst, src, subject, &room)
		if left = append(left, out...); err != nil {
			return left, err
		}
	}
	return left, nil
}

func saveAttached(ctx context.Context, dst Target, src Source, subject v1.Hash, room *int) (left []error, err error) {
	listed, err := src.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	// The listing may lie, so that it only decides who comes first.
	slices.SortStableFunc(listed, func(a, b v1.Descriptor) int { return hint(b) - hint(a) })
	if n := len(listed) - *room; n > 0 {
		left = append(left, fmt.Errorf("%d of the %d referrers of %s: more than %d are not copied", n, len(listed), subject, maxSaved))
		listed = listed[:*room]
	}
	*room -= len(listed)
	failed := make([]error, len(listed))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, d := range listed {
		group.Go(func() error {
			a := fetchAttached(ctx, src, subject, d.Digest)
			if failed[i] = a.Err; a.Err == nil {
				failed[i] = Copy(ctx, dst, src, a.Descriptor)
			}
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		tag := fallbackTag(subject) + suffix
		d, err := src.Resolve(ctx, tag)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			err = Copy(ctx, dst, src, d)
		}
		if err == nil {
			err = dst.Tag(ctx, tag, d)
		}
		failed = append(failed, err)
	}
	for _, err := range failed {
		switch {
		case errors.Is(err, ErrMismatch), errors.Is(err, ErrNotFound):
			left = append(left, err)
		case err != nil:
			return left, err
		}
	}
	return left, nil
}

func hint(d v1.Descriptor) int {
	if d.ArtifactType == attest.BundleMediaType {
		return 1
	}
	return 0
}
