// Package witnesses gets cosignatures of witnesses (c2sp.org/tlog-witness) for the checkpoints of a
// log of the platform. The log offers each checkpoint that it publishes and goes on; a witness that
// is slow, gone or lies delays only what is said to wait for it.
//
// One checkpoint at a time goes to all witnesses, so that their cosignatures are under the same one.
// When a quorum has cosigned it, or all have answered, the newest checkpoint is next.
package witnesses

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

const (
	askTimeout = 5 * time.Second // for one witness to answer
	roundLimit = time.Second     // after which a checkpoint without a quorum no longer keeps the next one waiting
	firstPause = time.Second     // after a witness failed; doubled each time
	lastPause  = time.Minute
	maxLines   = 90 // signatures under one checkpoint; readers of signed notes take 100
	mostAhead  = 10 * time.Minute
)

// Config of a Set.
type Config struct {
	Policy  *tlog.WitnessPolicy   // each of its witnesses must have a URL
	Name    string                // of the log, in metrics and messages
	HTTP    *http.Client          // nil: one with timeouts that follows no redirects
	Metrics prometheus.Registerer // nil: metrics are not registered
	Log     *slog.Logger          // nil: slog.Default()
}

// Offer is a checkpoint that a log published.
type Offer struct {
	tlog.Checkpoint
	Signed []byte      // by the log
	Source tlog.Source // tiles of the tree
}

// Cosigned is an offer with the cosignatures that came in.
type Cosigned struct {
	Offer
	Envelope []byte // Signed with the signature lines of witnesses
	Quorum   bool   // they are a quorum of the policy
	Since    time.Time
}

// Set is the witnesses of one log. Safe for concurrent use.
type Set struct {
	policy  *tlog.WitnessPolicy
	log     *slog.Logger
	metrics *metrics
	ctx     context.Context
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed when something below changes
	newest  *Offer        // what is next
	round   *round        // what the witnesses are asked for
	last    Cosigned      // the newest with a quorum
	all     []*asked
}

// round is one checkpoint that goes to all witnesses.
type round struct {
	Cosigned
	by   []tlog.Cosignature
	open map[*asked]bool // who has not answered yet, of those that answered last time
	done bool            // the next one may begin
}

// asked is one witness.
type asked struct {
	name   string // in the policy
	client *witness.Client

	answered *round // the last round that it cosigned
	failed   string // why it did not answer the last time; "": it did
	since    time.Time
	pause    time.Duration
	until    time.Time // it is not asked before
}

