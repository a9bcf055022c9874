package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/source"
)

// pending is a running release, stored in Dir/queue/ID.json. The file is written
// before the requester receives the first progress, and removed when the release ends.
//
// If the process ends before a release has published anything, the next start logs
// the release and drops it; the requester runs it again. If publishing has begun, the
// next start finishes the release from the measured layout: its signatures are in the
// log by then, and building again may give other bytes. It tries again while a service
// is away. But if maxTries processes in a row died while they finished a release, or one
// could not finish it for maxPatience, it is moved to Dir/parked, with its reason and its
// work kept. Moved back to the queue by an operator, it is tried again at the next start.
type pending struct {
	ID      string             `json:"id"`
	Request api.ReleaseRequest `json:"request"`
	Started time.Time          `json:"started"`
	Begun   *begun             `json:"begun,omitempty"`  // nil until publishing begins
	Tries   int                `json:"tries,omitempty"`  // processes that began to publish it, since one of them last stopped cleanly
	Parked  string             `json:"parked,omitempty"` // why it is parked; for the operator
}

const (
	maxTries    = 3                // processes that may die while they publish the same release
	maxPatience = time.Hour        // for which a process tries to finish a release of an earlier one
	maxWaits    = 10 * time.Second // for which it tries to finish one whose requester waits
	maxPause    = time.Minute      // between two attempts
)

// begun is everything that publishing needs. After a crash the layout is measured
// again, because bytes from a disk are trusted no more than those of a builder.
type begun struct {
	Commit source.Commit         `json:"commit"`
	Tags   []string              `json:"tags"`
	Recipe attest.Recipe         `json:"recipe"`
	Own    *attest.DefaultRecipe `json:"own,omitempty"`
	Dir    string                `json:"dir"` // name of the work's directory in Dir/work
	Built  built                 `json:"built"`
	Digest string                `json:"digest"`
}

// maxPending is the maximum size of one entry: a request and a build's dependencies.
const maxPending = limits.Release + limits.Statement + 1<<20

func (r *Releaser) entry(id string) string { return filepath.Join(r.Dir, "queue", id+".json") }

func (r *Releaser) parkedFile(id string) string { return filepath.Join(r.Dir, "parked", id+".json") }

// enqueue writes the release's entry of the queue and creates its work directory.
func (j *run) enqueue() (err error) {
	if err := j.save(); err != nil {
		return err
	}
	j.dir, err = os.MkdirTemp(filepath.Join(j.Dir, "work"), "release-")
	return err
}

func (j *run) save() error { return writePending(j.entry(j.id), j.pending()) }

func (j *run) pending() pending {
	return pending{ID: j.id, Request: j.req, Started: j.started, Begun: j.begun, Tries: j.tries}
}

func writePending(path string, p pending) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o600)
}

// cleanUp removes the entry and the work directory, unless the release is parked, or Close
// interrupted it while it was publishing.
func (j *run) cleanUp() {
	for _, process := range []*zone.Item{j.image, j.scanner} {
		if process != nil {
			process.Close()
		}
	}
	if j.parked {
		return
	}
	if j.begun != nil && !j.done && j.closing.Err() != nil {
		j.tries = 0 // this process was stopped, it did not die
		if err := j.save(); err != nil {
			j.Log.Error("cannot note that a release was interrupted", "id", j.id, "error", err)
		}
		return
	}
	// The entry first: an entry whose layout is gone could not be finished.
	if err := errors.Join(os.Remove(j.entry(j.id)), os.RemoveAll(j.dir)); err != nil {
		j.Log.Error("cannot remove the files of a release", "id", j.id, "error", err)
	}
}

// commitTo commits the platform to finish the release: from here on neither the
// requester nor a crash can leave it partly published. Only Close cancels the returned
// context.
func (j *run) commitTo(ctx context.Context, b *built, m *oci.Measured) (context.Context, func(), error) {
	if err := j.journal.publishing(ctx, j.id); err != nil {
		return nil, nil, err
	}
	j.begun = &begun{
		Commit: j.commit, Tags: j.tags, Recipe: j.recipe, Own: j.own, Dir: filepath.Base(j.dir), Built: *b, Digest: m.Descriptor.Digest.String(),
	}
	j.tries = 1
	if err := j.save(); err != nil {
		j.begun = nil
		return nil, nil, err
	}
	ctx, done := j.untilClose(ctx)
	return ctx, done, nil
}

