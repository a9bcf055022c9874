// Package logserver is a Rekor v2 transparency log: hashedrekord 0.0.2 entries
// over POST /api/v2/log/entries, reads by C2SP tlog-tiles under /api/v2, on
// Tessera's POSIX storage.
//
// An entry is acknowledged once it is in the tree on disk and a published
// checkpoint covers it, all fsynced. The same entry again gets the original's
// index and proof, so that a client who lost an answer can ask again. Which
// entry has which index is looked up in a database beside the log, but the log
// is the truth: the database is filled from it and can be deleted.
package log

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/tlog"
)

const (
	tilesDir = "tiles" // of Config.Dir: the log as C2SP tlog-tiles lays it out

	batchSize          = 256                    // entries sequenced at once
	batchAge           = time.Millisecond       // wait for a batch that is handed over whole
	gather             = 2 * time.Millisecond   // wait for the clients of a batch to ask again
	checkpointInterval = 100 * time.Millisecond // the least that the storage takes
	startTimeout       = 30 * time.Second       // to publish what a crash left unpublished

	defaultMaxPending = 1024
)

// Config of a Server.
type Config struct {
	// Dir holds the log: tiles/ (what is served), log.json (origin and public
	// key) and index.db (a cache). Made at first start. One process at a time.
	Dir string

	// KeyFile is the log's Ed25519 key, PKCS#8 in PEM, mode 0600. Made at first
	// start, never overwritten; without it an existing log does not start.
	KeyFile string

	// Origin names the log in its checkpoints, and must be the host name (no
	// port) of the URL that clients know it by. It cannot be changed later.
	Origin string

	// MaxPending bounds the requests in work, and the entries in memory, each
	// of at most 128 KiB. More are answered with 503. 0 is 1024.
	MaxPending int

	// Metrics takes the server's collectors; nil means that nobody looks.
	Metrics prometheus.Registerer

	// Log takes what an operator must know; nil is slog.Default.
	Log *slog.Logger
}

// Server is a running log. Safe for concurrent use.
type Server struct {
	origin     string
	created    time.Time
	key        ed25519.PrivateKey
	verifier   note.Verifier
	id         [32]byte
	tiles      tlog.Dir
	maxPending int
	log        *slog.Logger
	metrics    *metrics
	lock       *dirlock.Lock
	slots      chan struct{} // one for each request in work

	ctx      context.Context // of the storage
	cancel   context.CancelFunc
	appender *tessera.Appender
	shutdown func(context.Context) error
	index    *index // of sequence alone, once it runs
	current  atomic.Pointer[view]

	wake    chan struct{} // something is in queue, or closing is set
	stopped chan struct{} // sequence has ended

	mu      sync.Mutex
	pending map[tlog.Hash]*pending
	queue   []*pending
	closing bool
}

// New opens the log in cfg.Dir, or makes it. It returns once everything that
// was ever sequenced is covered by a published checkpoint and indexed.
func New(cfg Config) (_ *Server, err error) {
	s := &Server{
		origin:     cfg.Origin,
		tiles:      tlog.Dir(filepath.Join(cfg.Dir, tilesDir)),
		maxPending: cfg.MaxPending,
		log:        cfg.Log,
		wake:       make(chan struct{}, 1),
		stopped:    make(chan struct{}),
		pending:    make(map[tlog.Hash]*pending),
	}
	if s.maxPending == 0 {
		s.maxPending = defaultMaxPending
	}
	if s.maxPending < 1 {
		return nil, fmt.Errorf("MaxPending: got %d, want 1 or more", cfg.MaxPending)
	}
	s.slots = make(chan struct{}, s.maxPending)
	if s.log == nil {
		s.log = slog.Default()
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("directory of the log: %w", err)
	}
	// Two processes would each have an index of their own, and log the same entry twice.
	if s.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	key, rec, err := openKey(cfg.Dir, cfg.KeyFile, cfg.Origin)
	if err != nil {
		return nil, err
	}
	s.key = key
	if s.verifier, err = tlog.NewVerifier(cfg.Origin, s.key.Public()); err != nil {
		return nil, err
	}
	if s.id, err = tlog.LogID(cfg.Origin, s.key.Public()); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if err := s.open(cfg.Dir); err != nil {
		return nil, fmt.Errorf("log %s: %w", cfg.Dir, err)
	}
	if rec == nil {
		if size := s.current.Load().Size; size > 0 {
			return nil, fmt.Errorf("%s is missing, but the log in %s has %d entries; restore it from a backup", recordFile, cfg.Dir, size)
		}
		if rec, err = createRecord(cfg.Dir, cfg.Origin, s.key); err != nil {
			return nil, err
		}
	}
	s.created = rec.Created
	go s.sequence()
	return s, nil
}

// open starts the storage and brings checkpoint and index up to the tree.
func (s *Server) open(dir string) error {
	signer, err := tlog.NewSigner(s.origin, s.key)
	if err != nil {
		return err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	driver, err := posix.New(s.ctx, posix.Config{Path: string(s.tiles)})
	if err != nil {
		return err
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(checkpointInterval).
		WithCheckpointRepublishInterval(0).
		WithBatching(batchSize, batchAge)
	var reader tessera.LogReader
	if s.appender, s.shutdown, reader, err = tessera.NewAppender(s.ctx, driver, opts); err != nil {
		return err
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, startTimeout)
	defer cancel()
	size, err := reader.IntegratedSize(ctx)
	if err != nil {
		return err
	}
	// A crash between the tree and its checkpoint leaves the storage to publish.
	v, err := s.await(ctx, int64(size))
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "index.db")
	if s.index, err = openIndex(path, s.log); err != nil {
		return err
	}
	if err := s.index.check(s.ctx, source{v}, v.Checkpoint); err != nil {
		return fmt.Errorf("%w; restore the log from a backup, or delete %s* to go on with this one, which everybody who saw the other can tell", err, path)
	}
	return s.index.extend(s.ctx, source{v}, v.Checkpoint)
}

// Close takes no more entries, finishes those it has, and ends. Where ctx ends
// first, unfinished entries were not acknowledged; they may be in the log.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	again := s.closing
	s.closing = true
	s.mu.Unlock()
	if again {
		return nil
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	var err error
	select {
	case <-s.stopped:
		err = s.shutdown(ctx)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		// The writer may still hold storage and index; the process is to end.
		s.cancel()
		return fmt.Errorf("closing the log: %w", err)
	}
	return s.release()
}

func (s *Server) release() error {
	var errs []error
	if s.cancel != nil {
		s.cancel()
	}
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	if s.metrics != nil {
		s.metrics.unregister()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
	}
	return errors.Join(errs...)
}

// PublicKey is the log's key, for the trust root.
func (s *Server) PublicKey() crypto.PublicKey { return s.key.Public() }

// KeyID is the trust root's logId.keyId, 32 bytes.
func (s *Server) KeyID() []byte { return s.id[:] }

// Origin is the log's name in its checkpoints.
func (s *Server) Origin() string { return s.origin }

// Created is when the log was made (UTC), the start of its key's validity.
func (s *Server) Created() time.Time { return s.created }
