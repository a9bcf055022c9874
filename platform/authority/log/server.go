// Package log is a Rekor v2 transparency log on Tessera's POSIX storage. POST
// /api/v2/log/entries adds hashedrekord 0.0.2 entries; reads under /api/v2 follow C2SP
// tlog-tiles.
//
// The log acknowledges an entry after it is in the tree on disk and a published
// checkpoint covers it, all fsynced. If a client sends the same entry again, it gets the
// index and proof of the original, so a client that lost an answer can repeat its request.
// A database beside the log maps entries to indexes. It is a cache: the log fills it and
// it can be deleted.
package log

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/tlog"
)

const (
	tilesDir = "tiles" // directory in Config.Dir: the log in the layout of C2SP tlog-tiles

	batchSize          = 256                    // entries sequenced together, at most
	batchAge           = time.Millisecond       // how long Tessera waits for more entries; it gets a batch at once
	gatherStep         = 2 * time.Millisecond   // how long to wait for the next requests of the clients of a batch, as long as more arrive
	gatherMost         = 6 * time.Millisecond   // how long to wait for them at most
	checkpointInterval = 100 * time.Millisecond // the shortest that Tessera accepts
	startTimeout       = 30 * time.Second       // for publishing, at start, what a crash left unpublished

	defaultMaxPending = 1024
)

// Config of a Server.
type Config struct {
	// Dir is the directory of the log: tiles/ (what is served), log.json (origin and
	// public key) and index.db (a cache). Created at first start. One process at a time
	// uses it.
	Dir string

	// KeyFile is the path of the log's Ed25519 key, PKCS#8 in PEM, mode 0600. Created
	// at first start and never overwritten. If it is missing, an existing log does not
	// start. Beside it, with the ending .vkey, is the log's tiles.Record.
	KeyFile string

	// Origin is the log's name in its checkpoints. It must be the host name (no port)
	// of the log's URL. It cannot be changed later.
	Origin string

	// MaxPending bounds the requests in progress, and the entries in memory, each of
	// at most 128 KiB. Further requests get 503. 0 means 1024.
	MaxPending int

	// Reserved reports whether a request is one of those for which the log keeps as many
	// slots again, so that strangers cannot use them up. nil: there are none.
	Reserved func(*http.Request) bool

	// Witnesses cosign the checkpoints; nil: nobody does. The caller closes them after the Server.
	Witnesses *witnesses.Set

	// WitnessWait is how long an answer waits for a quorum of Witnesses. Then it has the
	// cosignatures that came in.
	WitnessWait time.Duration

	// NeedWitnesses makes answers wait for a quorum of Witnesses. Without one, requests get 503.
	NeedWitnesses bool

	// Metrics registers the server's collectors; nil: they are not registered.
	Metrics prometheus.Registerer

	// Log gets messages for the operator; nil: slog.Default().
	Log *slog.Logger
}

// Server is a running log. Safe for concurrent use.
type Server struct {
	origin     string
	created    time.Time
	record     tiles.Record
	vkey       string // for the record; empty: it is written
	key        ed25519.PrivateKey
	verifier   note.Verifier
	id         [32]byte
	tiles      tlog.Dir
	maxPending int
	log        *slog.Logger
	metrics    *metrics
	lock       *dirlock.Lock
	slots      chan struct{} // one element for each request in progress
	kept       chan struct{} // the same, for requests that reserved accepts
	reserved   func(*http.Request) bool

	witnesses     *witnesses.Set // nil: none
	witnessWait   time.Duration
	needWitnesses bool

	showing   sync.Mutex
	shownSize int64  // of shownLast; guarded by showing
	shownLast []byte // what clients got last; guarded by showing

	ctx      context.Context // context of the storage
	cancel   context.CancelFunc
	appender *tessera.Appender
	shutdown func(context.Context) error
	index    *index // once sequence runs, it alone uses the index
	current  atomic.Pointer[view]

	wake    chan struct{} // signals that queue is not empty or closing is set
	stopped chan struct{} // sequence has ended

	mu      sync.Mutex
	pending map[tlog.Hash]*pending
	queue   []*pending
	closing bool
}

