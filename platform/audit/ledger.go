// Package audit keeps the audit ledger of a platform (spec/audit/v1): a log with tiles of what was
// decided and what administrators did.
//
// An entry is acknowledged when it has its index and is in the journal, fsynced. The tree grows from
// the journal a moment later: tiles, openings, and a checkpoint that the ledger's key signs. A
// database beside them answers questions; it is a cache, and can be deleted.
//
//	key.pem     the ledger's Ed25519 key
//	journal/    the newest entries
//	base.json   how much of the tree is on the disk for good
//	ledger/     what everybody verifies: see package audit/files
//	retired/    the IDs of the records that retention deleted
//	index.db    which entry is about what
package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/tlog"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
)

// Config of a Ledger.
type Config struct {
	Dir       string           // see the package; created at the first start. One process at a time uses it
	Origin    string           // the ledger's name in its checkpoints; cannot change
	Private   []string         // fields of the ledger's own records, and of those that accounts report, that they only commit to; see records.NewSigner
	Writers   []records.Writer // that the configuration names, besides those that Enrol adds
	Segment   int64            // entries of a segment, a multiple of tlog.TileWidth; 0: files.SegmentSize
	Witnesses *witnesses.Set   // cosign the checkpoints; nil: nobody does. The caller closes it after the Ledger
	Metrics   prometheus.Registerer
	Log       *slog.Logger     // nil: slog.Default()
	Now       func() time.Time // nil: time.Now

	step func(string) // tests: called before each step that a crash could come after
}

// Ledger is an open ledger. Safe for concurrent use.
type Ledger struct {
	cfg      Config
	dir      string // of what everybody verifies
	lock     *dirlock.Lock
	signer   note.Signer
	verifier note.Verifier
	vkey     string
	self     *records.Signer
	metrics  *metrics
	index    *index

	current atomic.Pointer[view] // what is published
	indexed atomic.Int64         // entries that the index has

	mu          sync.Mutex
	writers     *records.Writers
	epoch       int // of writers: grows with each change
	queues      map[string][]*waiting
	order       []string // keys of queues, the next one first
	queued      int
	queuedBytes int64            // of queues
	recent      map[string]int64 // ID → index, of entries that the index does not have
	behind      []entry          // in the journal, and not in the tree
	behindBytes int64            // of behind
	broken      error            // the tree or the index cannot grow
	closing     bool
	drained     bool // sequence has ended

	sequenced chan struct{}   // wakes sequence
	grown     chan struct{}   // wakes follow
	changed   chan struct{}   // closed when current, indexed or broken change; guarded by mu
	tasks     chan func()     // run by follow, between two batches
	turns     chan chan int64 // make sequence begin a file of the journal, and say with which entry
	stopped   sync.WaitGroup

	// Of sequence alone.
	journal *journal
	runs    map[string]int64 // the largest number of runs, of all that ever came; at most maxRuns

	// Of follow alone.
	tree      *tree
	taken     int64           // index of the first entry in behind
	base      int64           // size of the tree that is on the disk for good
	unsettled int64           // bytes of the entries after it
	unsynced  map[string]bool // paths written since
	stuck     error           // what of them is on the disk is not known
	sealed    int64           // segments that are closed
}

// view is a published checkpoint.
type view struct {
	tlog.Checkpoint
	signed []byte
}

var (
	// ErrFull means that the disk is full: nothing was recorded, and nothing will be until there is room.
	ErrFull = errors.New("the disk of the audit ledger is full")
	// ErrBusy means that too much is waiting. Try again later.
	ErrBusy = errors.New("the audit ledger is busy; try again")
	// ErrRefused means that the ledger takes no such record.
	ErrRefused = errors.New("refused")
	// ErrNotFound means that the ledger has no such record.
	ErrNotFound = errors.New("the audit ledger has no such record")
)

