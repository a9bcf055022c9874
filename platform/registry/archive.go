package registry

import (
	"context"
	"fmt"
	"io"
)

// ArchiveAll has the archive keep the evidence that the registry's manifests attach, one manifest after
// another: of those that were pushed before there was an archive. Blobs that were deleted are
// left out. If something is damaged or fails, ArchiveAll goes on with the rest, and then returns an error.
func (r *Registry) ArchiveAll(ctx context.Context) error {
	failed, first := 0, error(nil)
	err := r.store.repositories(func(name string) error {
		for _, alg := range []string{"sha256", "sha512"} {
			err := each(ctx, r.store.repo(name, "manifests", alg), func(file string) error {
				d, err := parseDigest(alg + ":" + file)
				if err != nil {
					return nil // a descriptor
				}
				err = r.archiveStored(ctx, name, d)
				if err == nil || ctx.Err() != nil {
					return err
				}
				if failed++; failed == 1 {
					first = fmt.Errorf("manifest %s of repository %q: %w", d, name, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("the evidence of %d manifests is not archived; the first: %w", failed, first)
	}
	return nil
}

// archiveStored has the archive keep the evidence of a manifest that the registry has.
func (r *Registry) archiveStored(ctx context.Context, name string, d digest) error {
	raw, _, err := r.store.readManifest(name, d)
	if missing(err) {
		return nil // deleted meanwhile
	} else if err == nil {
		err = r.cfg.Archive(ctx, raw, func(listed string) (io.ReadCloser, error) {
			f, _, err := r.openListed(ctx, name, listed)
			if missing(err) {
				return nil, nil // it was deleted
			} else if err != nil {
				return nil, err
			}
			return f, nil
		})
	}
	if damaged(err) {
		r.alarm(err, name)
	}
	return err
}
