package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

var (
	// ErrNoRun means that no release has the id.
	ErrNoRun = errors.New("no such release")
	// ErrNoLog means that the events of the release are not kept any more.
	ErrNoLog = errors.New("the log of this release is not kept any more")
)

// begin enters the release in the journal. The returned context is cancelled by Cancel,
// and end notes what became of the release and returns the error for its requester.
func (j *run) begin(ctx context.Context) (_ context.Context, end func(*api.Release, error) error, err error) {
	actor := "unknown"
	if of, ok := logs.Of(ctx); ok {
		actor = of.Actor
	}
	j.actor = actor
	req := j.req
	req.Lock = ""
	if req.Source, err = source.Canonical(req.Source); err != nil {
		return nil, nil, &api.Error{Message: fmt.Sprintf("source: %v", err), Kind: api.Usage}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	entered := api.Run{
		ID: j.id, State: api.Waiting, Actor: actor, Image: req.Image, Source: req.Source, Ref: req.Ref, Commit: req.Commit,
		Asked: j.started, Request: &req, Lock: digestOrNone(j.lockSum),
	}
	if err := j.journal.begin(entered, cancel); err != nil {
		cancel(nil)
		return nil, nil, fmt.Errorf("journal of releases: %w", err)
	}
	return ctx, func(rel *api.Release, err error) error {
		defer cancel(nil)
		return j.ended(ctx, rel, err)
	}, nil
}

// ended notes what became of a release, and returns the error for its requester.
func (j *run) ended(ctx context.Context, rel *api.Release, err error) error {
	cancelled, byActor := errors.AsType[*api.Error](context.Cause(ctx))
	run, _ := j.journal.now(j.id)
	run.Ended = time.Now().UTC()
	switch known, ok := errors.AsType[*api.Error](err); {
	case err == nil:
		run.State, run.Result = api.Released, rel
	case j.begun != nil && j.closing.Err() != nil: // the next process finishes it
		run.State, run.Ended = api.Publishing, time.Time{}
	case j.begun == nil && byActor:
		run.State, run.Error = api.Cancelled, cancelled
		err = fmt.Errorf("%w: %w", cancelled, context.Canceled)
	case j.begun == nil && ctx.Err() != nil:
		run.State, run.Error = api.Cancelled, &api.Error{Message: "its requester is gone, or the platform was stopped", Hint: retryHint(j.id)}
	case j.parked:
		run.State, run.Error = api.Parked, known
	case ok:
		run.State, run.Error = api.Failed, known
	default:
		run.State, run.Error = api.Failed, &api.Error{Message: err.Error()}
	}
	run.Error = kept(api.Event{Error: run.Error}).Error
	j.journal.end(j.id, run)
	return err
}

func retryHint(id string) string { return "colophon releases retry " + id[:api.ShortID] }

// loadJournal reads the journal of an earlier process. parked are the releases that are
// parked, with the reasons.
func (r *Releaser) loadJournal(parked map[string]string) error {
	unfinished := map[string]bool{}
	for _, p := range r.unfinished {
		unfinished[p.ID] = true
	}
	return r.journal.load(func(run api.Run) api.Run {
		reason, isParked := parked[run.ID]
		rel, err := r.readRecord(run.ID)
		switch {
		case unfinished[run.ID]:
			run.State, run.Error, run.Ended = api.Publishing, nil, time.Time{}
			return run
		case isParked:
			run.State, run.Error = api.Parked, &api.Error{Message: reason}
		case err == nil: // the process ended before it noted that
			run.State, run.Result, run.Error = api.Released, rel, nil
		default:
			run.State, run.Error = api.Failed, &api.Error{Message: "the platform stopped before the release ended, or before it was noted that it had", Hint: retryHint(run.ID)}
		}
		run.Ended = time.Now().UTC()
		return run
	})
}

func (r *Releaser) readRecord(id string) (*api.Release, error) {
	data, err := strict.ReadFile(filepath.Join(r.Dir, "records", id+".json"), limits.Statement)
	if err != nil {
		return nil, err
	}
	var rel api.Release
	return &rel, strict.UnmarshalKnown(data, limits.Statement, &rel)
}

// A Filter chooses releases. The zero value means all.
type Filter struct {
	Image string // REGISTRY/NAME, or the end of it after a /
	State api.State
	Limit int // the newest alone; 0: all

	Source string // canonical address of the repository
	Ref    string // as it was asked for, or its full name
	Commit string // full id
	Digest string // of what was released
}

// takes reports whether the filter chooses a release.
func (f Filter) takes(run *api.Run) bool {
	ref := f.Ref == "" || run.Ref == f.Ref || run.Result != nil && run.Result.Source.Ref == f.Ref ||
		strings.TrimPrefix(f.Ref, "refs/tags/") == run.Ref || strings.TrimPrefix(f.Ref, "refs/heads/") == run.Ref
	image := f.Image == "" || run.Image == f.Image || strings.HasSuffix(run.Image, "/"+f.Image)
	return ref && image && (f.State == "" || run.State == f.State) && (f.Source == "" || run.Source == f.Source) && (f.Commit == "" || run.Commit == f.Commit) &&
		(f.Digest == "" || run.Result != nil && run.Result.Digest == f.Digest)
}

// Runs lists the releases in the journal, the newest first.
func (r *Releaser) Runs(f Filter) []api.Run {
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	out := []api.Run{}
	for _, run := range r.journal.sorted() {
		if !f.takes(&run) {
			continue
		}
		if out = append(out, run); len(out) == f.Limit {
			break
		}
	}
	return out
}

// ID returns the id of the only release whose id begins with prefix.
func (r *Releaser) ID(prefix string) (string, error) {
	records, err := filepath.Glob(filepath.Join(r.Dir, "records", prefix+"*.json")) // prefix has hex digits alone
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, path := range records {
		found[strings.TrimSuffix(filepath.Base(path), ".json")] = true
	}
	r.journal.mu.Lock()
	for id := range r.journal.runs {
		if strings.HasPrefix(id, prefix) {
			found[id] = true
		}
	}
	r.journal.mu.Unlock()
	ids := slices.Sorted(maps.Keys(found))
	switch len(ids) {
	case 0:
		return "", ErrNoRun
	case 1:
		return ids[0], nil
	}
	const shown = 5
	return "", &api.Error{Message: fmt.Sprintf("%d releases have an id that begins with %s", len(ids), prefix), Hint: "give more digits: " + strings.Join(ids[:min(shown, len(ids))], ", ")}
}

// Find returns a release with its request. Of a finished release that the journal does
// not have any more, it returns what the record says.
func (r *Releaser) Find(id string) (*api.Run, error) {
	now, ok := r.journal.now(id)
	if !ok {
		rel, err := r.readRecord(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoRun
		} else if err != nil {
			return nil, err
		}
		return &api.Run{
			ID: id, State: api.Released, Image: rel.Image, Source: rel.Source.URI, Ref: rel.Source.Ref, Commit: rel.Source.ID,
			Asked: rel.Started, Started: rel.Started, Ended: rel.Finished, Result: rel,
		}, nil
	}
	stored, err := readRun(r.journal.path(id, ".json"))
	if err != nil {
		return nil, err
	}
	now.Request = stored.Request
	return &now, nil
}

// Cancel cancels a release for the account actor, and returns when the release has ended. A
// release that is being published, or has ended, is not cancelled: the error is an *api.Error.
func (r *Releaser) Cancel(ctx context.Context, id, actor string) (*api.Run, error) {
	r.journal.mu.Lock()
	e := r.journal.runs[id]
	var refused *api.Error
	var ended chan struct{}
	switch {
	case e == nil, e.run.State.Ended():
		refused = &api.Error{Message: fmt.Sprintf("release %s has ended", id)}
	case e.live == nil, e.live.cancel == nil:
		refused = &api.Error{Message: fmt.Sprintf("release %s is being published, so it cannot be cancelled", id), Hint: "a release is published as a whole or not at all; it ends soon"}
	default:
		e.live.cancel(&api.Error{Message: "cancelled by " + actor, Hint: retryHint(id)})
		ended = e.live.ended
	}
	r.journal.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	select {
	case <-ended:
		return r.Find(id)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Events calls emit for each event of a release so far. If follow is set, it goes on until
// the release has ended.
func (r *Releaser) Events(ctx context.Context, id string, follow bool, emit func(api.Event)) error {
	return r.journal.events(ctx, id, follow, emit)
}
