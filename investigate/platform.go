package investigate

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
)

const (
	maxReleases = 500  // that a platform is asked for
	maxTags     = 1000 // that are resolved
)

// Platform is what a platform remembers.
type Platform interface {
	Runs(ctx context.Context, f api.RunFilter) ([]api.Run, error)
	KeptWith(ctx context.Context, leaf string, after int64) (*api.KeptList, error)
	Content(ctx context.Context, k api.Kept) ([]byte, error)
}

// ReleasesAsker asks a platform for the releases of the commit, or of a builder all.
func ReleasesAsker(p Platform, name string) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		f := api.RunFilter{Limit: maxReleases, Commit: in.commitID()}
		r := Reply{Asked: name, Query: "releases of commit " + f.Commit}
		if in.Subject.Kind == Builder {
			r.Query = "releases"
		} else if f.Commit == "" {
			return r, NotAskedFor("no proof that holds names a commit")
		}
		runs, err := p.Runs(ctx, f)
		r.Facts.Releases = []Release{}
		for _, run := range runs {
			one := Release{ID: run.ID, State: string(run.State), Image: run.Image, Source: run.Source, Ref: run.Ref, Commit: run.Commit, Actor: run.Actor, Asked: run.Asked, Ended: run.Ended}
			if run.Result != nil {
				one.Digest, one.Tags = run.Result.Digest, run.Result.Tags
				if in.Subject.Kind == Builder && run.Result.Builder != in.Subject.Name {
					continue
				}
			}
			r.Facts.Releases = append(r.Facts.Releases, one)
		}
		return r, err
	}
}

// remembered returns where a platform saw a ref lead, also in releases that failed.
func remembered(ctx context.Context, p Platform, uri, ref string) ([]RefMove, error) {
	runs, err := p.Runs(ctx, api.RunFilter{Limit: maxReleases, Source: uri, Ref: ref})
	var out []RefMove
	for _, run := range runs {
		if run.Commit == "" {
			continue
		}
		move := RefMove{Time: run.Asked, Ref: run.Ref, Commit: run.Commit} // as it was asked for: a short name may be a tag or a branch
		if run.Result != nil {
			move.Ref = run.Result.Source.Ref
		}
		out = append(out, move)
	}
	return out, err
}

// PlatformArchive is the archive of a platform.
type PlatformArchive struct{ Platform }

// Bundle implements Archive.
func (a PlatformArchive) Bundle(ctx context.Context, leaf string) ([]byte, error) {
	list, err := a.KeptWith(ctx, leaf, 0)
	if err != nil {
		return nil, err
	}
	for _, k := range list.Kept {
		if k.Form == api.FormBundle {
			return a.Content(ctx, k)
		}
	}
	return nil, nil
}

// TagsAsker returns which of the tags of the repository lead to the image now.
func TagsAsker(reg *oci.Registry) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		r := Reply{Asked: reg.Name(), Query: "tags"}
		if in.Subject.Digest == "" {
			return r, NotAskedFor("the digest is not known")
		}
		tags, _, err := reg.Tags(ctx)
		if err != nil {
			return r, err
		}
		tags = tags[:min(len(tags), maxTags)]
		leads := make([]bool, len(tags))
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(16)
		for i, t := range tags {
			if _, _, attachment := oci.ParseAttachmentTag(t); attachment {
				continue
			}
			group.Go(func() error {
				d, err := reg.Resolve(ctx, t)
				if errors.Is(err, oci.ErrNotFound) {
					return nil // it was deleted meanwhile
				}
				leads[i] = err == nil && d.Digest.String() == in.Subject.Digest
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return r, err
		}
		r.Facts.Tags = []Tag{}
		for i, t := range tags {
			if leads[i] {
				r.Facts.Tags = append(r.Facts.Tags, Tag{reg.Name() + ":" + t, in.Subject.Digest})
			}
		}
		return r, nil
	}
}
