package verify

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// compareLocks compares the lock that each valid provenance names with the locks
// attached to the image. A lock may be missing, because the provenance signs its
// digest. But if only other locks are attached, the provenance counts as wrong.
func (c *check) compareLocks(ctx context.Context, list []oci.Attached, ev *evidence) {
	for _, it := range ev.items {
		for _, p := range it.proofs {
			if p.fault() != nil || p.build == nil || p.build.Lock == "" {
				continue
			}
			lock, err := recall(c, c.known, lockKey{c.digest, p.build.Lock}, func() (lockFound, error) {
				state, unsure, err := c.attachedLock(ctx, list, p.build.Lock)
				return lockFound{state, unsure}, err
			})
			p.build.evidence.Lock, p.says = lock.state, err
			if p.says != nil && lock.unsure {
				it.err, it.unread = p.says, true
			}
		}
	}
}

// lockFound is the answer of attachedLock.
type lockFound struct {
	state  string
	unsure bool
}

// attachedLock looks for the lock with the digest want, "sha256:HEX", and returns
// for people whether it is attached. unsure says that it may be among the referrers
// that could not be read.
func (c *check) attachedLock(ctx context.Context, list []oci.Attached, want string) (state string, unsure bool, err error) {
	others, unread, unknown := "", error(nil), error(nil)
	for i := range list {
		a := &list[i]
		switch {
		case a.Tag != "":
			continue
		case a.Err != nil:
			if !permanent(a.Err) {
				unknown = a.Err // it may be this lock, another one, or no lock
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
			return "the lock is attached to the image", false, nil
		case errors.Is(err, oci.ErrMismatch):
			return "", false, fmt.Errorf("lock: %w", err)
		default:
			unread = err
		}
	}
	switch {
	case unread != nil:
		return "the lock could not be read: " + unread.Error(), false, nil
	case others != "":
		return "", unknown != nil, fmt.Errorf("lock attached to the image: got %s, the provenance names %s", others, want)
	}
	return "the lock is not attached to the image", false, nil
}

// readLock checks that a lock can be read, and matches its digest.
func (c *check) readLock(ctx context.Context, d v1.Descriptor) error {
	if len(d.Data) > 0 {
		_, err := oci.Content(ctx, c.src, d, limits.Lock)
		return err
	}
	if d.Size < 0 || d.Size > limits.Lock {
		return fmt.Errorf("%w: size of the lock: got %d bytes, want at most %d", oci.ErrMismatch, d.Size, limits.Lock)
	}
	return readThrough(ctx, c.src, d)
}