// untilClose returns a context with the values of ctx that only Close cancels.
func (r *Releaser) untilClose(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(r.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

// Close interrupts the releases that are publishing; the next Resume continues them.
// Other releases end with the context of their Run.
func (r *Releaser) Close() { r.close() }

// sweep reads the queue of an earlier process. It removes the work of all releases
// except those that Resume will finish and those that are parked, which it returns with the
// reasons.
func (r *Releaser) sweep() (parked map[string]string, err error) {
	names, err := filepath.Glob(filepath.Join(r.Dir, "queue", "*"))
	if err != nil {
		return nil, err
	}
	keep, parked, err := r.keepParked()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := readPending(name)
		if err == nil && p.Begun != nil && p.Tries >= maxTries {
			parked[p.ID] = fmt.Sprintf("%d processes in a row died while they published this release; the last one before %s", p.Tries, time.Now().UTC().Format(time.RFC3339))
			if err = r.park(*p, parked[p.ID]); err != nil {
				return nil, err
			}
			keep[p.Begun.Dir] = true
			continue
		}
		if err == nil && p.Begun != nil {
			r.unfinished = append(r.unfinished, *p)
			keep[p.Begun.Dir] = true
			continue
		}
		if _, disk := errors.AsType[*fs.PathError](err); disk { // it may be whole: keep it
			return nil, fmt.Errorf("release queue: %w", err)
		}
		if err != nil { // a temporary file of an interrupted write
			r.Log.Warn("cannot read an entry of the release queue, so it is dropped", "file", name, "error", err)
		} else {
			r.Log.Warn("a release was interrupted before it published anything; run it again", "id", p.ID, "image", p.Request.Image, "ref", p.Request.Ref)
		}
		if err := os.Remove(name); err != nil {
			return nil, err
		}
	}
	left, err := os.ReadDir(filepath.Join(r.Dir, "work"))
	for _, e := range left {
		if !keep[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(r.Dir, "work", e.Name())))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sweeping unfinished releases: %w", err)
	}
	return parked, nil
}

// park takes an entry out of the queue.
func (r *Releaser) park(p pending, reason string) error {
	p.Parked, p.Tries = reason, 0
	r.Log.Error("a release is parked; its proof may be incomplete, and it has no tags", "id", p.ID, "image", p.Request.Image, "ref", p.Request.Ref, "reason", reason, "file", r.parkedFile(p.ID))
	if err := writePending(r.parkedFile(p.ID), p); err != nil {
		return err
	}
	return os.Remove(r.entry(p.ID))
}

// keepParked returns the directories of the work of parked entries, and the reasons by id.
func (r *Releaser) keepParked() (keep map[string]bool, reasons map[string]string, err error) {
	names, err := filepath.Glob(filepath.Join(r.Dir, "parked", "*.json"))
	if err != nil {
		return nil, nil, err
	}
	keep, reasons = map[string]bool{}, map[string]string{}
	for _, name := range names {
		p, err := readPending(name)
		if _, disk := errors.AsType[*fs.PathError](err); disk { // without its name, its work would be removed
			return nil, nil, fmt.Errorf("parked releases: %w", err)
		}
		if err != nil || p.Begun == nil {
			r.Log.Warn("cannot read a parked release", "file", name, "error", err)
			continue
		}
		keep[p.Begun.Dir], reasons[p.ID] = true, p.Parked
	}
	return keep, reasons, nil
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
		return nil, fmt.Errorf("id: got %q, want %q from the file's name", p.ID, strings.TrimSuffix(filepath.Base(name), ".json"))
	}
	if b := p.Begun; b != nil && (filepath.Base(b.Dir) != b.Dir || !strings.HasPrefix(b.Dir, "release-")) {
		return nil, fmt.Errorf("directory of the work: got %q, want a name that begins with release-", b.Dir)
	}
	return &p, nil
}

// Resume prepares to finish the releases that an earlier process had begun to publish.
// It locks their images, so call it before accepting new requests. Then call the
// returned function, which finishes the releases and returns when all have ended.
func (r *Releaser) Resume() (finish func()) {
	var all sync.WaitGroup
	start := make(chan struct{})
	mine := map[string]func(){} // unlocks, by image
	for _, p := range r.unfinished {
		if _, twice := mine[p.Request.Image]; !twice {
			unlock, err := r.lock(r.closing, p.Request.Image, func() {})
			if err != nil { // closed already
				break
			}
			mine[p.Request.Image] = unlock
		}
	}
	var alone sync.Mutex
	for _, p := range r.unfinished {
		unlock := mine[p.Request.Image]
		mine[p.Request.Image] = nil
		all.Go(func() {
			<-start
			if unlock == nil {
				var err error
				if unlock, err = r.lock(r.closing, p.Request.Image, func() {}); err != nil {
					return
				}
			}
			defer unlock()
			log := r.Log.With("id", p.ID, "image", p.Request.Image, "ref", p.Request.Ref)
			switch rel, err := r.resume(p, &alone); {
			case err == nil:
				log.Info("finished a release that an earlier process had begun to publish", "digest", rel.Digest, "tags", rel.Tags)
			case r.closing.Err() == nil:
				log.Error("cannot finish a release that an earlier process had begun to publish; try running it again", "error", err)
			}
		})
	}
	r.unfinished = nil
	return func() { close(start); all.Wait() }
}

