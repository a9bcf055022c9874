// Package buildkit builds Dockerfiles (spec/buildkit/v1). Each build runs a new
// buildkitd in a room of its own, controlled by BuildKit's Go client. BuildKit's
// proxy network is enabled, so that BuildKit records every URL that a step fetches.
//
// The package has two halves, which the platform runs as different users. Rooms is
// trusted: it opens the rooms, measures their programs and starts their gateways.
// Builder, which implements builder.Builder, is not trusted: it controls the daemon
// in a room, so it parses data that an untrusted build has influenced. Its results
// are claims.
//
// The resulting layout has an image manifest for one platform, or an image index
// for several; BuildKit's attestations are removed. The same commit gives the same
// digest: BuildKit rewrites timestamps to SOURCE_DATE_EPOCH, the files of the tree
// get that time and one of two modes, and builds share no cache, unless the release
// asks for kept cache mounts.
//
// The frontend is the one inside buildkitd, whose digest is in the record. A line
// "# syntax=docker/dockerfile:…" does not download another frontend, and any other
// syntax is an error. Steps get no entitlement, secret or ssh agent.
package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

// Opener opens the room of a session that the attest zone began. Rooms implements it;
// a builder in a process of its own uses rooms.Client.
type Opener interface {
	Open(ctx context.Context, session string, limits builder.Limits) (Room, error)
}

// Room is an open room with a buildkitd. The caller must always Close it.
type Room interface {
	// Dial connects to buildkitd's API.
	Dial(ctx context.Context) (net.Conn, error)
	// Done is closed when buildkitd has ended.
	Done() <-chan struct{}
	// State returns the room's current state.
	State(ctx context.Context) State
	// Pack ends buildkitd, and stores its state for the next room of the same scope. It
	// returns an error if the room's session keeps no cache mounts.
	Pack(ctx context.Context) error
	// Close ends the room's processes and erases the room. It returns when nothing is
	// left; its error says what could not be erased.
	Close() error
}

// State is the state of a room.
type State struct {
	Ended    bool   `json:"ended"`              // buildkitd has ended
	Exceeded string `json:"exceeded,omitempty"` // the limit that the room reached; empty if none
	Said     string `json:"said,omitempty"`     // the last output of buildkitd
}

// Config describes a Builder.
type Config struct {
	Rooms    Opener
	WallTime time.Duration // maximum duration of one build; zero means 1 h
}

// Builder builds Dockerfiles, each in a room of its own. It is safe for concurrent use.
type Builder struct {
	cfg     Config
	erasing sync.WaitGroup // rooms of finished builds
}

// New returns a Builder.
func New(cfg Config) *Builder {
	cfg.WallTime = wallTime(cfg.WallTime)
	return &Builder{cfg: cfg}
}

// Wait returns when the rooms of all finished builds are erased.
func (b *Builder) Wait() { b.erasing.Wait() }

// Build implements builder.Builder. If the build succeeds, Build may return before the
// room is erased; Wait waits for that.
func (b *Builder) Build(ctx context.Context, req builder.Request) (_ *builder.Result, err error) {
	started := time.Now().UTC()
	root, err := os.OpenRoot(req.Tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tree := newSourceTree(root, req.Epoch)
	opt, seen, err := options(ctx, req, tree)
	if err != nil {
		return nil, err
	}
	defer seen.root.Close()
	roots, err := added(&opt, req)
	for _, r := range roots {
		defer r.Close()
	}
	if err != nil {
		return nil, err
	}
	wall := lower(req.Limits.WallTime, b.cfg.WallTime)
	tooLong := fmt.Errorf("the build exceeded its time limit of %s", wall)
	ctx, cancel := context.WithTimeoutCause(ctx, wall, tooLong)
	defer cancel()

	d, err := b.start(ctx, req)
	if err != nil {
		return nil, ended(ctx, tooLong, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
			return
		}
		b.erasing.Go(func() {
			if err := d.close(); err != nil {
				slog.Error("cannot erase a room; the next start tries again", "error", err)
			}
		})
	}()

	p := &progress{log: req.Log}
	if err := d.solve(ctx, opt, req.Layout, p); err != nil {
		place := func(err error, step string) string { return place(err, tree.root, opt.FrontendAttrs["filename"], step) }
		return nil, seen.explain(d.explain(ctx, tooLong, place, p, err))
	}
	// A step may succeed although a limit killed one of its processes or kept one from
	// starting. Its image may differ from the one that the commit describes, so the
	// build fails.
	if limit := d.room.State(ctx).Exceeded; limit != "" {
		return nil, &builder.Error{Err: errors.New(limit)}
	}
	if foreign := p.foreignBase(); foreign != "" {
		return nil, &builder.Error{Err: errors.New(foreign + " (use FROM --platform=$BUILDPLATFORM only for stages that compile)")}
	}
	digest, prov, err := finish(req.Layout)
	if errors.Is(err, errNoLayers) {
		return nil, &builder.Error{Err: err}
	} else if err != nil {
		return nil, fmt.Errorf("buildkitd's export: %w", err)
	}
	deps, incomplete, err := dependencies(prov)
	if err != nil {
		return nil, fmt.Errorf("buildkitd's provenance: %w", err)
	}
	if req.KeepCaches {
		if err := d.keepCaches(ctx); err != nil {
			p.emit(builder.Event{Step: "cache mounts", Line: "they are not kept: " + err.Error()})
		}
	}
	res := &builder.Result{Digest: digest, Dependencies: deps, Started: started, Finished: time.Now().UTC()}
	if len(incomplete) > 0 {
		raw, err := json.Marshal(incomplete)
		if err != nil {
			return nil, err
		}
		res.Config = map[string]string{"network.incomplete": string(raw)}
	}
	return res, nil
}

// hostPlatform returns the platform to build for if the recipe names none.
func hostPlatform() string { return "linux/" + runtime.GOARCH }
