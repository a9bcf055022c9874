package release

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
)

// journal knows the releases that were asked for and what became of them. A release has
// two files in dir: ID.json, an api.Run, is written when the release is asked for and when
// it ends; ID.log has its events, one JSON object a line, and is complete when ID.json says
// that the release ended. Only the newest are kept. The records of finished releases are
// apart from them and stay.
type journal struct {
	dir  string
	log  *slog.Logger
	mu   sync.Mutex
	runs map[string]*entry // by id
}

// entry is a release of the journal. Its fields are guarded by the journal's mu.
type entry struct {
	run  api.Run
	size int64 // of ID.log
	live *live // nil if it has ended
}

// live is what a release has until it ends.
type live struct {
	cancel context.CancelCauseFunc // nil if nothing can cancel it any more
	log    *os.File
	cut    bool          // ID.log is at its limit
	more   chan struct{} // closed when there are more events, then replaced
	ended  chan struct{} // closed when it has ended
}

const (
	maxRuns    = 1000    // releases in the journal
	maxRunLogs = 4 << 30 // bytes of their events, together
	maxRun     = limits.Release + 1<<20
)

func openJournal(dir string, log *slog.Logger) *journal {
	return &journal{dir: dir, log: log, runs: map[string]*entry{}}
}

func (j *journal) path(id, suffix string) string { return filepath.Join(j.dir, id+suffix) }

