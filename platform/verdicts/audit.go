package verdicts

import (
	"context"
	"strings"
	"time"

	"github.com/colophon-build/colophon/audit"
)

// Recorder brings decisions to an audit ledger. If Record fails, the decision must not take effect.
type Recorder interface {
	Record(context.Context, audit.Record) error
}

// Acts brings to an audit ledger that other policies or trust roots count: see recorder.Recorder. If Replace
// fails, they must not count.
type Acts interface {
	Replace(ctx context.Context, name, digest string, act func(before string) audit.Record) error
}

// WithActs makes the Loader record, before other policies or trust roots count, that they do. It is called before
// Tell.
func (l *Loader) WithActs(a Acts) { l.acts = a }

// actTimeout is how long new policies wait for the audit ledger, if it must have them.
const actTimeout = 10 * time.Second

// record records that other policies or trust roots count than before.
func (l *Loader) record(now audit.Basis) error {
	if l.acts == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), actTimeout)
	defer cancel()
	if err := l.acts.Replace(ctx, "policies", now.Policy, func(before string) audit.Record {
		return audit.Record{Kind: audit.KindPolicy, Outcome: audit.Done, Basis: audit.Basis{Policy: now.Policy, Before: before}}
	}); err != nil {
		return err
	}
	return l.acts.Replace(ctx, "trust", now.Trust, func(before string) audit.Record {
		return audit.Record{Kind: audit.KindTrust, Outcome: audit.Done, Basis: audit.Basis{Trust: now.Trust, Before: before}}
	})
}

// Retry tries again what does not count because the audit ledger did not record it. Whoever tells the Loader
// something only when it changes calls it now and then.
func (l *Loader) Retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unrecorded {
		l.apply()
	}
}

// basis is what counts, by the id given to Use.
type basis struct {
	id string
	audit.Basis
}

// Record returns the record of an answer, without where the image would run and what followed.
func (s *Store) Record(kind audit.Kind, a Answer) audit.Record {
	r := a.Decision.Verdict().Record(kind)
	id, told, listed := strings.Cut(a.Policies, "+")
	if b := s.basis.Load(); b != nil && b.id == id {
		r.Basis = b.Basis
	}
	if l := s.lists.Load(); listed && l != nil && l.id == told {
		r.Basis.Distrust = l.sum
	}
	return r
}
