package log

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/tlog"
)

// view is one published checkpoint and the tiles under it.
type view struct {
	tlog.Checkpoint
	signed []byte
	dir    tlog.Dir

	mu    sync.Mutex
	cache map[tlog.Tile][]byte // hash tiles, at most maxCached

	prover *tlog.Prover // the caller verifies its proofs
}

// maxCached is how many tiles (8 KiB each) one view caches. The proofs of a batch need the
// same few tiles.
const maxCached = 32

// maxNodes is how many hashes of nodes one view caches. The proofs of a batch share most of
// theirs, and each costs up to 127 hashes of a tile to compute.
const maxNodes = 16 * batchSize

func newView(cp tlog.Checkpoint, signed []byte, dir tlog.Dir) *view {
	v := &view{Checkpoint: cp, signed: signed, dir: dir, cache: make(map[tlog.Tile][]byte)}
	v.prover = tlog.NewProver(source{v}, cp, maxNodes)
	return v
}

// source is v as a tlog.Source.
type source struct{ *view }

func (s source) Checkpoint(context.Context) ([]byte, error) { return s.signed, nil }

// covers fails with fs.ErrNotExist if the checkpoint does not cover the tile.
func (s source) covers(t tlog.Tile) error {
	if have, ok := t.At(s.Size); !ok || have.Width < t.Width {
		return fmt.Errorf("a checkpoint of %d entries does not cover %s: %w", s.Size, t.Path(), os.ErrNotExist)
	}
	return nil
}

// Tile reads the tile in its width under this checkpoint and cuts it to the requested
// width. So it never reads a partial tile that no checkpoint covers, as a crash may leave
// one, and never serves what is not published.
func (s source) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	if err := s.covers(t); err != nil {
		return nil, err
	}
	have, _ := t.At(s.Size)
	s.mu.Lock()
	data := s.cache[have]
	s.mu.Unlock()
	if data == nil {
		var err error
		if data, err = tlog.ReadTile(ctx, s.dir, have); err != nil {
			return nil, err
		}
		if t.Level != tlog.Entries {
			s.mu.Lock()
			if len(s.cache) < maxCached {
				s.cache[have] = data
			}
			s.mu.Unlock()
		}
	}
	return have.Cut(data, t.Width)
}

// published is the server's current view as a tlog.Source for clients. It verifies what it
// reads from the disk.
type published struct{ *Server }

func (p published) Checkpoint(context.Context) ([]byte, error) { return p.shown(), nil }

func (p published) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	v := source{p.current.Load()}
	if err := v.covers(t); err != nil {
		return nil, err
	}
	data, err := v.Tile(ctx, t)
	if err == nil {
		err = tlog.VerifyTile(ctx, v, v.view.Checkpoint, t, data)
	}
	if err != nil {
		return nil, fmt.Errorf("the log is damaged: %v", err) // not fs.ErrNotExist: the log has this tile
	}
	return data, nil
}

// follow reads the checkpoint that the storage has published. If it is not newer than last,
// follow returns last. If it does not extend last, follow returns an error, so that a fork
// is never served.
func follow(ctx context.Context, dir tlog.Dir, key note.Verifier, last *view) (*view, error) {
	signed, err := dir.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	if last != nil && bytes.Equal(signed, last.signed) {
		return last, nil
	}
	cp, err := tlog.OpenCheckpoint(signed, key)
	if err != nil {
		return nil, fmt.Errorf("published checkpoint: %w", err)
	}
	next := newView(cp, signed, dir)
	if last != nil {
		if err := tlog.Extends(ctx, source{next}, last.Checkpoint, cp); err != nil {
			return nil, fmt.Errorf("published checkpoint: %w", err)
		}
	}
	// The storage may have renamed the file but not yet fsynced the directory.
	if err := durable.SyncDir(string(dir)); err != nil {
		return nil, err
	}
	return next, nil
}

// await polls until a checkpoint of at least size entries is published.
func (s *Server) await(ctx context.Context, size int64) (*view, error) {
	const fast, slow = time.Millisecond, 25 * time.Millisecond
	began, logged := time.Now(), ""
	for {
		v, err := follow(ctx, s.tiles, s.verifier, s.current.Load())
		switch {
		case err != nil:
			if err.Error() != logged {
				logged = err.Error()
				s.log.Error("reading the log's checkpoint", "error", err)
			}
		case v != s.current.Load():
			s.publish(v)
			fallthrough
		default:
			if v.Size >= size {
				return v, nil
			}
		}
		pause := fast
		if time.Since(began) > time.Second {
			pause = slow
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no checkpoint of %d entries was published: %w", size, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// publish makes v what the server serves.
func (s *Server) publish(v *view) {
	s.current.Store(v)
	s.metrics.size.Set(float64(v.Size))
	if s.witnesses != nil {
		s.witnesses.Offer(offer(v))
	}
	// The storage publishes at most every 100 ms, judged by the age of the file. That
	// helps logs with many front ends and witnesses. Here one process sequences and
	// publishes in turn, so the wait would only delay answers. Making the file look
	// older avoids it. If this fails, answers take 100 ms longer and nothing else
	// changes.
	then := time.Now().Add(-checkpointInterval)
	os.Chtimes(filepath.Join(string(s.tiles), "checkpoint"), then, then)
}
