package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
)

// maxSaved is the maximum number of referrers that Save copies. A layout has at most
// limits.Referrers entries, and three of cosign's tags for each platform need room, too.
const maxSaved = limits.Referrers - 4*limits.IndexManifests

// maxAsked is the maximum number of referrers that Save asks for what is attached to them.
const maxAsked = 512

// Save copies the image d with everything attached to it or to one of its platforms:
// referrers, and what cosign v2 stores under tags; and what is attached to a referrer, such as
// the signature of an SBOM. The image comes last. Unless tag is "", it then has that tag;
// ErrTagExists means that the tag names another image.
//
// Everybody who may push can attach something that cannot be copied, that others could run
// as an image, or too much. Save leaves that out, and platforms that src does not have, and
// returns it in left, one error each. If src does not answer, Save returns err. It calls
// copied, unless that is nil, for each layer and configuration of the image that dst has
// then; several calls may run at once.
func Save(ctx context.Context, dst Target, src Source, d v1.Descriptor, tag string, copied func(v1.Descriptor)) (left []error, err error) {
	image := copier{src: src, seen: map[v1.Hash]bool{}, part: true, copied: copied}
	if err := image.read(ctx, d); err != nil {
		return nil, err
	}
	subjects, err := platforms(ctx, src, d)
	if err != nil {
		return image.missing, err
	}
	group, gctx := errgroup.WithContext(ctx)
	parts := make(chan struct{}) // closed when dst has all that the image consists of
	s := saver{dst: dst, src: src, room: maxSaved}
	s.empty = sync.OnceValue(func() error { return TryAttach(gctx, dst) })
	s.image = sync.OnceValue(func() error {
		select {
		case <-parts:
		case <-gctx.Done():
			return context.Cause(gctx)
		}
		_, err := dst.PushManifest(gctx, image.top.raw, image.top.mediaType)
		return copying(d, dst, err)
	})
	group.Go(func() error {
		if err := image.writeParts(gctx, dst); err != nil {
			return copying(d, dst, err)
		}
		close(parts)
		return nil
	})
	group.Go(func() (err error) {
		left, err = s.tree(gctx, subjects, maxAsked)
		return err
	})
	if err = group.Wait(); err == nil {
		err = image.finish(ctx, dst, d, tag)
	}
	return append(image.missing, left...), err
}

// finish stores the top, whose parts dst has, under its digest and the tag.
func (c *copier) finish(ctx context.Context, dst Target, d v1.Descriptor, tag string) error {
	if r, ok := dst.(*Registry); ok && tag != "" && c.top.content.Subject == nil { // one request does it
		return r.tag(ctx, tag, d, c.top.raw, c.top.mediaType)
	}
	if _, err := dst.PushManifest(ctx, c.top.raw, c.top.mediaType); err != nil || tag == "" {
		return copying(d, dst, err)
	}
	return dst.Tag(ctx, tag, d)
}

// saver copies what is attached to an image. It does so while the layers of the image are
// copied, so that whoever sees the image sees its proofs.
type saver struct {
	dst   Target
	src   Source
	image func() error // waits until dst has the image
	empty func() error // pushes emptyConfig once
	room  int          // how many more referrers may be copied
}

// tree copies what is attached to the subjects, and what is attached to the first
// referrers in turn.
func (s *saver) tree(ctx context.Context, subjects []v1.Hash, ask int) (left []error, err error) {
	for deep := false; len(subjects) > 0; deep = true {
		var next []v1.Hash
		for _, subject := range subjects {
			saved, more, out, err := s.attached(ctx, subject, ask)
			if deep { // a list of what others are about is not what is attached here
				out = slices.DeleteFunc(out, func(err error) bool { return errors.Is(err, errForeign) })
			}
			if left = append(left, out...); err != nil {
				return left, err
			}
			if deep && len(left) > maxSaved {
				return append(left, errors.New("too much cannot be copied: nothing more is")), nil
			}
			if n := saved - ask; n > 0 {
				left = append(left, fmt.Errorf("what is attached to %d of the referrers of %s: only the first referrers are asked", n, subject))
			}
			ask = max(ask-saved, 0)
			next = append(next, more...)
		}
		subjects = next
	}
	return left, nil
}

