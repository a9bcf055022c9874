// Package indexlog is the index log of spec/search/v1, on Tessera's POSIX storage. Each entry
// commits to the map of all entries under a checkpoint of the transparency log. The log's key
// signs its checkpoints, under a name of their own. The role search computes the maps; this
// package cannot know whether they are right, and neither must it: everybody can compute them
// again. It refuses what would make an audit impossible: an entry that is not about a later
// checkpoint of the log than the one before.
package indexlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

const (
	batchAge           = time.Millisecond       // entries come one after another
	checkpointInterval = 100 * time.Millisecond // the shortest that Tessera accepts
	publishTimeout     = 30 * time.Second       // for publishing what a crash or a failed Append left unpublished
)

// Config of a Server.
type Config struct {
	// Dir is the directory of the log, in the layout of C2SP tlog-tiles. Created at first
	// start. One process at a time uses it.
	Dir string

	// Record is the path of a file with the log's origin and key, a verifier key of C2SP
	// signed-note. Created with the first entry. If it is there and the log is not, the log
	// does not start.
	Record string

	// Signer signs checkpoints; its name is the log's origin. PublicKey verifies them.
	Signer    note.Signer
	PublicKey ed25519.PublicKey

	// Of is the transparency log: it has the entries that are indexed, and OfVerifier
	// verifies its checkpoints.
	Of         tlog.Source
	OfVerifier note.Verifier

	// Witnesses cosign the checkpoints; nil: nobody does. The caller closes them after the Server.
	Witnesses *witnesses.Set

	// WitnessWait is how long Append waits for a quorum of Witnesses. Then it returns without:
	// what comes later is served all the same.
	WitnessWait time.Duration

	Log *slog.Logger // gets messages for the operator; nil: slog.Default()
}

// Server is a running index log. Safe for concurrent use.
type Server struct {
	cfg      Config
	vkey     string
	verifier note.Verifier
	dir      tlog.Dir
	lock     *dirlock.Lock
	ctx      context.Context // of the storage
	cancel   context.CancelFunc
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error

	mu     sync.Mutex // held by Append
	closed bool
}

// ErrConflict matches the errors of Append that another entry was there first.
var ErrConflict = errors.New("the index log has another entry there")

// errMalformed matches the errors of Append that the entry is not one of an index log.
var errMalformed = errors.New("malformed")

