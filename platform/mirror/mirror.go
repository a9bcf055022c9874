// Package mirror keeps verified copies of transparency logs, and serves them as a mirror does
// (c2sp.org/tlog-mirror, the monitoring prefix): the tiles of each log, and a checkpoint that the
// mirror has cosigned, which says that it has everything under it. It fetches the logs itself, or
// takes what they push: everything is verified, and then copied as if it had been fetched.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
	"github.com/colophon-build/colophon/tlog/witness"
)

const (
	logsDir      = "logs"   // HEX: state and copy of the log with this hash of its origin
	inboxDir     = "pushed" // HEX: what the log pushed, and the copy does not have yet
	defaultEvery = 10 * time.Second
)

// Log is a log to mirror.
type Log struct {
	Key    note.Verifier // its name is the log's origin
	Source tlog.Source   // nil: the log pushes its entries
}

// Config of a Mirror.
type Config struct {
	Dir     string        // keys, states and copies; created at first start
	Name    string        // of the mirror as a cosigner; it may not be that of a witness, and cannot be changed later
	Logs    []Log         // of different origins
	Every   time.Duration // how often logs are asked for new entries; 0: 10 seconds
	Metrics prometheus.Registerer
	Log     *slog.Logger // nil: slog.Default()
}

// Mirror has copies of logs. Safe for concurrent use.
type Mirror struct {
	every   time.Duration
	signers []*tlog.Cosigner
	copies  map[string]*mirrored // by hash of the origin
	log     *slog.Logger
	uploads chan struct{} // one element for each upload that is being received
	stall   time.Duration // packageStall; less in tests

	size, failed *prometheus.GaugeVec
}

// mirrored is the copy of one log. It is a tlog.Source for clients.
type mirrored struct {
	tlog.Dir
	origin string
	follow *follow.Follower
	inbox  *inbox // nil: the log is fetched

	following sync.Mutex // while the log is followed
	mu        sync.Mutex
	signed    []byte // the checkpoint of the copy, cosigned; nil: there is none yet
	lines     []byte // the cosignatures of the mirror
	why       string // the log could not be followed the last time; empty: it could
}

// New opens the copies in cfg.Dir.
func New(cfg Config) (_ *Mirror, err error) {
	m := &Mirror{every: cfg.Every, copies: map[string]*mirrored{}, log: cfg.Log, uploads: make(chan struct{}, maxUploads), stall: packageStall}
	if m.every == 0 {
		m.every = defaultEvery
	}
	if m.log == nil {
		m.log = slog.Default()
	}
	dir, err := owned.Dir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if m.signers, err = cosigner.Open(dir, cfg.Name, logsDir); err != nil {
		return nil, err
	}
	if err := cosigner.Publish(dir, m.signers); err != nil {
		return nil, err
	}
	m.size = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "colophon_mirror_log_size", Help: "Entries of the copy of a log."}, []string{"origin"})
	m.failed = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "colophon_mirror_log_failed", Help: "1 if the log could not be followed the last time: unreachable, key-suspect, misbehaves."}, []string{"origin", "kind"})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(m.size, m.failed)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, l := range cfg.Logs {
		hash := witness.OriginHash(l.Key.Name())
		if m.copies[hash] != nil {
			return nil, fmt.Errorf("got the log %s twice", l.Key.Name())
		}
		if err := m.open(l, dir, hash); err != nil {
			return nil, fmt.Errorf("copy of %s: %w", l.Key.Name(), err)
		}
	}
	return m, nil
}

// open opens the copy of a log.
func (m *Mirror) open(l Log, dir, hash string) (err error) {
	c := &mirrored{origin: l.Key.Name()}
	cfg := follow.Config{Key: l.Key, Source: l.Source, Dir: filepath.Join(dir, logsDir, hash), Copy: true}
	if l.Source == nil {
		if c.inbox, err = openInbox(filepath.Join(dir, inboxDir, hash), l.Key, tlog.Dir(filepath.Join(cfg.Dir, "copy"))); err != nil {
			return err
		}
		cfg.Source = c.inbox
	}
	if c.follow, err = follow.Open(cfg); err != nil {
		return err
	}
	c.Dir = c.follow.Copy()
	m.copies[hash] = c
	if c.inbox != nil {
		p := c.follow.Progress()
		if err := c.inbox.resume(p.Next, p.Checkpoint); err != nil {
			return err
		}
	}
	return m.cosign(c)
}