// platforms returns the digest of an image and those of the manifests in its index.
func platforms(ctx context.Context, src Source, d v1.Descriptor) (all []v1.Hash, err error) {
	all = []v1.Hash{d.Digest}
	if !d.MediaType.IsIndex() {
		return all, nil
	}
	raw, _, err := src.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	index, err := parseContent(raw, d.MediaType)
	if err != nil {
		return nil, err
	}
	for _, m := range index.Manifests {
		if !slices.Contains(all, m.Digest) {
			all = append(all, m.Digest)
		}
	}
	return all, nil
}

// hasAttachments reports whether something is attached to subject.
func hasAttachments(ctx context.Context, src Source, subject v1.Hash) (bool, error) {
	referrers, err := src.Referrers(ctx, subject)
	if len(referrers) > 0 || err != nil && noAPI(err) == nil {
		return true, err
	}
	for _, tag := range []CosignTag{CosignSignatures, CosignAttestations} {
		if _, err := src.Resolve(ctx, tag.Of(subject)); !errors.Is(err, ErrNotFound) {
			return true, err
		}
	}
	return false, nil
}

// attached copies what is attached to subject. It returns how many referrers are among it, and
// which of them have something attached in turn; it asks the first ones.
func (s *saver) attached(ctx context.Context, subject v1.Hash, ask int) (saved int, more []v1.Hash, left []error, err error) {
	list, err := Attachments(ctx, s.src, subject, CosignSignatures, CosignAttestations, CosignSBOM)
	if err != nil {
		return 0, nil, nil, err
	}
	slices.SortStableFunc(list, func(a, b Attached) int { return cmp.Compare(a.packed(), b.packed()) })
	var items []Attached
	beyond := 0
	for _, a := range list {
		switch {
		case a.Tag != "":
		case s.room == 0:
			beyond++
			continue
		case a.Err == nil:
			s.room--
		}
		items = append(items, a)
	}
	if beyond > 0 {
		left = append(left, fmt.Errorf("%d of the referrers of %s: more than %d are not copied", beyond, subject, maxSaved))
	}
	failed, has, unknown := make([]error, len(items)), make([]bool, len(items)), make([]error, len(items))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, a := range items {
		group.Go(func() error {
			failed[i] = s.copy(ctx, subject, a)
			return nil
		})
	}
	for i, a := range items {
		if a.Tag == "" && a.Err == nil && ask > 0 {
			ask--
			group.Go(func() error {
				has[i], unknown[i] = hasAttachments(ctx, s.src, a.Descriptor.Digest)
				return nil
			})
		}
	}
	_ = group.Wait() // no task fails: each keeps its own error
	for i, err := range failed {
		switch {
		case errors.Is(err, ErrMismatch), errors.Is(err, ErrNotFound):
			left = append(left, err)
		case err != nil:
			return saved, nil, left, err
		case items[i].Tag != "":
		case unknown[i] != nil:
			return saved, nil, left, unknown[i]
		default:
			saved++
			if has[i] {
				more = append(more, items[i].Descriptor.Digest)
			}
		}
	}
	return saved, more, left, nil
}

func (s *saver) copy(ctx context.Context, subject v1.Hash, a Attached) error {
	if a.Err != nil {
		return a.Err
	}
	// Tools that read layouts do not look at the subject: they would run it.
	if err := CheckAttachment(ctx, s.src, a.Descriptor); err != nil {
		return err
	}
	c := copier{src: s.src, seen: map[v1.Hash]bool{}, empty: s.empty}
	err := c.read(ctx, a.Descriptor)
	if err == nil {
		err = c.write(ctx, s.dst, a.Descriptor)
	}
	// Image and referrers may be pushed in either order (distribution spec 1.1, "Pushing
	// Manifests with Subject"). Not every registry knows that.
	if a.Tag == "" && hasStatus(err, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity) && s.image != nil {
		if err = s.image(); err == nil {
			err = c.write(ctx, s.dst, a.Descriptor)
		}
	}
	if err != nil || a.Tag == "" {
		return err
	}
	return s.dst.Tag(ctx, a.Tag.Of(subject), a.Descriptor)
}
