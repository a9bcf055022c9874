package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// pinned is what the fetches of a build were held to, as its provenance says.
type pinned struct {
	hermetic bool
	lock     string // hex sha256; empty where the build type has none, or nothing was pinned
	attached string // what became of the lock beside the image
}

// readPinned fails where a provenance claims more than it names: by the build
// type's spec, a build that says it was hermetic or locked names the lock.
func readPinned(def attest.BuildDefinition, params attest.ExternalParameters) (pinned, error) {
	p := pinned{hermetic: params.Hermetic}
	if params.Hermetic && params.Lock != "" {
		return p, errors.New("external parameters: hermetic, and held to a lock that was brought: a build is one or the other")
	}
	if def.BuildType == attest.BuildTypeGolang {
		if params.Lock != "" {
			return p, fmt.Errorf("external parameters: got lock %q, and build type %s has none", params.Lock, def.BuildType)
		}
		return p, nil
	}
	if !params.Hermetic && params.Lock == "" {
		return p, nil
	}
	for _, d := range def.ResolvedDependencies {
		if d.Name != "lock" || d.MediaType != attest.LockMediaType {
			continue
		}
		if p.lock != "" {
			return p, errors.New("resolved dependencies: two locks, want one")
		}
		p.lock = d.Digest["sha256"]
		if raw, err := hex.DecodeString(p.lock); err != nil || len(raw) != 32 || p.lock != strings.ToLower(p.lock) {
			return p, fmt.Errorf("resolved dependencies: lock: got sha256 %q, want 64 hex digits", p.lock)
		}
	}
	switch {
	case p.lock == "" && params.Hermetic:
		return p, errors.New("external parameters: hermetic, and the resolved dependencies name no lock, which is what that means")
	case p.lock == "":
		return p, fmt.Errorf("external parameters: lock %q, and the resolved dependencies name none", params.Lock)
	case params.Lock != "" && params.Lock != "sha256:"+p.lock:
		return p, fmt.Errorf("lock: the external parameters say %q, the resolved dependencies %q", params.Lock, "sha256:"+p.lock)
	}
	return p, nil
}

// String says it for people; empty where nothing was pinned.
func (p pinned) String() string {
	switch {
	case p.lock == "" && p.hermetic:
		return "hermetic: built twice with the same result, compiled without a network"
	case p.lock == "":
		return ""
	case p.hermetic:
		return "hermetic: built again from the lock sha256:" + p.lock + " with the same result; " + p.attached
	}
	return "nothing was fetched but what is in the lock sha256:" + p.lock + "; " + p.attached
}

// checkLocks holds each provenance that names a lock to those that are attached
// to the image. One that is not there takes nothing away, since the digest is
// signed; another one in its place does.
func (c *check) checkLocks(ctx context.Context, image v1.Hash, listed []v1.Descriptor, ev *evidence) {
	for _, cand := range ev.candidates {
		if !cand.good() || cand.prov == nil || cand.prov.built.pinned.lock == "" {
			continue
		}
		pin := &cand.prov.built.pinned
		pin.attached, cand.err = c.attachedLock(ctx, image, listed, pin.lock)
		if cand.err != nil && ev.skipped > 0 {
			cand.missing = true // it may be among those
		}
	}
}

func (c *check) attachedLock(ctx context.Context, image v1.Hash, listed []v1.Descriptor, want string) (state string, err error) {
	others, unread := "", error(nil)
	for _, d := range listed {
		if d.ArtifactType != attest.LockMediaType {
			continue
		}
		raw, _, err := c.src.Manifest(ctx, d.Digest)
		if err != nil {
			unread = err
			continue
		}
		var m struct {
			Subject *v1.Descriptor  `json:"subject"`
			Layers  []v1.Descriptor `json:"layers"`
		}
		if unmarshal(raw, &m) != nil || m.Subject == nil || m.Subject.Digest != image || len(m.Layers) != 1 {
			continue
		}
		lock := m.Layers[0]
		if lock.Digest != (v1.Hash{Algorithm: "sha256", Hex: want}) {
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
		return "", fmt.Errorf("lock: got %s attached to the image, the provenance names sha256:%s", others, want)
	}
	return "which is not attached", nil
}

// readLock reads a lock to its end; the source hashes what it hands out.
func (c *check) readLock(ctx context.Context, d v1.Descriptor) error {
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
