package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// pending is a release under way, as Dir/queue/ID.json keeps it. It is there
// before the requester hears of the release, and until the release ends.
//
// A release that ends before it published anything leaves nothing, and is only
// told of: asking again does it. One that had begun to publish is finished by
// whoever starts next, from the layout that was measured: it is in the log by
// then, and building again may give other bytes.
type pending struct {
	ID      string             `json:"id"`
	Request api.ReleaseRequest `json:"request"`
	Started time.Time          `json:"started"`
	Begun   *begun             `json:"begun,omitempty"` // what is published; nil before
}

// begun is all that publishing needs. Its layout is measured again: what lay on
// a disk across a crash is checked like what came from a builder.
type begun struct {
	Commit source.Commit `json:"commit"`
	Tags   []string      `json:"tags"`
	Recipe attest.Recipe `json:"recipe"`
	Dir    string        `json:"dir"` // of the work, below Dir/work
	Built  built         `json:"built"`
	Digest string        `json:"digest"`
}

// maxPending bounds one entry: a request, and the dependencies of a build.
const maxPending = limits.Release + limits.Statement + 1<<20

func (r *Releaser) entry(id string) string { return filepath.Join(r.Dir, "queue", id+".json") }

// accept keeps the request and makes the place for its work.
func (j *run) accept() (err error) {
	if err := j.save(nil); err != nil {
		return err
	}
	j.dir, err = os.MkdirTemp(filepath.Join(j.Dir, "work"), "release-")
	return err
}

func (j *run) save(b *begun) error {
	data, err := json.Marshal(pending{ID: j.id, Request: j.req, Started: j.started, Begun: b})
	if err != nil {
		return err
	}
	return durable.WriteFile(j.entry(j.id), data, 0o600)
}

// leave removes what accept made, but for a release that is cut off by Close in
// the middle of publishing.
func (j *run) leave() {
	if j.begun && !j.done && j.closing.Err() != nil {
		return
	}
	// The entry last: without its layout it could not be finished.
	if err := errors.Join(os.Remove(j.entry(j.id)), os.RemoveAll(j.dir)); err != nil {
		j.Log.Error("what a release left", "id", j.id, "error", err)
	}
}

// commitTo makes the release run to its end: from here on neither the requester
// nor a crash can leave it half published. The context that it returns ends with
// Close alone.
func (j *run) commitTo(ctx context.Context, b *built, m *oci.Measured) (context.Context, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	err := j.save(&begun{
		Commit: j.commit, Tags: j.tags, Recipe: j.recipe, Dir: filepath.Base(j.dir), Built: *b, Digest: m.Descriptor.Digest.String(),
	})
	if err != nil {
		return nil, nil, err
	}
	j.begun = true
	ctx, done := j.untilClose(ctx)
	return ctx, done, nil
}

