package tiles

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/tlog"
)

const (
	batchAge           = time.Millisecond       // an Append waits for its own entries alone
	batchSize          = 256                    // entries that Tessera writes at once
	checkpointInterval = 100 * time.Millisecond // the shortest that Tessera accepts
	publishTimeout     = 30 * time.Second       // for publishing entries, also those that a crash or a failed Append left unpublished
)

var (
	// ErrConflict matches errors of adding to a log that it has other entries there.
	ErrConflict = errors.New("the log has other entries there")
	// ErrMalformed matches errors of adding to a log that an entry is not one of such a log.
	ErrMalformed = errors.New("malformed")
)

// LogConfig is the configuration of a Log.
type LogConfig struct {
	// Name is what messages call the log, such as "index log".
	Name string

	// Dir is the directory of the log, in the layout of C2SP tlog-tiles. Created at first
	// start. One process at a time uses it.
	Dir string

	// Record is the path of the log's Record.
	Record string

	// Signer signs checkpoints; its name is the log's origin. PublicKey verifies them.
	Signer    note.Signer
	PublicKey ed25519.PublicKey

	// Witnesses cosign the checkpoints; nil: nobody does. The caller closes them after the Log.
	Witnesses *witnesses.Set

	// WitnessWait is how long Append waits for a quorum of Witnesses. Then it returns without:
	// what comes later is served all the same.
	WitnessWait time.Duration

	Log *slog.Logger // gets messages for the operator; nil: slog.Default()
}

// Log is a log with one writer, on Tessera's POSIX storage. Entries are in the order in which
// Append got them. Safe for concurrent use.
type Log struct {
	cfg      LogConfig
	vkey     string
	verifier note.Verifier
	dir      tlog.Dir
	lock     *dirlock.Lock
	ctx      context.Context // of the storage
	cancel   context.CancelFunc
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error
	patience time.Duration // publishTimeout; less in tests

	mu     sync.Mutex // held by Append
	closed bool
}

// OpenLog opens the log, and creates it at the first start.
func OpenLog(cfg LogConfig) (_ *Log, err error) {
	l := &Log{cfg: cfg, dir: tlog.Dir(cfg.Dir), patience: publishTimeout}
	if l.cfg.Log == nil {
		l.cfg.Log = slog.Default()
	}
	defer func() {
		if err != nil {
			l.release()
			err = fmt.Errorf("%s %s: %w", cfg.Name, cfg.Dir, err)
		}
	}()
	if l.vkey, err = note.NewEd25519VerifierKey(cfg.Signer.Name(), cfg.PublicKey); err != nil {
		return nil, err
	}
	if l.verifier, err = note.NewVerifier(l.vkey); err != nil {
		return nil, err
	}
	if err := Record(cfg.Record).Check(cfg.Dir); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if l.lock, err = dirlock.Take(cfg.Dir); err != nil {
		return nil, err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := Check(l.ctx, cfg.Dir, l.verifier); err != nil {
		return nil, err
	}
	driver, err := posix.New(l.ctx, posix.Config{Path: cfg.Dir})
	if err != nil {
		return nil, err
	}
	opts := tessera.NewAppendOptions().
		WithCheckpointSigner(cfg.Signer).
		WithCheckpointInterval(checkpointInterval).
		WithCheckpointRepublishInterval(0).
		WithBatching(batchSize, batchAge)
	if l.appender, l.shutdown, l.reader, err = tessera.NewAppender(l.ctx, driver, opts); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, publishTimeout)
	defer cancel()
	cp, err := l.settled(ctx)
	if err == nil && cp.Size > 0 {
		err = errors.Join(l.record(), l.offer(ctx))
	}
	return l, err
}

// Append calls next with the log's last entry, nil if it has none, and its checkpoint, and adds
// the entries that next returns. It returns the index of the first, when a published checkpoint
// covers all of them, fsynced. The entries may be there if it fails: next sees them at the
// next call.
func (l *Log) Append(ctx context.Context, next func(last []byte, cp tlog.Checkpoint) ([][]byte, error)) (first int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, fmt.Errorf("the %s is closed", l.cfg.Name)
	}
	last, cp, err := l.last(ctx)
	if err != nil {
		return 0, err
	}
	entries, err := next(last, cp)
	if err != nil || len(entries) == 0 {
		return cp.Size, err
	}
	for _, entry := range entries {
		if len(entry) > tlog.MaxEntry {
			return 0, fmt.Errorf("%s: entry: got %d bytes, want at most %d", l.cfg.Name, len(entry), tlog.MaxEntry)
		}
	}
	// From here on the context of the storage counts: an entry that is added without anybody
	// who waits for it could be added a second time.
	// One batch after another: Tessera keeps the order within one, and nobody else adds.
	for at := 0; at < len(entries); at += batchSize {
		if err := l.addBatch(entries[at:min(at+batchSize, len(entries))], cp.Size+int64(at)); err != nil {
			return 0, err
		}
	}
	published, cancel := context.WithTimeout(l.ctx, l.patience)
	defer cancel()
	if _, err := l.await(published, cp.Size+int64(len(entries))); err != nil {
		return 0, err // next sees them at the next call
	}
	if err := l.record(); err != nil {
		return 0, err
	}
	return cp.Size, l.cosign(ctx, cp.Size+int64(len(entries)))
}

