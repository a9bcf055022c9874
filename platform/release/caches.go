package release

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
)

// checkCacheMounts checks a request for kept cache mounts before anything is fetched.
func (j *run) checkCacheMounts() error {
	switch {
	case j.req.Hermetic || j.req.Lock != "":
		return &api.Error{Message: "a hermetic or locked build shows that its inputs are known, but what is in a kept cache mount is not", Hint: "release without --cache-mounts", Kind: api.Usage}
	case !j.CacheMounts:
		return &api.Error{Message: "this platform keeps no cache mounts", Hint: `whoever runs the platform can allow it with "cacheMounts" in its configuration (docs/configuration.md); without --cache-mounts they begin empty`, Kind: api.Usage}
	}
	return nil
}

// canKeep returns an error if this release asks for kept cache mounts, and its builder or
// ref has none.
func (j *run) canKeep() error {
	switch {
	case !j.req.CacheMounts:
		return nil
	case j.recipe.Builder != "buildkit":
		return &api.Error{Message: "the golang builder has no cache mounts", Hint: "release without --cache-mounts", Kind: api.Usage}
	case !strings.HasPrefix(j.commit.Ref, "refs/heads/"):
		ref := j.commit.Ref
		if ref == "" {
			ref = "commit " + j.commit.ID
		}
		return &api.Error{Message: fmt.Sprintf("cache mounts are kept for each branch, but %s is none", ref), Hint: "release tags and commits without --cache-mounts: their cache mounts begin empty, and they can get Build L3", Kind: api.Usage}
	}
	j.emit(api.Event{Phase: "source", Line: "cache mounts are kept between builds of " + j.commit.Ref + ": SLSA Build level 2 at most"})
	return nil
}

// cacheScope returns whose cache mounts the build gets, or nil if they begin empty. All of
// it is what this side found out; the requester's name comes from its token.
func (j *run) cacheScope() *builder.CacheScope {
	if !j.req.CacheMounts {
		return nil
	}
	return &builder.CacheScope{Account: j.actor, Source: j.commit.URI, Ref: j.commit.Ref, Image: j.req.Image, Recipe: j.recipe}
}

// keepCaches ends the build for its cache mounts. Only a build whose image may be signed
// leaves them to the next one. If they cannot be kept, the release goes on: the next build
// is slower.
func (j *run) keepCaches(ctx context.Context, good bool) {
	if j.packed == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := j.Rooms.Keep(ctx, j.packed, good); err != nil {
		j.Log.Warn("cannot keep cache mounts", "image", j.req.Image, "error", err)
	}
	j.packed = ""
}