// measureAgain measures the layout of a release that an earlier process began to publish.
func (j *run) measureAgain(ctx context.Context, b *begun) (*oci.Measured, error) {
	if j.image != nil {
		j.image.Close()
	}
	if err := os.RemoveAll(filepath.Join(j.dir, dirImage)); err != nil { // of an earlier attempt
		return nil, err
	}
	if err := j.startImage("layout"); err != nil {
		return nil, err
	}
	m, err := j.measureLayout(ctx, b.Built.Layout, j.recipe.Files)
	if err != nil {
		return nil, err
	}
	if got := m.Descriptor.Digest.String(); got != b.Digest {
		return nil, final{fmt.Errorf("digest: got %s, want %s", got, b.Digest)}
	}
	return m, nil
}

// final is an error of publishing that stays the same however often it is tried.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// resumed returns a release that an earlier process had begun to publish, and what the journal knows of it.
func (r *Releaser) resumed(p pending) (*run, *api.Run) {
	b := p.Begun
	known := &api.Run{
		ID: p.ID, State: api.Publishing, Actor: "unknown", Image: p.Request.Image, Source: b.Commit.URI, Ref: p.Request.Ref, Commit: b.Commit.ID, Asked: p.Started, Started: p.Started,
	}
	if found, err := r.Find(p.ID); err == nil {
		known = found
	}
	return &run{
		Releaser: r, req: p.Request, id: p.ID, actor: known.Actor, started: p.Started, dir: filepath.Join(r.Dir, "work", b.Dir),
		commit: b.Commit, tags: b.Tags, recipe: b.Recipe, own: b.Own, lockSum: b.Built.Lock, begun: b, tries: p.Tries, resumed: true,
	}, known
}

// resume finishes a release, or parks it. alone is held during each attempt for a release that was
// there when two processes died, to find out which one kills them.
func (r *Releaser) resume(p pending, alone sync.Locker) (rel *api.Release, err error) {
	j, known := r.resumed(p)
	if err := r.journal.begin(*known, nil); err != nil {
		return nil, err
	}
	defer func() { j.ended(context.Background(), rel, err) }()
	j.report(func(api.Event) {})
	defer j.cleanUp()
	ctx, done := j.untilClose(context.Background())
	defer done()
	err = j.insist(ctx, j.patience, func() (again bool, err error) {
		rel, err = j.finish(ctx, alone)
		_, stays := errors.AsType[final](err)
		return !stays, err
	})
	if _, stays := errors.AsType[final](err); err != nil && !stays && ctx.Err() == nil {
		return nil, j.giveUp(err)
	}
	return rel, err
}

// insist calls attempt, and again after a pause if it fails and says so, until patience is over.
func (j *run) insist(ctx context.Context, patience time.Duration, attempt func() (again bool, err error)) error {
	first := time.Now()
	for pause := j.pause; ; pause = min(2*pause, maxPause) {
		again, err := attempt()
		if err == nil || !again || ctx.Err() != nil || time.Since(first)+pause > patience {
			return err
		}
		j.Log.Warn("cannot finish a release yet; trying again", "id", j.id, "in", pause, "error", errors.Join(err, j.save()))
		j.emit(api.Event{Phase: "push", Line: fmt.Sprintf("cannot go on: %v; trying again in %v", err, pause)})
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// undecided is the error of a proof that could not be verified, because something did not answer.
type undecided struct{ error }

func (u undecided) Unwrap() error { return u.error }

// passing reports whether an error of publishing may be that of a role or a registry that is just starting again.
func passing(err error) bool {
	_, open := errors.AsType[undecided](err)
	_, network := errors.AsType[*net.OpError](err)
	return open || network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// giveUp parks a release that this process could not finish. If that fails too, its entry stays in the queue.
func (j *run) giveUp(err error) error {
	j.parked = true
	reason := fmt.Sprintf("it could not be finished for %v: %s", j.patience, credential.Text(err.Error()))
	if err := j.park(j.pending(), reason); err != nil {
		reason = fmt.Sprintf("%s; and it could not be parked: %v", reason, err)
	}
	return &api.Error{Message: reason, Hint: "the operator of the platform can have it tried again"}
}

// finish tries to finish a release that an earlier process had begun to publish.
func (j *run) finish(ctx context.Context, alone sync.Locker) (*api.Release, error) {
	if j.tries > 1 {
		alone.Lock()
		defer alone.Unlock()
	}
	done, err := j.turn(ctx, func() {})
	if err != nil {
		return nil, err
	}
	defer done()
	j.tries++
	defer func() { j.tries-- }() // only those that died stay counted
	if err := j.save(); err != nil {
		return nil, err
	}
	if j.builder, err = j.builderFor(j.recipe); err != nil {
		return nil, err
	}
	if err := j.openTarget(); err != nil {
		return nil, err
	}
	b := j.begun
	b.Built.Layout = filepath.Join(j.dir, "layout")
	m, err := j.measureAgain(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("measuring the layout to publish: %w", err)
	}
	if err := j.release(ctx, &b.Built, m); err != nil {
		return nil, err
	}
	j.resumed = true
	return j.finished()
}