// cosign waits a while until witnesses have cosigned a checkpoint of at least size entries.
func (l *Log) cosign(ctx context.Context, size int64) error {
	if l.cfg.Witnesses == nil {
		return nil
	}
	if err := l.offer(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, l.cfg.WitnessWait)
	defer cancel()
	l.cfg.Witnesses.Await(wait, size)
	return nil
}

// offer has the witnesses cosign the published checkpoint.
func (l *Log) offer(ctx context.Context) error {
	if l.cfg.Witnesses == nil {
		return nil
	}
	signed, cp, err := l.Published(ctx)
	if err == nil {
		l.cfg.Witnesses.Offer(witnesses.Offer{Checkpoint: cp, Signed: signed, Source: l.Source()})
	}
	return err
}

// addBatch adds entries, the first of which must get this index.
func (l *Log) addBatch(entries [][]byte, first int64) error {
	futures := make([]tessera.IndexFuture, len(entries))
	for i, entry := range entries {
		futures[i] = l.appender.Add(l.ctx, tessera.NewEntry(entry))
	}
	var errs []error
	for i, future := range futures {
		at, err := future()
		if err == nil && int64(at.Index) != first+int64(i) {
			err = fmt.Errorf("%s: an entry has the index %d, want %d", l.cfg.Name, at.Index, first+int64(i))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *Log) record() error { return Record(l.cfg.Record).Write(l.vkey) }

// settled returns the published checkpoint when it covers all that the storage has. An Append
// that failed may have left an entry that is not published yet, and the next one must not come
// after it unseen.
func (l *Log) settled(ctx context.Context) (tlog.Checkpoint, error) {
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	return l.await(ctx, int64(size))
}

// last returns the last entry, when the published checkpoint covers it.
func (l *Log) last(ctx context.Context) ([]byte, tlog.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	cp, err := l.settled(ctx)
	if err != nil || cp.Size == 0 {
		return nil, cp, err
	}
	last, _, err := tlog.Entry(ctx, l.dir, cp, cp.Size-1)
	return last, cp, err
}

// checkpoint returns the published checkpoint; the zero one if there is none yet.
func (l *Log) checkpoint(ctx context.Context) (tlog.Checkpoint, error) {
	_, cp, err := l.Published(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return tlog.Checkpoint{}, nil
	}
	return cp, err
}

// Published returns the published checkpoint and its note. The error matches fs.ErrNotExist if there
// is none yet.
func (l *Log) Published(ctx context.Context) (signed []byte, cp tlog.Checkpoint, err error) {
	if signed, err = l.dir.Checkpoint(ctx); err != nil {
		return nil, cp, err
	}
	cp, err = tlog.OpenCheckpoint(signed, l.verifier)
	return signed, cp, err
}

// await polls until a checkpoint of at least size entries is published.
func (l *Log) await(ctx context.Context, size int64) (tlog.Checkpoint, error) {
	logged := ""
	for {
		cp, err := l.checkpoint(ctx)
		if err == nil && cp.Size >= size {
			// The storage may have renamed the file and not yet fsynced the directory.
			return cp, durable.SyncDir(l.cfg.Dir)
		}
		if err != nil && err.Error() != logged {
			logged = err.Error()
			l.cfg.Log.Error("reading the checkpoint of the "+l.cfg.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return cp, fmt.Errorf("no checkpoint of %d entries was published: %w", size, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Close finishes pending entries, and closes the log.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if err := l.shutdown(ctx); err != nil {
		l.cancel() // the storage may still be in use, so the process must end
		return fmt.Errorf("closing the %s: %w", l.cfg.Name, err)
	}
	return l.release()
}

func (l *Log) release() error {
	if l.cancel != nil {
		l.cancel()
	}
	if l.lock != nil {
		return l.lock.Release()
	}
	return nil
}

// Source returns what clients read: the published checkpoint with the cosignatures that have come in,
// and the tiles under it, verified.
func (l *Log) Source() tlog.Source { return published{l} }

type published struct{ *Log }

func (p published) Checkpoint(ctx context.Context) ([]byte, error) {
	if p.cfg.Witnesses == nil {
		return p.dir.Checkpoint(ctx)
	}
	signed, cp, err := p.Published(ctx)
	if err != nil {
		return nil, err
	}
	if seen, ok := p.cfg.Witnesses.Seen(cp.Size); ok {
		return seen.Envelope, nil
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
		return nil, fmt.Errorf("the %s is damaged: %v", p.cfg.Name, err) // not fs.ErrNotExist: the log has this tile
	}
	return data, nil
}

// Refuse answers a request to add entries that failed: 409 if err matches ErrConflict, 400 if it
// matches ErrMalformed, else 500.
func (l *Log) Refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrMalformed):
		status = http.StatusBadRequest
	}
	l.cfg.Log.Error("adding to the "+l.cfg.Name, "error", err)
	http.Error(w, err.Error(), status)
}

// Handler serves what clients read, below prefix, such as "/index/". src is Source, or what makes more
// of it.
func (l *Log) Handler(prefix string, src tlog.Source) http.Handler {
	return http.StripPrefix(prefix, tlog.Handler{Source: src, Fail: l.fail})
}

func (l *Log) fail(w http.ResponseWriter, status int, err error) {
	if status != http.StatusNotFound {
		l.cfg.Log.Error("reading the "+l.cfg.Name, "error", err)
	}
	http.Error(w, http.StatusText(status), status)
}