// New starts to ask the witnesses of a policy.
func New(cfg Config) (*Set, error) {
	s := &Set{policy: cfg.Policy, log: cfg.Log, changed: make(chan struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.log = s.log.With("log", cfg.Name)
	client := cfg.HTTP
	if client == nil {
		client = &http.Client{Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	byURL := map[string]*asked{}
	for _, w := range cfg.Policy.Witnesses {
		if err := witness.CheckURL(w.URL); err != nil {
			return nil, fmt.Errorf("witness %s: URL: %w", w.Name, err)
		}
		a := byURL[w.URL]
		if a == nil {
			a = &asked{client: &witness.Client{URL: w.URL, HTTP: client}}
			byURL[w.URL] = a
			s.all = append(s.all, a)
		}
		a.name = strings.TrimPrefix(a.name+"+"+w.Name, "+")
		a.client.Keys = append(a.client.Keys, w.Key)
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, cfg.Name); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	for _, a := range s.all {
		s.ended.Go(func() { s.ask(a) })
	}
	return s, nil
}

// Close stops to ask.
func (s *Set) Close() {
	s.stop()
	s.ended.Wait()
	s.metrics.Unregister()
}

// Offer makes o the next checkpoint that goes to the witnesses. It never waits.
func (s *Set) Offer(o Offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil || o.Size >= s.newest.Size {
		s.newest = &o
	}
	s.advance()
}

// advance begins a round if the last one is done and there is a newer checkpoint. The caller holds mu.
func (s *Set) advance() {
	if s.newest == nil || s.round != nil && (!s.round.done || bytes.Equal(s.round.Signed, s.newest.Signed)) {
		return
	}
	r := &round{Cosigned: Cosigned{Offer: *s.newest, Envelope: s.newest.Signed, Since: time.Now()}, open: map[*asked]bool{}}
	for _, a := range s.all {
		if a.failed == "" {
			r.open[a] = true
		}
	}
	s.round = r
	s.judge(r)
	time.AfterFunc(roundLimit, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.done = true
		s.advance()
	})
}

// judge notes what follows from the answers to r. The caller holds mu.
func (s *Set) judge(r *round) {
	if r.Quorum = s.policy.Enough(r.by); r.Quorum && r.Size >= s.last.Size {
		s.last = r.Cosigned
		s.metrics.size.Set(float64(r.Size))
	}
	r.done = r.done || r.Quorum || len(r.open) == 0
	close(s.changed)
	s.changed = make(chan struct{})
	if s.round == r && r.done {
		s.advance()
	}
}

// ask asks one witness, until the set is closed.
func (s *Set) ask(a *asked) {
	for {
		r := s.next(a)
		if r == nil {
			return
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		lines, err := a.client.Add(ctx, r.Checkpoint, r.Signed, r.Source)
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		s.metrics.answer(a.name, err, time.Since(began))
		s.report(a, r, lines, err)
	}
}

// next returns a round that a has not answered, when there is one and a may be asked; nil when the
// set is closed.
func (s *Set) next(a *asked) *round {
	for {
		s.mu.Lock()
		r, changed, pause := s.round, s.changed, time.Until(a.until)
		ready := r != nil && r != a.answered && pause <= 0
		if r == a.answered {
			pause = 0
		}
		s.mu.Unlock()
		if ready {
			return r
		}
		var again <-chan time.Time
		if pause > 0 {
			again = time.After(pause)
		}
		select {
		case <-s.ctx.Done():
			return nil
		case <-again:
		case <-changed:
		}
	}
}

// report notes the answer of a to r.
func (s *Set) report(a *asked, r *round, lines []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(r.open, a)
	if err != nil {
		a.pause = min(max(2*a.pause, firstPause), lastPause)
		a.until = time.Now().Add(a.pause)
		if text := err.Error(); a.failed != text {
			if a.failed == "" {
				a.since = time.Now()
			}
			a.failed = text
			s.log.Log(s.ctx, levelOf(err), "a witness does not cosign", "witness", a.name, "error", err)
		}
		s.judge(r)
		return
	}
	if a.failed != "" {
		s.log.Info("a witness cosigns again", "witness", a.name)
	}
	a.answered, a.failed, a.pause, a.until = r, "", 0, time.Time{}
	all, err := tlog.Cosignatures(slices.Concat(r.Signed, lines), a.client.Keys, time.Now().Add(mostAhead))
	count := bytes.Count(r.Envelope, []byte("\n— ")) + bytes.Count(lines, []byte("\n"))
	if err == nil && len(r.Envelope)+len(lines) <= tlog.MaxCheckpoint && count <= maxLines {
		// A cosignature that does not fit cannot count: nobody would see it.
		r.by = append(r.by, all...)
		r.Envelope = slices.Concat(r.Envelope, lines)
	}
	s.judge(r)
}

// levelOf says how bad a failure is: that a witness saw another history is worse than that it is gone.
func levelOf(err error) slog.Level {
	if errors.Is(err, witness.ErrHistory) {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Await returns the newest checkpoint of at least size entries that a quorum cosigned. If ctx ends
// before there is one, it returns the checkpoint of at least size entries that witnesses are asked for,
// with the cosignatures so far; and if there is none, false.
func (s *Set) Await(ctx context.Context, size int64) (Cosigned, bool) {
	for {
		s.mu.Lock()
		last, r, changed := s.last, s.round, s.changed
		var part Cosigned
		if r != nil && r.Size >= size && len(r.by) > 0 {
			part = r.Cosigned
		}
		s.mu.Unlock()
		if last.Envelope != nil && last.Size >= size {
			return last, true
		}
		select {
		case <-ctx.Done():
			return part, part.Envelope != nil
		case <-s.ctx.Done():
			return part, part.Envelope != nil
		case <-changed:
		}
	}
}

// Seen returns what Await returns when its time is over.
func (s *Set) Seen(size int64) (Cosigned, bool) { return s.Await(ended, size) }

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Latest returns the newest checkpoint that a quorum cosigned, and false if there is none yet.
func (s *Set) Latest() (Cosigned, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.last.Envelope != nil
}

// Problem returns, in one line, which witnesses do not cosign and whether a quorum is missing because
// of that; "" if all cosign.
func (s *Set) Problem() (text string, noQuorum bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []string
	for _, a := range s.all {
		if a.failed != "" {
			failed = append(failed, fmt.Sprintf("%s (since %s)", a.name, a.since.UTC().Format(time.RFC3339)))
		}
	}
	noQuorum = s.round != nil && s.round.done && !s.round.Quorum
	if len(failed) > 0 {
		text = "witnesses that do not cosign: " + strings.Join(failed, ", ")
	}
	return text, noQuorum
}