// New opens the log, and creates it at the first start.
func New(cfg Config) (_ *Server, err error) {
	s := &Server{cfg: cfg, dir: tlog.Dir(cfg.Dir)}
	if s.cfg.Log == nil {
		s.cfg.Log = slog.Default()
	}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("index log %s: %w", cfg.Dir, err)
		}
	}()
	if s.vkey, err = note.NewEd25519VerifierKey(cfg.Signer.Name(), cfg.PublicKey); err != nil {
		return nil, err
	}
	if s.verifier, err = note.NewVerifier(s.vkey); err != nil {
		return nil, err
	}
	if err := s.checkRecord(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if s.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := tiles.Check(s.ctx, cfg.Dir, s.verifier); err != nil {
		return nil, err
	}
	driver, err := posix.New(s.ctx, posix.Config{Path: cfg.Dir})
	if err != nil {
		return nil, err
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(cfg.Signer).
		WithCheckpointInterval(checkpointInterval).
		WithCheckpointRepublishInterval(0).
		WithBatching(1, batchAge)
	if s.appender, s.shutdown, s.reader, err = tessera.NewAppender(s.ctx, driver, opts); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
	defer cancel()
	cp, err := s.settled(ctx)
	if err == nil && cp.Size > 0 {
		if err = s.record(); err == nil {
			err = s.offer(ctx)
		}
	}
	return s, err
}

// checkRecord fails if the log existed, and its checkpoint is missing.
func (s *Server) checkRecord() error {
	_, err := os.Lstat(s.cfg.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := s.dir.Checkpoint(context.Background()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("its checkpoint is missing, and %s shows that the log has entries; restore it from a backup", s.cfg.Record)
	}
	return nil
}

// Append adds an entry and returns its index when a published checkpoint covers it, fsynced.
// The last entry again returns its index. The error matches ErrConflict if the entry is not
// about a later checkpoint than the last one.
func (s *Server) Append(ctx context.Context, entry []byte) (index int64, err error) {
	_, about, err := search.ParseLeaf(entry, s.cfg.OfVerifier)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errMalformed, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("the index log is closed")
	}
	last, cp, err := s.last(ctx)
	if err != nil {
		return 0, err
	}
	if cp.Size > 0 {
		if bytes.Equal(last, entry) {
			return cp.Size - 1, nil
		}
		_, older, err := search.ParseLeaf(last, s.cfg.OfVerifier)
		if err != nil {
			return 0, err
		}
		if about.Size <= older.Size {
			return 0, fmt.Errorf("%w: it is about %d entries, and the last entry about %d", ErrConflict, about.Size, older.Size)
		}
		if err := tlog.Extends(ctx, s.cfg.Of, older, about); err != nil {
			return 0, err
		}
	}
	// From here on the context of the storage counts: an entry that is added without anybody
	// who waits for it could be added a second time.
	at, err := s.appender.Add(s.ctx, tessera.NewEntry(entry))()
	if err != nil {
		return 0, err
	}
	if _, err := s.await(s.ctx, int64(at.Index)+1); err != nil {
		return 0, err
	}
	if err := s.record(); err != nil {
		return 0, err
	}
	if err := s.offer(ctx); err != nil {
		return 0, err
	}
	if s.cfg.Witnesses != nil {
		wait, cancel := context.WithTimeout(ctx, s.cfg.WitnessWait)
		defer cancel()
		s.cfg.Witnesses.Await(wait, int64(at.Index)+1)
	}
	return int64(at.Index), nil
}

// offer has the witnesses cosign the published checkpoint.
func (s *Server) offer(ctx context.Context) error {
	if s.cfg.Witnesses == nil {
		return nil
	}
	signed, err := s.dir.Checkpoint(ctx)
	if err != nil {
		return err
	}
	cp, err := tlog.OpenCheckpoint(signed, s.verifier)
	if err != nil {
		return err
	}
	s.cfg.Witnesses.Offer(witnesses.Offer{Checkpoint: cp, Signed: signed, Source: s.Source()})
	return nil
}

// record creates the file that says that the log has entries.
func (s *Server) record() error {
	if _, err := os.Lstat(s.cfg.Record); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.WriteFile(s.cfg.Record, []byte(s.vkey+"\n"), 0o644)
}

// settled returns the published checkpoint when it covers all that the storage has. An Append that
// failed may have left an entry that is not published yet: the next one must not come after it
// unseen, because two entries about the same checkpoint make an audit impossible.
func (s *Server) settled(ctx context.Context) (tlog.Checkpoint, error) {
	size, err := s.reader.IntegratedSize(ctx)
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	return s.await(ctx, int64(size))
}

// last returns the last entry, when the published checkpoint covers it.
func (s *Server) last(ctx context.Context) ([]byte, tlog.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	cp, err := s.settled(ctx)
	if err != nil || cp.Size == 0 {
		return nil, cp, err
	}
	var last []byte
	err = search.Entries(ctx, s.dir, cp.Size, cp.Size-1, cp.Size, func(_ int64, entries [][]byte) error {
		last = entries[0]
		return nil
	})
	return last, cp, err
}

// checkpoint returns the published checkpoint; the zero one if there is none yet.
func (s *Server) checkpoint(ctx context.Context) (tlog.Checkpoint, error) {
	signed, err := s.dir.Checkpoint(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Checkpoint{}, nil
	} else if err != nil {
		return tlog.Checkpoint{}, err
	}
	return tlog.OpenCheckpoint(signed, s.verifier)
}

// await polls until a checkpoint of at least size entries is published.
func (s *Server) await(ctx context.Context, size int64) (tlog.Checkpoint, error) {
	logged := ""
	for {
		cp, err := s.checkpoint(ctx)
		if err == nil && cp.Size >= size {
			// The storage may have renamed the file and not yet fsynced the directory.
			return cp, durable.SyncDir(s.cfg.Dir)
		}
		if err != nil && err.Error() != logged {
			logged = err.Error()
			s.cfg.Log.Error("reading the checkpoint of the index log", "error", err)
		}
		select {
		case <-ctx.Done():
			return cp, fmt.Errorf("no checkpoint of %d entries was published: %w", size, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Close finishes the pending entry, and closes the log.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.shutdown(ctx); err != nil {
		s.cancel() // the storage may still be in use, so the process must end
		return fmt.Errorf("closing the index log: %w", err)
	}
	return s.release()
}

func (s *Server) release() error {
	if s.cancel != nil {
		s.cancel()
	}
	if s.lock != nil {
		return s.lock.Release()
	}
	return nil
}

// Source returns the log as clients read it.
func (s *Server) Source() tlog.Source { return published{s} }

// published is what clients read: the tiles under the published checkpoint, verified.
type published struct{ *Server }

// Checkpoint returns the newest checkpoint, with the cosignatures that have come in.
func (p published) Checkpoint(ctx context.Context) ([]byte, error) {
	signed, err := p.dir.Checkpoint(ctx)
	if err != nil || p.cfg.Witnesses == nil {
		return signed, err
	}
	cp, err := tlog.OpenCheckpoint(signed, p.verifier)
	if err != nil {
		return nil, err
	}
	if c, ok := p.cfg.Witnesses.Seen(cp.Size); ok {
		return c.Envelope, nil
	}
	return signed, nil
}

func (p published) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	cp, err := p.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	have, ok := t.At(cp.Size)
	if !ok || have.Width < t.Width {
		return nil, fmt.Errorf("a checkpoint of %d entries does not cover %s: %w", cp.Size, t.Path(), fs.ErrNotExist)
	}
	data, err := tlog.ReadTile(ctx, p.dir, have)
	if err == nil {
		data, err = have.Cut(data, t.Width)
	}
	if err == nil {
		err = tlog.VerifyTile(ctx, p.dir, cp, t, data)
	}
	if err != nil {
		return nil, fmt.Errorf("the index log is damaged: %v", err) // not fs.ErrNotExist: the log has this tile
	}
	return data, nil
}

// Register adds the paths that everybody can read to mux, under /index/.
func (s *Server) Register(mux *http.ServeMux) {
	read := http.StripPrefix("/index/", tlog.Handler{Source: s.Source(), Fail: s.fail})
	mux.Handle("GET /index/checkpoint", read)
	mux.Handle("GET /index/tile/", read)
}

func (s *Server) fail(w http.ResponseWriter, status int, err error) {
	if status != http.StatusNotFound {
		s.cfg.Log.Error("reading the index log", "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}
