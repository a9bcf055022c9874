// Package buildkit builds Dockerfiles: a fresh buildkitd in a sealed room for
// each build, driven through BuildKit's Go client, with BuildKit's proxy network
// on so that every URL a step fetches is recorded. The build type is defined in
// spec/buildkit/v1.
//
// It has two halves, which the platform runs as different users. Rooms opens
// the rooms, measures what they are made of and holds their gateways: what it
// says is the trusted side's word. Builder implements builder.Builder: it drives
// the daemon in a room and so parses what a stranger's build made of it; what
// it says is a claim.
//
// The layout that comes out holds the image manifest for one platform and an
// image index for more than one, as BuildKit gives it without attestations. The
// same commit gives the same digest: timestamps are rewritten to
// SOURCE_DATE_EPOCH, files of the tree get that time and one of two modes, and
// nothing is kept from build to build.
//
// The frontend is the one inside buildkitd, whose digest is in the record: a
// "# syntax=docker/dockerfile:…" line does not make another one be fetched, and
// any other syntax is an error. Steps get no entitlement, secret or ssh agent.
package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

// Opener opens the room of a session that the attest zone began. Rooms is one;
// a builder that is a process of its own asks for them over a socket.
type Opener interface {
	Open(ctx context.Context, session string, limits builder.Limits) (Room, error)
}

// Room is an open room with a buildkitd. Close it, always.
type Room interface {
	// Dial connects to buildkitd's API.
	Dial(ctx context.Context) (net.Conn, error)
	// Done is closed when buildkitd has ended.
	Done() <-chan struct{}
	// State is how the room is now.
	State(ctx context.Context) State
	// Close ends what runs in the room and erases it. It returns when nothing is
	// left, or with what could not be erased.
	Close() error
}

// State of a room.
type State struct {
	Ended    bool   `json:"ended"`              // buildkitd has
	Exceeded string `json:"exceeded,omitempty"` // the limit that the room ran into
	Said     string `json:"said,omitempty"`     // the last that buildkitd printed
}

// Config of a Builder.
type Config struct {
	Rooms    Opener
	WallTime time.Duration // most that one build may take; zero is 1 h
}

// Builder builds Dockerfiles. Safe for concurrent use; each build has a room.
type Builder struct {
	cfg     Config
	erasing sync.WaitGroup // rooms of finished builds
}

// New makes a Builder.
func New(cfg Config) *Builder {
	cfg.WallTime = wallTime(cfg.WallTime)
	return &Builder{cfg: cfg}
}

// Wait returns when the rooms of all finished builds are erased.
func (b *Builder) Wait() { b.erasing.Wait() }

// Build implements builder.Builder. The files of a build that succeeded may still
// be being erased when it returns (see Wait).
func (b *Builder) Build(ctx context.Context, req builder.Request) (_ *builder.Result, err error) {
	started := time.Now().UTC()
	opt, err := b.options(req)
	if err != nil {
		return nil, err
	}
	wall := lower(req.Limits.WallTime, b.cfg.WallTime)
	tooLong := fmt.Errorf("took longer than the limit of %s", wall)
	ctx, cancel := context.WithTimeoutCause(ctx, wall, tooLong)
	defer cancel()

	d, err := b.start(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
			return
		}
		b.erasing.Go(func() {
			if err := d.close(); err != nil {
				slog.Error("a room could not be erased; the next start tries again", "error", err)
			}
		})
	}()

	p := &progress{log: req.Log}
	if err := d.solve(ctx, opt, req.Layout, p); err != nil {
		return nil, d.explain(ctx, tooLong, p, err)
	}
	// A step may go on where a process of its was killed or could not start;
	// an image that depends on that is not the one the commit describes.
	if limit := d.room.State(ctx).Exceeded; limit != "" {
		return nil, &builder.Error{Err: errors.New(limit)}
	}
	if foreign := p.foreignBase(); foreign != "" {
		return nil, &builder.Error{Err: errors.New(foreign + "; FROM --platform=$BUILDPLATFORM is for stages that only compile")}
	}
	digest, prov, err := finish(req.Layout)
	if errors.Is(err, errNoLayers) {
		return nil, &builder.Error{Err: err}
	} else if err != nil {
		return nil, fmt.Errorf("what buildkitd exported: %w", err)
	}
	deps, incomplete, err := dependencies(prov)
	if err != nil {
		return nil, fmt.Errorf("what buildkitd recorded: %w", err)
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

// hostPlatform is what is built where the recipe names no platform.
func hostPlatform() string { return "linux/" + runtime.GOARCH }
