// Package follow follows a log of C2SP tlog-tiles, such as a shard of Rekor v2: it
// fetches the newest checkpoint, proves that the log has only appended since the last
// one, fetches the new entries, and hands each of them, verified, to the caller.
//
// What the caller has got is kept in a directory. A process that is killed at any
// moment goes on where it was.
//
// The log is not trusted. Whatever goes wrong is a *Failure of one of three kinds, and
// what the log signed is kept as evidence.
package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/tlog"
)

// Config says which log to follow, and how.
type Config struct {
	Key    note.Verifier // verifies checkpoints; its name is the log's origin. See tlog.NewVerifier
	Source tlog.Source   // the log; its methods are called concurrently
	Dir    string        // keeps the state, for this log only; made if missing

	// Entries gets the entries of the log in order. When it returns nil, they are done:
	// Follow keeps that on disk, and does not give them again. After a crash between the
	// two, the same entries come again: tell them apart by their index. Its error ends
	// Follow. Nil: entries are verified only.
	Entries func(context.Context, Batch) error

	// FromNewest skips the entries that are in the log when it is followed for the first
	// time.
	FromNewest bool
	// Copy keeps a verified copy of the log: see Follower.Copy. Not with FromNewest.
	Copy bool

	Stalled  time.Duration // a log that has not grown for longer is Stalled; 0: never
	Timeout  time.Duration // of one request; 0: 30 seconds
	Pause    time.Duration // before a request is repeated, then four times as long; 0: 1 second
	Parallel int           // requests at once; 0: 8. Each may need 16 MiB of memory
}

// Batch is a run of entries of a log. Its memory is the callback's only until it returns.
type Batch struct {
	Checkpoint tlog.Checkpoint // its tree has the entries; verified
	First      int64           // index of the first entry, counted from 0
	Entries    [][]byte
}

// Progress says how far a log was followed.
type Progress struct {
	Checkpoint tlog.Checkpoint // the newest that was seen and proven
	Next       int64           // index of the next entry to hand over
	Grew       time.Time       // when the log was first seen with this size
}

// Follower follows one log. One goroutine may call Follow; Progress may be called by any.
type Follower struct {
	cfg  Config
	lock *dirlock.Lock
	src  *patient

	mu    sync.Mutex
	state state
}

// Open reads the state of a log in its directory, and locks it. A state that is damaged,
// or of another log or key, is an error: it never starts anew by itself.
func Open(cfg Config) (*Follower, error) {
	if cfg.Copy && cfg.FromNewest {
		return nil, errors.New("a copy of a log has all of its entries: it cannot begin with the newest")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Pause == 0 {
		cfg.Pause = time.Second
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 8
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(cfg.Dir)
	if err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, lock: lock, src: newPatient(cfg)}
	if f.state, err = load(cfg.Dir, cfg.Key); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	if err := f.checkCopy(); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	if err := f.sweep(); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return f, nil
}

// Close releases the directory.
func (f *Follower) Close() error { return f.lock.Release() }

// Copy is the verified copy of the log, if Config.Copy was set: its checkpoint, and all
// tiles under it. Serve it with tlog.Handler.
func (f *Follower) Copy() tlog.Dir { return tlog.Dir(filepath.Join(f.cfg.Dir, "copy")) }

// Progress returns how far the log was followed.
func (f *Follower) Progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Progress{f.state.seen, f.state.Next, f.state.Grew}
}

// Follow follows the log up to its newest checkpoint, once. Its error is a *Failure if
// it is about the log.
func (f *Follower) Follow(ctx context.Context) error {
	f.src.forget()
	if err := f.advance(ctx); err != nil {
		return err
	}
	if err := f.entries(ctx); err != nil {
		return err
	}
	if age := time.Since(f.state.Grew); f.cfg.Stalled > 0 && age > f.cfg.Stalled {
		return f.fail(Unreachable, Stalled, fmt.Errorf("it has had %d entries for %s", f.state.seen.Size, age.Round(time.Second)))
	}
	return nil
}

// Run follows the log until ctx ends: at once, and then about every so often. It tells
// report how each round ended.
func (f *Follower) Run(ctx context.Context, every time.Duration, report func(error)) {
	for ctx.Err() == nil {
		err := f.Follow(ctx)
		if ctx.Err() != nil {
			return
		}
		report(err)
		// Followers that started together must not go on asking together.
		reach.Sleep(ctx, every*3/4+rand.N(every/2+1))
	}
}

// advance fetches the newest checkpoint, and keeps it once it is proven that the log has
// only appended. It is kept before its entries are read: a fork of it is found from then on.
func (f *Follower) advance(ctx context.Context) error {
	old := f.state
	for try := 1; ; try++ {
		signed, err := f.src.Checkpoint(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return f.fail(Unreachable, NoAnswer, reach.Explain(err))
		}
		cp, err := f.open(signed)
		if err != nil {
			return err
		}
		switch {
		case old.Checkpoint == "":
			// The first one: nothing to compare with.
		case cp.Size == old.seen.Size && cp.Root == old.seen.Root:
			if string(signed) == old.Checkpoint {
				return nil
			}
			// Further witnesses may have signed it.
		case cp.Size < old.seen.Size && try < reach.Attempts:
			// A cache between us may be older than what we know.
			if err := reach.Sleep(ctx, f.cfg.Pause<<try); err != nil {
				return err
			}
			continue
		default:
			if err := f.consistent(ctx, cp, signed); err != nil {
				return err
			}
		}
		next := old
		if old.Checkpoint == "" || cp.Size != old.seen.Size {
			next.Grew = time.Now()
		}
		if old.Checkpoint == "" && f.cfg.FromNewest {
			next.Next = cp.Size
		}
		next.Checkpoint, next.seen, next.Copy = string(signed), cp, f.cfg.Copy
		return f.keep(next)
	}
}

// consistent fails unless cp extends the checkpoint that was seen before.
func (f *Follower) consistent(ctx context.Context, cp tlog.Checkpoint, signed []byte) error {
	old, notes := f.state.seen, [][]byte{[]byte(f.state.Checkpoint), signed}
	larger, smaller := cp, old
	if cp.Size < old.Size {
		larger, smaller = old, cp
	}
	root := larger.Root
	err := error(nil)
	if larger.Size != smaller.Size {
		// The root of the smaller tree in the larger one: read from tiles that the larger
		// root commits to, so that a difference is the log's own word against its own.
		err = f.twice(ctx, func() (err error) {
			root, err = tlog.Root(ctx, f.src, smaller.Size, larger)
			return err
		})
	}
	switch {
	case err == nil && root != smaller.Root:
		return f.fail(Misbehaves, Fork, fmt.Errorf("it signed two trees: %d entries with root %v, and %d entries in which the first %d have root %v",
			smaller.Size, smaller.Root, larger.Size, smaller.Size, root), notes...)
	case cp.Size < old.Size:
		return f.fail(Misbehaves, Rollback, fmt.Errorf("it had %d entries, and now shows %d", old.Size, cp.Size), notes...)
	case err != nil:
		return f.tileFailure(ctx, err, notes...)
	}
	return nil
}

// twice repeats do once if what it read is wrong: a copy of the tile that is damaged on
// the way is no wrong log.
func (f *Follower) twice(ctx context.Context, do func() error) error {
	err := do()
	if _, noAnswer := errors.AsType[*unanswered](err); err == nil || noAnswer || ctx.Err() != nil {
		return err
	}
	f.src.forget()
	return do()
}

// Key returns the verifier of the log's checkpoints.
func (f *Follower) Key() note.Verifier { return f.cfg.Key }