// Open opens the ledger, and creates it at the first start. It returns when the tree and the index
// have all entries of the journal.
func Open(ctx context.Context, cfg Config) (_ *Ledger, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Segment == 0 {
		cfg.Segment = files.SegmentSize
	}
	if cfg.Segment < 0 || cfg.Segment%tlog.TileWidth != 0 {
		return nil, fmt.Errorf("audit ledger: segment: expected a multiple of %d, found %d", tlog.TileWidth, cfg.Segment)
	}
	if cfg.step == nil {
		cfg.step = func(string) {}
	}
	l := &Ledger{
		cfg: cfg, dir: filepath.Join(cfg.Dir, "ledger"), queues: map[string][]*waiting{}, recent: map[string]int64{}, runs: map[string]int64{}, unsynced: map[string]bool{},
		sequenced: make(chan struct{}, 1), grown: make(chan struct{}, 1), changed: make(chan struct{}), tasks: make(chan func()), turns: make(chan chan int64),
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("audit ledger %s: %w", cfg.Dir, err), l.release())
		}
	}()
	if err := l.checkHistory(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	if l.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	if err := l.sweep(); err != nil {
		return nil, err
	}
	if err := l.openKey(); err != nil {
		return nil, err
	}
	if l.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if err := l.recover(ctx); err != nil {
		return nil, err
	}
	l.stopped.Go(l.sequence)
	l.stopped.Go(l.follow)
	if err := l.resumeErasure(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for _, w := range cfg.Writers {
		if err := l.Enrol(ctx, w); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// sweep removes the temporary files that a crash left.
func (l *Ledger) sweep() error {
	if err := durable.Sweep(l.cfg.Dir); err != nil {
		return err
	}
	for _, dir := range []string{l.dir, l.retired()} {
		if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			return durable.Sweep(path)
		}); err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing was retired yet
			return err
		}
	}
	return nil
}

// sweepPartial removes the partial tiles of trees that a crash of the machine ended before they were
// durable: they may be torn. Those of the trees that count are there, and were just written.
func (l *Ledger) sweepPartial() error {
	keep := map[string]bool{}
	for _, t := range []*tree{{size: l.base}, l.tree} {
		for level := tlog.Entries; level < levels; level++ {
			tile := t.partial(level)
			keep[filepath.Join(l.dir, filepath.FromSlash(tile.Path()))] = true
			if level == tlog.Entries {
				keep[filepath.Join(l.dir, filepath.FromSlash(files.OpeningsPath(tile)))] = true
			}
		}
	}
	return filepath.WalkDir(l.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || keep[path] || filepath.Ext(filepath.Dir(path)) != ".p" {
			return err
		}
		return os.Remove(path)
	})
}

