// Package witness is a witness of transparency logs (c2sp.org/tlog-witness): it cosigns a
// checkpoint of a log if it extends the last one that it cosigned, and so sees that the log has one
// history. It knows logs by their keys, cosigns with Ed25519 and ML-DSA-44, and serves the last
// checkpoint of each log to monitors.
//
// The checkpoint is on disk before the witness answers. A witness that forgets a checkpoint could
// cosign a fork.
package witness

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/tlog"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

const (
	stateDir = "logs"  // HEX: the last checkpoint of the log with this hash of its origin
	forkDir  = "forks" // HEX: two checkpoints that a log signed, and that contradict each other

	maxOrigin = 255         // bytes; a cosignature of ML-DSA-44 has no room for more
	again     = time.Second // a checkpoint that was cosigned within this time gets the same answer
)

// Config of a Witness.
type Config struct {
	Dir     string                // keys and state; one process at a time uses it. Created at first start
	Name    string                // of the witness, such as example.org/witness; it cannot be changed later
	Logs    []note.Verifier       // keys of the logs, which have the names of their origins; a log may have several
	Now     func() time.Time      // nil: time.Now
	Metrics prometheus.Registerer // nil: metrics are not registered
	Log     *slog.Logger          // nil: slog.Default()
}

// Witness cosigns checkpoints. Safe for concurrent use.
type Witness struct {
	dir     string
	signers []*tlog.Cosigner
	logs    map[string]*observed // by origin
	hashes  map[string]*observed // by hash of the origin, in hex
	now     func() time.Time
	metrics *metrics
	log     *slog.Logger
	lock    *dirlock.Lock
}

// observed is what the witness knows about one log.
type observed struct {
	origin string
	keys   []note.Verifier
	path   string // of its state

	mu     sync.Mutex
	last   tlog.Checkpoint // zero: none was cosigned yet
	signed []byte          // last, with the signature of the log and the cosignatures
	lines  []byte          // the cosignatures
	at     time.Time       // their time
}

// New opens the state in cfg.Dir, and creates it and the keys at first start.
func New(cfg Config) (_ *Witness, err error) {
	w := &Witness{logs: map[string]*observed{}, hashes: map[string]*observed{}, now: cfg.Now, log: cfg.Log}
	if w.now == nil {
		w.now = time.Now
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.dir, err = owned.Dir(cfg.Dir); err != nil {
		return nil, err
	}
	if w.lock, err = dirlock.Take(w.dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{"", stateDir, forkDir} { // what a crash left half-written
		if err := durable.Sweep(filepath.Join(w.dir, dir)); err != nil {
			return nil, err
		}
	}
	if w.signers, err = cosigner.Open(w.dir, cfg.Name, stateDir); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Join(w.dir, forkDir), 0o700); err != nil {
		return nil, err
	}
	// The public keys come after the key and the directories: whoever has them knows that the
	// witness can keep what it cosigns.
	if err := cosigner.Publish(w.dir, w.signers); err != nil {
		return nil, err
	}
	if w.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	for _, key := range cfg.Logs {
		if len(key.Name()) > maxOrigin {
			return nil, fmt.Errorf("origin of a log: got %d bytes, want at most %d", len(key.Name()), maxOrigin)
		}
		o := w.logs[key.Name()]
		if o == nil {
			hash := protocol.OriginHash(key.Name())
			o = &observed{origin: key.Name(), path: filepath.Join(w.dir, stateDir, hash)}
			w.logs[o.origin], w.hashes[hash] = o, o
		}
		o.keys = append(o.keys, key)
	}
	for _, o := range w.logs {
		if err := w.load(o); err != nil {
			return nil, fmt.Errorf("state of %s: %w; restore it from a backup that is not older than its last cosignature, or make a new witness: one that forgets could cosign a fork", o.origin, err)
		}
	}
	return w, nil
}

// Close releases the directory.
func (w *Witness) Close() error {
	if w.metrics != nil {
		w.metrics.Unregister()
	}
	if w.lock == nil {
		return nil
	}
	return w.lock.Release()
}

// Keys returns the verifier keys.
func (w *Witness) Keys() (all []tlog.WitnessKey) {
	for _, s := range w.signers {
		all = append(all, s.Key)
	}
	return all
}

// load reads the state of a log. It verifies it, because it decides what is cosigned next.
func (w *Witness) load(o *observed) error {
	signed, err := strict.ReadFile(o.path, tlog.MaxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	cosignatures, err := tlog.Cosignatures(signed, w.Keys(), time.Unix(1<<62, 0))
	if err != nil {
		return err
	}
	if len(cosignatures) != len(w.signers) {
		return fmt.Errorf("got %d cosignatures, want %d", len(cosignatures), len(w.signers))
	}
	text, rest, _ := strings.Cut(string(signed), "\n\n")
	if o.last, err = tlog.ParseCheckpoint(text + "\n"); err != nil {
		return err
	}
	if o.last.Origin != o.origin {
		return fmt.Errorf("it is of %s", o.last.Origin)
	}
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "— "+w.signers[0].Key.Name()+" ") {
			o.lines = append(o.lines, line...)
		}
	}
	o.signed, o.at = signed, cosignatures[0].Time
	w.metrics.size.WithLabelValues(o.origin).Set(float64(o.last.Size))
	return nil
}

