package verdicts

import (
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/trust/tuf"
)

const (
	refreshEvery  = 6 * time.Hour
	refreshFailed = 10 * time.Minute // after a failure
	refreshLook   = 5 * time.Second  // for documents that are new
)

// refreshed is what the TUF repository of a document has delivered since somebody wrote the
// document.
type refreshed struct {
	raw  []byte    // nil: nothing yet
	next time.Time // when it is asked again
	said string    // the last failure
}

// Refresh downloads the trust roots of TUF repositories again and again, as "colophon trust refresh"
// does on a machine, until ctx ends. It starts from the document that somebody wrote, and follows
// the metadata from there. A refresh that would be trusted for more than the document is refused:
// somebody has to write another document. What it delivered is forgotten with the process, and with
// the document.
func (l *Loader) Refresh(ctx context.Context) {
	l.refresh(ctx, refreshLook, refreshEvery, refreshFailed)
}

func (l *Loader) refresh(ctx context.Context, look, every, failed time.Duration) {
	for ctx.Err() == nil {
		l.refreshDue(ctx, every, failed)
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}

// refreshDue downloads the trust roots whose time has come.
func (l *Loader) refreshDue(ctx context.Context, every, failed time.Duration) {
	changed := false
	for _, d := range l.outdated(time.Now()) {
		next, err := l.download(ctx, d)
		if ctx.Err() != nil {
			return
		}
		wait, said, raw := every, "", []byte(nil)
		if err != nil {
			wait, said = failed, err.Error()
		} else if next != nil {
			raw, changed = next.Raw, true
		}
		l.keep(d, raw, said, time.Now().Add(wait/2+rand.N(wait)))
	}
	if changed {
		l.again()
	} else {
		l.Retry()
	}
}

// outdated returns the trust roots that are to be downloaded again, as they are now.
func (l *Loader) outdated(now time.Time) (out []Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.roots {
		if have := l.delivered[sha256.Sum256(d.Raw)]; have == nil || !now.Before(have.next) {
			out = append(out, d)
		}
	}
	return out
}

// download returns what the repository of a trust root has now, or nil if it comes from none.
func (l *Loader) download(ctx context.Context, d Document) (*trust.Root, error) {
	l.mu.Lock()
	raw := l.latest(d)
	l.mu.Unlock()
	r, err := trust.Parse(raw)
	if err != nil {
		return nil, nil // Tell says so
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	public, copied := tuf.CopyOf(r)
	switch {
	case copied:
		return public.Refresh(ctx, r)
	case r.Repository != nil:
		return tuf.Refresh(ctx, r)
	}
	return nil, nil
}

// keep notes what came of a download.
func (l *Loader) keep(d Document, raw []byte, said string, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.delivered == nil {
		l.delivered = map[[sha256.Size]byte]*refreshed{}
	}
	sum := sha256.Sum256(d.Raw)
	if !slices.ContainsFunc(l.roots, func(other Document) bool { return sha256.Sum256(other.Raw) == sum }) {
		return // somebody took the document away meanwhile
	}
	have := l.delivered[sum]
	if have == nil {
		have = &refreshed{}
		l.delivered[sum] = have
	}
	if raw != nil {
		have.raw = raw
	}
	if said != "" && said != have.said {
		l.log.Error("a trust root could not be refreshed", "root", d.Name, "error", said)
	}
	have.next, have.said = next, said
}

// latest returns the newest bytes of a trust root: those that its repository delivered, or the
// document. The caller holds the lock.
func (l *Loader) latest(d Document) []byte {
	if have := l.delivered[sha256.Sum256(d.Raw)]; have != nil && have.raw != nil {
		return have.raw
	}
	return d.Raw
}

// forget forgets what was delivered for documents that are there no more. The caller holds the lock.
func (l *Loader) forget() {
	there := map[[sha256.Size]byte]bool{}
	for _, d := range l.roots {
		there[sha256.Sum256(d.Raw)] = true
	}
	for sum := range l.delivered {
		if !there[sum] {
			delete(l.delivered, sum)
		}
	}
}

// again makes what was delivered count, with the documents that are there now: one that somebody took
// away meanwhile does not come back.
func (l *Loader) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apply()
}

// Collectors returns the metrics of the trust roots.
func (l *Loader) Collectors() []prometheus.Collector {
	return []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "colophon_trust_roots_not_refreshed", Help: "Trust roots whose last refresh from their TUF repository failed.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		n := 0
		for _, d := range l.delivered {
			if d.said != "" {
				n++
			}
		}
		return float64(n)
	})}
}
