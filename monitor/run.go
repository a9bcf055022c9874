package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/colophon-build/colophon/tlog/follow"
)

// Monitor watches logs.
type Monitor struct {
	Watch Watch
	// Sinks get each alarm. Entries are done when all of them returned nil: an alarm that a
	// sink did not take is given to it again, also after a new start. So a sink may get an
	// alarm twice if the process is killed between the two: Log and Index tell.
	Sinks []Sink
	// Batch, if not nil, gets the entries that were watched, before they are done.
	Batch func(ctx context.Context, origin string, b follow.Batch) error

	sinks  sync.Mutex // held while they report
	mu     sync.Mutex
	counts map[Kind]int
}

// Sink takes alarms. It is called by one goroutine at a time.
type Sink interface {
	Report(context.Context, []Alarm) error
}

// Log is a log to watch. Its Entries must be nil.
type Log struct {
	URL string // for people
	follow.Config
}

// Worst returns the worst kind of alarm that was found, or "".
func (m *Monitor) Worst() Kind {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range Alarms {
		if m.counts[kind] > 0 {
			return kind
		}
	}
	return ""
}

// Counts returns how many alarms of each kind were found.
func (m *Monitor) Counts() map[Kind]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[Kind]int{}
	maps.Copy(counts, m.counts)
	return counts
}

// Open opens the logs. Close them when Run has ended.
func (m *Monitor) Open(logs []Log) (open []*Followed, err error) {
	if err := m.Watch.Check(); err != nil {
		return nil, err
	}
	m.counts = map[Kind]int{}
	for _, l := range logs {
		sinks := append([]Sink{counter{m}}, m.Sinks...)
		f := &Followed{monitor: m, url: l.URL, origin: l.Key.Name(), sinks: sinks, told: make([]int64, len(sinks)), failed: make([]string, len(sinks)), missed: make([][]Alarm, len(sinks))}
		l.Entries = f.entries
		if f.Follower, err = follow.Open(l.Config); err != nil {
			for _, o := range open {
				err = errors.Join(err, o.Close())
			}
			return nil, err
		}
		open = append(open, f)
	}
	return open, nil
}

// Run watches the logs until ctx ends: each at once, and then about every so often. If
// every is 0, Run reads each once.
func (m *Monitor) Run(ctx context.Context, logs []*Followed, every time.Duration) {
	var group sync.WaitGroup
	for _, l := range logs {
		group.Go(func() {
			if every == 0 {
				l.round(ctx, l.Follow(ctx))
				return
			}
			l.Follower.Run(ctx, every, func(err error) { l.round(ctx, err) })
		})
	}
	group.Wait()
}

// Followed is a log that a Monitor watches.
type Followed struct {
	*follow.Follower
	monitor     *Monitor
	url, origin string

	// By sink, what it took: alarms about entries before this index, and the kind and reason
	// of this failure of the log; and what the log did wrong that it has yet to take. All are
	// forgotten when the process ends.
	sinks  []Sink
	told   []int64
	failed []string
	missed [][]Alarm // each failure once

	mu    sync.Mutex
	last  time.Time // end of the last round that reached the log's end
	since error     // why the last round failed
}

// Origin returns the name of the log.
func (f *Followed) Origin() string { return f.origin }

// State returns when a round last read all that the log has, and why the last one did not.
func (f *Followed) State() (last time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.since
}

// entries reports the alarms about a batch.
func (f *Followed) entries(ctx context.Context, b follow.Batch) error {
	alarms, err := f.monitor.Watch.Entries(ctx, b)
	if err != nil {
		return err
	}
	end := b.First + int64(len(b.Entries))
	if err := f.report(ctx, alarms, end); err != nil {
		return err
	}
	if f.monitor.Batch != nil {
		return f.monitor.Batch(ctx, f.origin, b)
	}
	return nil
}

// report gives alarms to all sinks, but none twice to the same.
func (f *Followed) report(ctx context.Context, alarms []Alarm, end int64) error {
	for i := range alarms {
		alarms[i].Time, alarms[i].Log, alarms[i].URL = time.Now().UTC(), f.origin, f.url
	}
	f.monitor.sinks.Lock()
	defer f.monitor.sinks.Unlock()
	var failed error
	for i, sink := range f.sinks {
		fresh, last := slices.Clone(f.missed[i]), f.failed[i]
		if n := len(fresh); n > 0 {
			last = fresh[n-1].failure()
		}
		for _, a := range alarms {
			if a.Entry != nil && a.Entry.Index >= f.told[i] || a.Entry == nil && a.failure() != last {
				fresh = append(fresh, a)
			}
		}
		if len(fresh) > 0 {
			if err := sink.Report(ctx, fresh); err != nil {
				failed = errors.Join(failed, fmt.Errorf("alarms could not be reported: %w", err))
				f.miss(i, alarms)
				continue
			}
		}
		f.told[i], f.missed[i] = max(f.told[i], end), nil
		for _, a := range fresh {
			if a.Entry == nil {
				f.failed[i] = a.failure()
			}
		}
	}
	return failed
}

// miss remembers, for a sink that took none of alarms, those that no later round finds again: a log
// that showed a fork once may show its old history from then on.
func (f *Followed) miss(i int, alarms []Alarm) {
	for _, a := range alarms {
		known := a.failure() == f.failed[i] || slices.ContainsFunc(f.missed[i], func(m Alarm) bool { return m.failure() == a.failure() })
		if (a.Kind == Misbehaves || a.Kind == KeySuspect) && !known {
			f.missed[i] = append(f.missed[i], a)
		}
	}
}

// failure identifies a failure of a log; it is empty if there is none.
func (a *Alarm) failure() string {
	if a.Kind == Recovered {
		return ""
	}
	return string(a.Kind) + " " + a.Reason
}

// counter is the sink that counts alarms.
type counter struct{ m *Monitor }

func (c counter) Report(_ context.Context, alarms []Alarm) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for _, a := range alarms {
		c.m.counts[a.Kind]++
	}
	return nil
}

// round reports how a round ended: a failure when it begins, or changes, and its end.
func (f *Followed) round(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	if f.since = err; err == nil {
		f.last = time.Now()
	}
	f.mu.Unlock()
	alarm := Alarm{Kind: Recovered, Why: "the log is followed again"}
	if failure, ok := errors.AsType[*follow.Failure](err); ok {
		alarm = Alarm{Kind: Kind(failure.Kind), Reason: failure.Reason, Why: failure.Error(), Evidence: failure.Evidence}
	} else if err != nil {
		alarm = Alarm{Kind: Undecided, Why: err.Error()}
	}
	// A sink that does not take it gets it after the next round.
	_ = f.report(ctx, []Alarm{alarm}, 0)
}