// Close releases the copies.
func (m *Mirror) Close() error {
	var errs []error
	for _, c := range m.copies {
		errs = append(errs, c.follow.Close())
	}
	return errors.Join(errs...)
}

// Keys returns the verifier keys.
func (m *Mirror) Keys() (all []tlog.WitnessKey) {
	for _, s := range m.signers {
		all = append(all, s.Key)
	}
	return all
}

// Run follows the logs until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range m.copies {
		if c.inbox != nil {
			continue
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				m.update(ctx, c)
				select {
				case <-ctx.Done():
				case <-time.After(m.every):
				}
			}
		})
	}
	wg.Wait()
}

// Update follows each log once.
func (m *Mirror) Update(ctx context.Context) {
	for _, c := range m.copies {
		if c.inbox == nil {
			m.update(ctx, c)
		}
	}
}

func (m *Mirror) update(ctx context.Context, c *mirrored) {
	c.following.Lock()
	defer c.following.Unlock()
	_ = m.follow(ctx, c)
}

// follow makes the copy of a log, and cosigns it. The caller holds c.following.
func (m *Mirror) follow(ctx context.Context, c *mirrored) error {
	err := c.follow.Follow(ctx)
	if err == nil {
		err = m.cosign(c)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind, why := "", ""
	if err != nil {
		kind, why = "failed", err.Error()
	}
	failure, isFailure := errors.AsType[*follow.Failure](err)
	if isFailure {
		kind = string(failure.Kind)
	}
	m.failed.DeletePartialMatch(prometheus.Labels{"origin": c.origin})
	if kind != "" {
		m.failed.WithLabelValues(c.origin, kind).Set(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case why == c.why:
	case isFailure:
		m.log.Error("a log could not be followed; the copy stays as it was", "origin", c.origin, "kind", kind, "reason", failure.Reason, "evidence", failure.Evidence, "error", why)
	case err != nil:
		m.log.Error("a copy could not be updated", "origin", c.origin, "error", why)
	default:
		m.log.Info("a log is followed again", "origin", c.origin)
	}
	c.why = why
	return err
}

// cosign cosigns the checkpoint of the copy, if it is a new one. All that it covers is on disk.
func (m *Mirror) cosign(c *mirrored) error {
	signed, err := c.Dir.Checkpoint(context.Background())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	n, err := note.Open(signed, note.VerifierList(c.follow.Key()))
	if err != nil {
		return err
	}
	cp, err := tlog.ParseCheckpoint(n.Text)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signed != nil {
		if slices.Equal(c.signed[:min(len(n.Text), len(c.signed))], []byte(n.Text)) {
			return nil
		}
	}
	// Of the other signatures, only the log's is verified.
	out := fmt.Appendf(nil, "%s\n", n.Text)
	for _, sig := range n.Sigs {
		out = fmt.Appendf(out, "— %s %s\n", sig.Name, sig.Base64)
	}
	var lines []byte
	for _, s := range m.signers {
		line, err := s.Cosign(cp, time.Now())
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	c.signed, c.lines = append(out, lines...), lines
	m.size.WithLabelValues(c.origin).Set(float64(cp.Size))
	return nil
}

// Checkpoint implements tlog.Source.
func (c *mirrored) Checkpoint(context.Context) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signed == nil {
		return nil, fmt.Errorf("there is no copy yet: %w", fs.ErrNotExist)
	}
	return c.signed, nil
}

// Problem says which logs could not be followed, in one line; "" if all could.
func (m *Mirror) Problem() (text string) {
	for _, c := range m.copies {
		c.mu.Lock()
		if c.why != "" && c.signed == nil {
			text += c.origin + " has no copy: " + c.why + " "
		}
		c.mu.Unlock()
	}
	return text
}

// Handler serves /HEX/checkpoint and /HEX/tile/…, where HEX is the hash of the origin, and /keys; for logs
// that push their entries, POST /add-checkpoint and /add-entries.
func (m *Mirror) Handler() http.Handler {
	mux := http.NewServeMux()
	for hash, c := range m.copies {
		mux.Handle("GET /"+hash+"/", http.StripPrefix("/"+hash+"/", tlog.Handler{Source: c}))
	}
	mux.HandleFunc("POST "+witness.PathAdd, m.serveAddCheckpoint)
	mux.HandleFunc("POST "+pathAddEntries, m.serveAddEntries)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(cosigner.Text(m.signers)))
	})
	return mux
}