// untilClose keeps the values of ctx, and not its end.
func (r *Releaser) untilClose(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(r.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// Close cuts off what is being published; the next Resume goes on with it.
// Releases that had not come so far end with the context of their Run.
func (r *Releaser) Close() { r.close() }

// sweep reads the queue of an earlier process and removes the work that nobody goes on with.
func (r *Releaser) sweep() error {
	names, err := filepath.Glob(filepath.Join(r.Dir, "queue", "*"))
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, name := range names {
		p, err := readPending(name)
		if err == nil && p.Begun != nil {
			r.unfinished = append(r.unfinished, *p)
			keep[p.Begun.Dir] = true
			continue
		}
		if err != nil { // a temporary file of a write that was cut, or a disk that failed
			r.Log.Warn("an entry of the release queue cannot be read, and is dropped", "file", name, "error", err)
		} else {
			r.Log.Warn("a release ended before it published anything; asking again does it", "id", p.ID, "image", p.Request.Image, "ref", p.Request.Ref)
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(filepath.Join(r.Dir, "work"))
	for _, e := range left {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(r.Dir, "work", e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("sweeping unfinished releases: %w", err)
	}
	return nil
}

func readPending(name string) (*pending, error) {
	data, err := strict.ReadFile(name, maxPending)
	if err != nil {
		return nil, err
	}
	var p pending
	if err := strict.UnmarshalKnown(data, maxPending, &p); err != nil {
		return nil, err
	}
	if p.ID+".json" != filepath.Base(name) {
		return nil, fmt.Errorf("id: got %q, want that of the file", p.ID)
	}
	if b := p.Begun; b != nil && (filepath.Base(b.Dir) != b.Dir || !strings.HasPrefix(b.Dir, "release-")) {
		return nil, fmt.Errorf("directory of the work: got %q", b.Dir)
	}
	return &p, nil
}

// Resume goes on with the releases that an earlier process had begun to publish.
// Their images are theirs before it returns: call it before new requests are
// taken, and then run what it returns, which ends with them.
func (r *Releaser) Resume() (finish func()) {
	var all sync.WaitGroup
	start := make(chan struct{})
	mine := map[string]func(){} // unlocks, by image
	for _, p := range r.unfinished {
		if _, twice := mine[p.Request.Image]; !twice {
			unlock, err := r.lock(r.closing, p.Request.Image)
			if err != nil { // closed already
				break
			}
			mine[p.Request.Image] = unlock
		}
	}
	for _, p := range r.unfinished {
		unlock := mine[p.Request.Image]
		mine[p.Request.Image] = nil
		all.Go(func() {
			<-start
			if unlock == nil {
				var err error
				if unlock, err = r.lock(r.closing, p.Request.Image); err != nil {
					return
				}
			}
			defer unlock()
			log := r.Log.With("id", p.ID, "image", p.Request.Image, "ref", p.Request.Ref)
			switch rel, err := r.resume(p); {
			case err == nil:
				log.Info("finished a release that an earlier process had begun to publish", "digest", rel.Digest, "tags", rel.Tags)
			case r.closing.Err() == nil:
				log.Error("a release that an earlier process had begun to publish cannot be finished; asking again may", "error", err)
			}
		})
	}
	r.unfinished = nil
	return func() { close(start); all.Wait() }
}

// resumeTries is how often finishing is tried: what the release needs may be
// starting at the same time.
const resumeTries = 5

func (r *Releaser) resume(p pending) (*api.Release, error) {
	b := p.Begun
	j := &run{
		Releaser: r, req: p.Request, id: p.ID, started: p.Started, dir: filepath.Join(r.Dir, "work", b.Dir),
		commit: b.Commit, tags: b.Tags, recipe: b.Recipe, lockSum: b.Built.Lock, begun: true, resumed: true,
	}
	j.report(func(api.Event) {})
	defer j.leave()
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-r.closing.Done():
		return nil, r.closing.Err()
	}
	var err error
	if j.builder, err = j.builderFor(j.recipe); err != nil {
		return nil, err
	}
	if err := j.openTarget(); err != nil {
		return nil, err
	}
	b.Built.Layout = filepath.Join(j.dir, "layout")
	m, err := oci.MeasureLayout(b.Built.Layout)
	if err != nil {
		return nil, fmt.Errorf("the layout that was to be published: %w", err)
	}
	if got := m.Descriptor.Digest.String(); got != b.Digest {
		return nil, fmt.Errorf("the layout that was to be published: got %s, want %s", got, b.Digest)
	}
	ctx, done := j.untilClose(context.Background())
	defer done()
	for try := 1; ; try++ {
		if err = j.release(ctx, &b.Built, m); err == nil {
			j.resumed = true
			return j.finished()
		}
		if try == resumeTries || ctx.Err() != nil {
			return nil, err
		}
		j.digest = ""
		j.Log.Warn("finishing a release", "id", j.id, "try", try, "error", err)
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
		}
	}
}