// checkHistory fails if the key is there alone: with it, the ledger would begin another history. The first start makes
// the directory of the tree before the key.
func (l *Ledger) checkHistory() error {
	for _, name := range []string{"ledger", "journal"} {
		if _, err := os.Lstat(filepath.Join(l.cfg.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if _, err := os.Lstat(filepath.Join(l.cfg.Dir, "key.pem")); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, errors.New("key.pem is there, and all that was recorded with it is missing; restore it from a backup, or begin a ledger with another key in another directory"))
	}
	return nil
}

// openKey reads the key, or creates it. It is never created again: the ledger would be another one.
func (l *Ledger) openKey() error {
	key, err := recorder.Key(filepath.Join(l.cfg.Dir, "key.pem"), func() error {
		for _, trace := range []string{"base.json", "ledger/checkpoint"} {
			if _, err := os.Lstat(filepath.Join(l.cfg.Dir, trace)); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("key.pem is missing, but %s shows that it existed; restore it from a backup", trace)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if l.signer, err = tlog.NewSigner(l.cfg.Origin, key); err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	if l.verifier, err = tlog.NewVerifier(l.cfg.Origin, public); err != nil {
		return err
	}
	if l.vkey, err = note.NewEd25519VerifierKey(l.cfg.Origin, public); err != nil {
		return err
	}
	if l.writers, err = records.NewWriters(public); err != nil {
		return err
	}
	l.self, err = records.NewSigner(key, records.RoleLedger, "", l.cfg.Private)
	return err
}

// recover makes the tree and the index those of the journal.
func (l *Ledger) recover(ctx context.Context) (err error) {
	b, err := readBase(l.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		root := tlog.EmptyRoot()
		b.Root = root[:]
	} else if err != nil {
		return err
	}
	if l.tree, err = loadTree(ctx, l.dir, tlog.Checkpoint{Origin: l.cfg.Origin, Size: b.Size, Root: tlog.Hash(b.Root)}); err != nil {
		return err
	}
	l.base = b.Size
	if l.journal, err = openJournal(filepath.Join(l.cfg.Dir, "journal"), b.Size, func(index int64, e entry) {
		l.behind = append(l.behind, e)
		l.recent[e.id] = index
	}); err != nil {
		return err
	}
	if l.index, err = openIndex(filepath.Join(l.cfg.Dir, "index.db"), l.retiredIDs, l.cfg.Log); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	published, err := l.published()
	if err != nil {
		return err
	}
	if published.Size > l.journal.next {
		return fmt.Errorf("the checkpoint has %d entries, and the journal only %d: acknowledged entries are missing; restore them from a backup", published.Size, l.journal.next)
	}
	if err := l.grow(ctx, l.behind, published); err != nil {
		return err
	}
	if err := anew(l.dir, l.unsynced); err != nil {
		return err
	}
	l.behind, l.taken = nil, l.tree.size
	if err := l.sweepPartial(); err != nil {
		return err
	}
	if err := l.index.Check(ctx, "ledger", tlog.Dir(l.dir), l.current.Load().Checkpoint); err != nil {
		return fmt.Errorf("%w; restore the ledger from a backup", err)
	}
	if err := l.index.extend(ctx, files.Dir(l.dir), l.current.Load().Checkpoint); err != nil {
		return err
	}
	l.indexed.Store(l.index.Size)
	return l.readWriters(ctx)
}

// published returns the checkpoint on the disk; that of no entries if there is none.
func (l *Ledger) published() (*view, error) {
	signed, err := tlog.Dir(l.dir).Checkpoint(context.Background())
	if errors.Is(err, fs.ErrNotExist) {
		return &view{Checkpoint: tlog.Checkpoint{Origin: l.cfg.Origin, Root: tlog.EmptyRoot()}}, nil
	} else if err != nil {
		return nil, err
	}
	cp, err := tlog.OpenCheckpoint(signed, l.verifier)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w; restore it from a backup", err)
	}
	return &view{cp, signed}, nil
}

// readWriters reads from the entries whose signatures count.
func (l *Ledger) readWriters(ctx context.Context) error {
	entries, err := l.index.ofKind(ctx, records.KindWriter)
	if err != nil {
		return err
	}
	for _, at := range entries {
		raw, err := l.entry(ctx, at)
		if err != nil {
			return err
		}
		_, _, r, err := records.ParseLeaf(raw)
		if err == nil {
			err = l.writers.Add(r)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", at, err)
		}
	}
	return nil
}

// Key returns the ledger's verifier key (C2SP signed-note).
func (l *Ledger) Key() string { return l.vkey }

// Enrol makes the signatures by a writer's key count. A writer that counts already is not recorded again.
func (l *Ledger) Enrol(ctx context.Context, w records.Writer) error {
	if _, err := records.ParseKey(w.Key); err != nil || w.Role == "" || w.Role == records.RoleLedger {
		return fmt.Errorf("%w: writer: expected a role and its key: %w", ErrRefused, err)
	}
	l.mu.Lock()
	known := l.writers.Has(w)
	l.mu.Unlock()
	if known && !w.Revoked || !known && w.Revoked {
		return nil
	}
	_, err := l.Record(ctx, records.Record{Kind: records.KindWriter, Outcome: records.Done, Writer: &w})
	return err
}

// Record records an act of the ledger itself. It returns when a checkpoint covers it.
func (l *Ledger) Record(ctx context.Context, r records.Record) (index int64, err error) {
	e, err := l.self.Seal(r, l.cfg.Now())
	if err != nil {
		return 0, err
	}
	a, err := l.Append(ctx, e.Marshal())
	if err != nil {
		return 0, err
	}
	return a.Index, l.Await(ctx, a.Index+1)
}

// Await waits until a published checkpoint has size entries.
func (l *Ledger) Await(ctx context.Context, size int64) error {
	err := l.await(ctx, func() bool { return l.current.Load().Size >= size })
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("the entry is recorded, and no checkpoint covers it yet: %w", err)
	}
	return err
}

// await waits until done, or until the ledger cannot grow.
func (l *Ledger) await(ctx context.Context, done func() bool) error {
	for {
		l.mu.Lock()
		changed, broken := l.changed, l.broken
		l.mu.Unlock()
		if done() {
			return nil
		}
		if broken != nil {
			return broken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change wakes those who await. The caller holds mu.
func (l *Ledger) change() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Ready returns an error if the ledger takes no records.
func (l *Ledger) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// Close finishes what is waiting, and closes the ledger.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return nil
	}
	l.closing = true
	l.mu.Unlock()
	l.wake(l.sequenced)
	l.stopped.Wait()
	err := l.settle()
	return errors.Join(err, l.release())
}

func (l *Ledger) release() error {
	var errs []error
	if l.index != nil {
		errs = append(errs, l.index.close())
	}
	if l.journal != nil {
		errs = append(errs, l.journal.close())
	}
	if l.metrics != nil {
		l.metrics.unregister()
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Release())
	}
	return errors.Join(errs...)
}

func (l *Ledger) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *Ledger) writeBase() error {
	root := l.tree.root()
	return durable.WriteFile(filepath.Join(l.cfg.Dir, "base.json"), base{l.tree.size, root[:]}.bytes(), 0o600)
}

// sum returns the bytes of an ID.
func sum(id string) []byte {
	raw, _ := hex.DecodeString(id[len("sha256:"):])
	return raw
}
