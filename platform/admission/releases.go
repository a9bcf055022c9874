package admission

import (
	"context"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/api"
)

const (
	releasesEvery = 10 * time.Second
	maxReleases   = 1000 // the newest ones of a platform
)

// fromPlatform names the newest releases of a platform, until ctx ends. file is the platform's
// client.json, with the token that asks for them.
func (f *filler) fromPlatform(ctx context.Context, file string) {
	said, last := "", ""
	for ctx.Err() == nil {
		images, newest, err := releases(ctx, file, last)
		switch {
		case err == nil:
			if said = ""; newest != last {
				last = newest
				f.name("platform", images)
			}
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			f.h.Log.Error("the releases of the platform cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(releasesEvery)):
		}
	}
}

// releases returns the images that a platform released last, unless the newest release is the last
// one that was seen.
func releases(ctx context.Context, file, last string) (images []imagelist.Image, newest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	platform, err := api.ReadConfig(file) // again each time: tokens are renewed
	if err != nil {
		return nil, "", err
	}
	filter := api.RunFilter{State: api.Released, Limit: 1}
	runs, err := platform.Runs(ctx, filter)
	if err != nil || len(runs) == 0 || runs[0].ID == last {
		return nil, last, err
	}
	filter.Limit = maxReleases
	if runs, err = platform.Runs(ctx, filter); err != nil || len(runs) == 0 {
		return nil, last, err
	}
	for _, run := range runs[:min(len(runs), maxReleases)] {
		if run.Result == nil {
			continue
		}
		name := run.Result.Image + "@" + run.Result.Digest
		if ref, err := oci.ParseReference(name); err == nil {
			images = append(images, imagelist.Image{Name: name, Reference: ref})
		}
	}
	return images, runs[0].ID, nil
}
