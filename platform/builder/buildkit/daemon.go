package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"

	"github.com/colophon-build/colophon/platform/builder"
)

// daemon is one build's buildkitd in its room.
type daemon struct {
	room   Room
	client *client.Client
}

// start opens a room and waits until its buildkitd answers.
func (b *Builder) start(ctx context.Context, req builder.Request) (_ *daemon, err error) {
	d := &daemon{}
	if d.room, err = b.cfg.Rooms.Open(ctx, req.Session, req.Limits); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	d.client, err = client.New(ctx, "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return d.room.Dial(ctx)
	}))
	if err != nil {
		return nil, err
	}
	return d, d.ready(ctx)
}

// ready waits until buildkitd answers, or ends.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		call, done := context.WithTimeout(ctx, 2*time.Second)
		_, err := d.client.ListWorkers(call)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-d.room.Done():
			return fmt.Errorf("buildkitd ended while it started: %s", d.room.State(ctx).Said)
		case <-ctx.Done():
			return fmt.Errorf("buildkitd does not answer: %w: %s", err, d.room.State(context.WithoutCancel(ctx)).Said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ended returns err, or tooLong if that is why the build ended.
func ended(ctx context.Context, tooLong, err error) error {
	if context.Cause(ctx) == tooLong {
		return &builder.Error{Err: tooLong}
	}
	return err
}

// explain turns the error of a failed solve into one that the caller can act on: the
// context's error if it was cancelled, a *builder.Error for an exceeded limit or a
// failed step, or another error if the builder itself failed. place says where in the
// Dockerfile a step is.
func (d *daemon) explain(ctx context.Context, tooLong error, place func(err error, step string) string, p *progress, err error) error {
	name, cause := p.failure()
	step := at(place(err, name), name)
	if grpcerrors.Code(err) == codes.DeadlineExceeded { // buildkitd has our deadline, and may see it first
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	switch {
	case ctx.Err() != nil && context.Cause(ctx) == tooLong:
		return &builder.Error{Step: p.last(), Err: tooLong}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	switch st := d.room.State(ctx); {
	case st.Exceeded != "":
		return &builder.Error{Step: step, Err: errors.New(st.Exceeded)}
	case st.Ended:
		return fmt.Errorf("buildkitd ended during the build: %w: %s", err, st.Said)
	}
	if strings.HasPrefix(name, "[internal] load metadata for ") {
		// If the registry cannot be reached, BuildKit reports the mirror's "not found".
		cause += " (neither the platform's mirror nor the registry provided this base image)"
	}
	if cause != "" {
		return &builder.Error{Step: step, Err: errors.New(cause)}
	}
	if _, ours := errors.AsType[*builder.LayoutError](err); ours {
		return err
	}
	return &builder.Error{Step: step, Err: errors.New(plain(err.Error()))}
}

// keepCaches removes everything but the cache mounts from buildkitd's state, and has the
// room keep the rest. A later build then runs all its steps and fetches its base images
// again.
func (d *daemon) keepCaches(ctx context.Context) error {
	others := client.PruneInfo{All: true, Filter: []string{"type!=" + string(client.UsageRecordTypeCacheMount)}}
	if err := d.client.Prune(ctx, nil, pruneOption(others)); err != nil {
		return err
	}
	left, err := d.client.DiskUsage(ctx)
	if err != nil {
		return err
	}
	for _, u := range left {
		if u.RecordType != client.UsageRecordTypeCacheMount {
			return fmt.Errorf("a cache mount began with files of the build (from=), and only those that begin empty are kept: %s", u.Description)
		}
	}
	return d.room.Pack(ctx)
}

type pruneOption client.PruneInfo

func (o pruneOption) SetPruneOption(p *client.PruneInfo) { *p = client.PruneInfo(o) }

// close ends the daemon and erases its room.
func (d *daemon) close() error {
	if d.client != nil {
		d.client.Close()
	}
	return d.room.Close()
}
