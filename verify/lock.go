package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// compareLocks compares the locks that are attached with the one that each valid
// provenance names. A lock that is not attached takes nothing away, since its
// digest is signed. That only others are attached does.
func (c *check) compareLocks(ctx context.Context, list *oci.Listing, ev *evidence) {
	for _, it := range ev.items {
		for _, p := range it.proofs {
			if p.fault() != nil || p.build == nil || p.build.Lock == "" {
				continue
			}
			p.build.evidence.Lock, p.says = c.attachedLock(ctx, list, p.build.Lock)
			if p.says != nil && list.Beyond > 0 {
				it.err, it.unread = p.says, true // it may be among those
			}
		}
	}
}

// attachedLock looks for the lock of a digest, sha256:hex, and says for people
// what became of it.
func (c *check) attachedLock(ctx context.Context, list *oci.Listing, want string) (state string, err error) {
	others, unread := "", error(nil)
	for i := range list.Items {
		a := &list.Items[i]
		switch {
		case a.Tag != "":
			continue
		case a.Err != nil:
			if !settled(a.Err) {
				unread = a.Err
			}
			continue
		case a.ArtifactType != attest.LockMediaType || len(a.Layers) != 1:
			continue
		}
		lock := a.Layers[0]
		if lock.Digest.String() != want {
			others = lock.Digest.String()
			continue
		}
		switch err := c.readLock(ctx, lock); {
		case err == nil:
			return "which is attached", nil
		case errors.Is(err, oci.ErrMismatch):
			return "", fmt.Errorf("lock: %w", err)
		default:
			unread = err
		}
	}
	switch {
	case unread != nil:
		return "which could not be read: " + unread.Error(), nil
	case others != "":
		return "", fmt.Errorf("lock: got %s attached to the image, the provenance names %s", others, want)
	}
	return "which is not attached", nil
}

// readLock reads a lock to its end; the source hashes what it hands out.
func (c *check) readLock(ctx context.Context, d v1.Descriptor) error {
	if len(d.Data) > 0 {
		_, err := oci.Content(ctx, c.src, d, limits.Lock)
		return err
	}
	if d.Size < 0 || d.Size > limits.Lock {
		return fmt.Errorf("%w: lock of %d bytes, at most %d are taken", oci.ErrMismatch, d.Size, limits.Lock)
	}
	blob, err := c.src.Blob(ctx, d)
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