// Add answers the body of a call add-checkpoint: with signature lines, or a *protocol.Refusal. Any other
// error means that the state could not be kept.
func (w *Witness) Add(body []byte) ([]byte, error) {
	r, err := protocol.ParseRequest(body)
	if err != nil {
		return nil, protocol.Refuse(http.StatusBadRequest, "%v", err)
	}
	origin, _, _ := bytes.Cut(r.Checkpoint, []byte("\n"))
	o := w.logs[string(origin)]
	if o == nil {
		return nil, protocol.Refuse(http.StatusNotFound, "this witness does not know the log %q", origin)
	}
	cp, logged, err := r.Open(o.origin, o.keys...)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	forked, err := r.Extends(o.last, cp)
	if forked {
		w.keepFork(o, r.Checkpoint)
	}
	if err != nil {
		return nil, err
	}
	return w.cosign(o, cp, logged)
}

// cosign cosigns cp, keeps it, and then returns the cosignatures.
func (w *Witness) cosign(o *observed, cp tlog.Checkpoint, logged []byte) ([]byte, error) {
	now := w.now().UTC().Truncate(time.Second)
	same := o.last.Origin != "" && o.last.String() == cp.String()
	switch {
	case now.Before(o.at):
		// The statement would be that this was the largest tree at a time when it was not.
		return nil, fmt.Errorf("the clock is at %s, and the last cosignature for %s is of %s", now.Format(time.RFC3339), o.origin, o.at.Format(time.RFC3339))
	case same && now.Sub(o.at) < again:
		return o.lines, nil
	}
	var lines []byte
	for _, s := range w.signers {
		line, err := s.Cosign(cp, now)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line...)
	}
	signed := bytes.Join([][]byte{[]byte(cp.String()), []byte("\n"), logged, lines}, nil)
	if err := durable.WriteFile(o.path, signed, 0o600); err != nil {
		return nil, err
	}
	o.last, o.signed, o.lines, o.at = cp, signed, lines, now
	w.metrics.size.WithLabelValues(o.origin).Set(float64(cp.Size))
	return lines, nil
}

// keepFork writes down the first two checkpoints of a log that contradict each other: both have a
// signature of the log, and everybody can verify that.
func (w *Witness) keepFork(o *observed, signed []byte) {
	w.metrics.forks.WithLabelValues(o.origin).Inc()
	path := filepath.Join(w.dir, forkDir, filepath.Base(o.path))
	err := durable.CreateFile(path, bytes.Join([][]byte{o.signed, signed}, []byte("\n")), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return
	}
	w.log.Error("a log has shown two histories: see the file with both checkpoints", "origin", o.origin, "size", o.last.Size, "file", path, "error", err)
}

// Latest returns the last checkpoint of the log with this hash of its origin, in hex. The error
// matches fs.ErrNotExist if there is none.
func (w *Witness) Latest(hash string) ([]byte, error) {
	o := w.hashes[hash]
	if o == nil {
		return nil, fs.ErrNotExist
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.signed == nil {
		return nil, fs.ErrNotExist
	}
	return o.signed, nil
}