// load reads the journal of an earlier process. ended says what became of a release that
// had not ended by then; without a state it has still not ended.
func (j *journal) load(ended func(api.Run) api.Run) error {
	names, err := os.ReadDir(j.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, isRun := strings.CutSuffix(name.Name(), ".json")
		if !isRun {
			continue
		}
		run, err := readRun(j.path(id, ".json"))
		if _, disk := errors.AsType[*fs.PathError](err); disk {
			return fmt.Errorf("journal of releases: %w", err)
		}
		if err != nil || run.ID != id {
			j.log.Warn("cannot read what became of a release", "file", j.path(id, ".json"), "error", err)
			continue
		}
		e := &entry{run: *run}
		if info, err := os.Stat(j.path(id, ".log")); err == nil {
			e.size = info.Size()
		}
		if !run.State.Ended() || run.State == api.Parked {
			if e.run = ended(*run); e.run.State.Ended() {
				if err := j.write(e.run); err != nil {
					return err
				}
			}
		}
		e.run.Request = nil
		j.runs[id] = e
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.prune()
	return nil
}

func readRun(path string) (*api.Run, error) {
	data, err := strict.ReadFile(path, maxRun)
	if err != nil {
		return nil, err
	}
	var run api.Run
	if err := strict.UnmarshalKnown(data, maxRun, &run); err != nil {
		return nil, err
	}
	return &run, nil
}

func (j *journal) write(run api.Run) error {
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return durable.WriteFile(j.path(run.ID, ".json"), data, 0o600)
}

// begin notes a release that somebody asked for, or one of an earlier process that goes on.
// cancel cancels it; nil: nothing does.
func (j *journal) begin(run api.Run, cancel context.CancelCauseFunc) error {
	if err := j.write(run); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path(run.ID, ".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	e := &entry{run: run, live: &live{cancel: cancel, log: f, more: make(chan struct{}), ended: make(chan struct{})}}
	if info, err := f.Stat(); err == nil {
		e.size = info.Size()
	}
	e.run.Request = nil
	j.mu.Lock()
	defer j.mu.Unlock()
	j.runs[run.ID] = e
	return nil
}

// update changes what is known of a release that has not ended.
func (j *journal) update(id string, change func(*api.Run)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.runs[id]; e != nil && e.live != nil {
		change(&e.run)
	}
}

// now returns what is known of a release, without its request.
func (j *journal) now(id string) (run api.Run, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.runs[id]; e != nil {
		return e.run, true
	}
	return run, false
}

// kept returns an event as the journal keeps it: bounded, and without credentials in URLs.
func kept(event api.Event) api.Event {
	event = event.Bounded()
	event.Step, event.Line = credential.Text(event.Step), credential.Text(event.Line)
	if e := event.Error; e != nil { // a copy since Bounded
		e.Message, e.Hint = credential.Text(e.Message), credential.Text(e.Hint)
	}
	return event
}

// event adds an event to the log of a release.
func (j *journal) event(id string, event api.Event) {
	event = kept(event)
	line, err := json.Marshal(event)
	if err != nil {
		return // these types marshal
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.runs[id]
	if e == nil || e.live == nil || e.live.cut {
		return
	}
	if e.size+int64(len(line)) >= maxBuildLog {
		e.live.cut = true
		line, err = json.Marshal(api.Event{Time: event.Time, Phase: event.Phase, Line: fmt.Sprintf("(the log is truncated here, at %d bytes)", e.size)})
		if err != nil {
			return
		}
	}
	n, err := e.live.log.Write(append(line, '\n'))
	e.size += int64(n)
	if err != nil {
		e.live.cut = true // half a line may be there
		j.log.Error("cannot write the log of a release", "id", id, "error", err)
	}
	close(e.live.more)
	e.live.more = make(chan struct{})
}

// publishing notes that nothing cancels a release any more. It fails if ctx, the context
// of the release, is cancelled.
func (j *journal) publishing(ctx context.Context, id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if e := j.runs[id]; e != nil && e.live != nil {
		e.live.cancel, e.run.State = nil, api.Publishing
	}
	return nil
}

// end notes what became of a release. It makes its log durable first.
func (j *journal) end(id string, ended api.Run) {
	j.mu.Lock()
	e := j.runs[id]
	j.mu.Unlock()
	stored, err := readRun(j.path(id, ".json")) // it has the request
	if err == nil {
		err = e.live.log.Sync()
	}
	if err == nil {
		ended.Request = stored.Request
		err = j.write(ended)
	}
	if err = errors.Join(err, e.live.log.Close()); err != nil {
		j.log.Error("cannot note what became of a release", "id", id, "state", ended.State, "error", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	ended.Request = nil
	e.run = ended
	close(e.live.more)
	close(e.live.ended)
	e.live = nil
	j.prune()
}

// prune removes the oldest releases that have ended while there are too many, or too large
// logs. mu is held.
func (j *journal) prune() {
	var total int64
	for i, run := range j.sorted() { // the newest first
		e := j.runs[run.ID]
		total += e.size
		if e.live != nil || !run.State.Ended() || run.State == api.Parked || i < maxRuns && total <= maxRunLogs {
			continue
		}
		total -= e.size
		err := os.Remove(j.path(run.ID, ".log"))
		if err = errors.Join(ignoreMissing(err), os.Remove(j.path(run.ID, ".json"))); err != nil {
			j.log.Error("cannot remove an old release from the journal", "id", run.ID, "error", err)
		}
		delete(j.runs, run.ID)
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sorted returns the releases, the newest first. mu is held.
func (j *journal) sorted() []api.Run {
	out := make([]api.Run, 0, len(j.runs))
	for _, e := range j.runs {
		out = append(out, e.run)
	}
	slices.SortFunc(out, func(a, b api.Run) int {
		if n := b.Asked.Compare(a.Asked); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// events calls emit for the events of a release until there are no more. If follow is set,
// it waits for further events until the release has ended.
func (j *journal) events(ctx context.Context, id string, follow bool, emit func(api.Event)) error {
	f, err := os.Open(j.path(id, ".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoLog
	} else if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	var begun []byte // a line without its end, which may still be written
	for {
		// Ask before reading: what is written after that is then read in the next round.
		more := j.waitFor(id)
		for {
			part, err := in.ReadSlice('\n')
			begun = append(begun, part...)
			if errors.Is(err, bufio.ErrBufferFull) && len(begun) < api.MaxEvent {
				continue
			} else if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			var e api.Event
			if err := strict.Unmarshal(begun, api.MaxEvent, &e); err != nil {
				return fmt.Errorf("log of release %s: %w", id, err)
			}
			emit(e)
			begun = begun[:0]
		}
		if more == nil || !follow {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitFor returns a channel that is closed when there are more events of a release; nil if
// it has ended.
func (j *journal) waitFor(id string) <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.runs[id]; e != nil && e.live != nil {
		return e.live.more
	}
	return nil
}
