package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
)

// maxSaved is the maximum number of referrers that Save copies. A layout has at most
// limits.Referrers entries, and three of cosign's tags for each platform need room, too.
const maxSaved = limits.Referrers - 4*limits.IndexManifests

// Save copies the image d with everything attached to it or to one of its
// platforms: referrers, and what cosign v2 stores under tags. Everybody who may push
// can attach something that cannot be copied, that others could run as an image, or too
// much. Save leaves that out, and platforms that src does not have, and returns it in
// left, one error each. If src does not answer, Save returns err. It calls copied, unless
// that is nil, for each layer and configuration of the image that dst has then; several calls may run at once.
func Save(ctx context.Context, dst Target, src Source, d v1.Descriptor, copied func(v1.Descriptor)) (left []error, err error) {
	image := copier{src: src, seen: map[v1.Hash]bool{}, part: true, copied: copied}
	if err := image.copy(ctx, dst, d); err != nil {
		return nil, err
	}
	left = image.missing
	subjects := []v1.Hash{d.Digest}
	if d.MediaType.IsIndex() {
		raw, _, err := src.Manifest(ctx, d.Digest)
		if err != nil {
			return left, err
		}
		index, err := parseContent(raw, d.MediaType)
		if err != nil {
			return left, err
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
	list, err := Attachments(ctx, src, subject, CosignSignatures, CosignAttestations, CosignSBOM)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b Attached) int { return cmp.Compare(a.packed(), b.packed()) })
	var items []Attached
	beyond := 0
	for _, a := range list {
		switch {
		case a.Tag != "":
		case *room == 0:
			beyond++
			continue
		case a.Err == nil:
			*room--
		}
		items = append(items, a)
	}
	if beyond > 0 {
		left = append(left, fmt.Errorf("%d of the referrers of %s: more than %d are not copied", beyond, subject, maxSaved))
	}
	failed := make([]error, len(items))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, a := range items {
		group.Go(func() error {
			failed[i] = copyAttached(ctx, dst, src, subject, a)
			return nil
		})
	}
	_ = group.Wait() // no task fails: each keeps its own error
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

func copyAttached(ctx context.Context, dst Target, src Source, subject v1.Hash, a Attached) error {
	if a.Err != nil {
		return a.Err
	}
	// Tools that read layouts do not look at the subject: they would run it.
	if err := CheckAttachment(ctx, src, a.Descriptor); err != nil {
		return err
	}
	if err := Copy(ctx, dst, src, a.Descriptor); err != nil || a.Tag == "" {
		return err
	}
	return dst.Tag(ctx, a.Tag.Of(subject), a.Descriptor)
}