// New opens the log in cfg.Dir, and creates it at the first start. It returns after a
// published checkpoint and the index cover every entry in the tree.
func New(cfg Config) (_ *Server, err error) {
	s := &Server{
		origin:     cfg.Origin,
		record:     tiles.Record(strings.TrimSuffix(cfg.KeyFile, filepath.Ext(cfg.KeyFile)) + ".vkey"),
		tiles:      tlog.Dir(filepath.Join(cfg.Dir, tilesDir)),
		maxPending: cfg.MaxPending,
		log:        cfg.Log,
		witnesses:  cfg.Witnesses, witnessWait: cfg.WitnessWait, needWitnesses: cfg.NeedWitnesses,
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
		pending: make(map[tlog.Hash]*pending),
	}
	if s.maxPending == 0 {
		s.maxPending = defaultMaxPending
	}
	if s.maxPending < 1 {
		return nil, fmt.Errorf("MaxPending: got %d, want 1 or more", cfg.MaxPending)
	}
	s.slots, s.kept = make(chan struct{}, s.maxPending), make(chan struct{}, s.maxPending)
	if s.reserved = cfg.Reserved; s.reserved == nil {
		s.reserved = func(*http.Request) bool { return false }
	}
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
	// Two processes would have separate indexes and log the same entry twice.
	if s.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.record.Check(string(s.tiles)); err != nil {
		return nil, fmt.Errorf("log %s: %w", cfg.Dir, err)
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
	if s.vkey, err = tlog.FormatLogKey(cfg.Origin, s.key.Public()); err != nil {
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

// open starts the storage and brings checkpoint and index up to date with the tree.
func (s *Server) open(dir string) error {
	signer, err := tlog.NewSigner(s.origin, s.key)
	if err != nil {
		return err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := tiles.Check(s.ctx, string(s.tiles), s.verifier); err != nil {
		return err
	}
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
	// After a crash the tree may be ahead of the checkpoint. The storage then publishes a
	// new one.
	v, err := s.await(ctx, int64(size))
	if err != nil {
		return err
	}
	if err := s.recordEntries(v); err != nil {
		return err
	}
	path := filepath.Join(dir, "index.db")
	if s.index, err = openIndex(path, s.log); err != nil {
		return fmt.Errorf("index of the log %s: %w", path, err)
	}
	if err := s.index.Check(s.ctx, "log", source{v}, v.Checkpoint); err != nil {
		return fmt.Errorf("%w; restore the log from a backup, or delete %s* to continue with this state, which everybody who saw the lost entries can detect", err, path)
	}
	return s.index.extend(s.ctx, source{v}, v.Checkpoint)
}

// recordEntries writes the record when the log has entries.
func (s *Server) recordEntries(v *view) error {
	if v.Size == 0 || s.vkey == "" {
		return nil
	}
	if err := s.record.Write(s.vkey); err != nil {
		return fmt.Errorf("record of the log: %w", err)
	}
	s.vkey = ""
	return nil
}

// Close stops accepting entries, finishes the pending ones, and closes the log. If ctx ends
// first, Close returns an error; the remaining entries are not acknowledged, but may be in
// the log.
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
		// sequence may still use storage and index, so do not release them: the process
		// must end.
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
		s.metrics.Unregister()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
	}
	return errors.Join(errs...)
}

// PublicKey returns the log's key, for the trust root.
func (s *Server) PublicKey() crypto.PublicKey { return s.key.Public() }

// KeyID returns the trust root's logId.keyId, 32 bytes.
func (s *Server) KeyID() []byte { return s.id[:] }

// Origin returns the log's name in its checkpoints.
func (s *Server) Origin() string { return s.origin }

// Created returns when the log was created (UTC): the start of its key's validity.
func (s *Server) Created() time.Time { return s.created }

// Verifier verifies the log's checkpoints.
func (s *Server) Verifier() note.Verifier { return s.verifier }

// Signer returns a signer of the checkpoints of another log, and its key: the log's key, under
// the other log's origin.
func (s *Server) Signer(origin string) (note.Signer, ed25519.PublicKey, error) {
	signer, err := tlog.NewSigner(origin, s.key)
	return signer, s.key.Public().(ed25519.PublicKey), err
}

// Source returns what the log serves, verified.
func (s *Server) Source() tlog.Source { return published{s} }
