package release

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

// Declared fetches the commit of a request without an image and returns the names of the
// images that it declares. Each of them is released by a request of its own, for which Run
// reads the declaration again.
func (r *Releaser) Declared(ctx context.Context, req api.ReleaseRequest, emit func(api.Event)) (*api.Declared, error) {
	done, err := r.turn(ctx, func() { emit(api.Event{Time: time.Now().UTC(), Phase: "queue", Step: waitsForTurn}) })
	if err != nil {
		return nil, err
	}
	defer done()
	j := &run{Releaser: r, req: req}
	j.report(emit)
	if j.dir, err = os.MkdirTemp(filepath.Join(r.Dir, "work"), "declared-"); err != nil {
		return nil, err
	}
	defer func() {
		if err := os.RemoveAll(j.dir); err != nil {
			r.Log.Error("cannot remove the files of a request", "error", err)
		}
	}()
	read, err := j.readCommit(ctx)
	if err != nil {
		return nil, err
	}
	return &api.Declared{Commit: read.Commit.ID, Images: append([]string{}, read.Images...)}, nil
}

// turn waits until fewer than Concurrent requests run. It calls waits before it does.
func (r *Releaser) turn(ctx context.Context, waits func()) (done func(), err error) {
	done = func() { <-r.turns }
	select {
	case r.turns <- struct{}{}:
		return done, nil
	default:
		waits()
	}
	select {
	case r.turns <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
