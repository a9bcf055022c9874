package gate

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// record writes one line about one decision, as admission does: who, what, which digest, commit and
// rule, when and how long it took.
func (g *Gate) record(req *request, named, digest string, a verdicts.Answer, refusal error, took time.Duration) {
	g.metrics.images.WithLabelValues(a.Decision.Outcome.String()).Inc()
	attrs := []slog.Attr{
		slog.String("client", req.RemoteAddr), slog.String("operation", "pull"), slog.Bool("admitted", refusal == nil || g.Audit), slog.String("image", printable.Line(named)), slog.String("asked", digest),
		slog.Duration("took", took),
	}
	if user, _, ok := req.BasicAuth(); ok && g.AskClients {
		attrs = append(attrs, slog.String("user", printable.Cut(printable.Line(user), maxName)))
	}
	if g.Audit {
		attrs = append(attrs, slog.Bool("dryRun", true))
	}
	if refusal != nil {
		attrs = append(attrs, slog.String("reason", printable.Cut(refusal.Error(), maxMessage)))
	}
	g.Log.LogAttrs(req.Context(), slog.LevelInfo, "decision", append(attrs, a.Attrs()...)...)
}

// metrics count what was served since this process started. No label comes from a request.
type metrics struct {
	requests, images, blobs *prometheus.CounterVec
	seconds                 *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, store *verdicts.Store) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_requests_total", Help: "Requests of clients: served, or the code of the error."}, []string{"kind", "answer"}),
		images:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_images_total", Help: "Images about which something was decided: accepted, rejected or undecided."}, []string{"outcome"}),
		blobs:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_blobs_total", Help: "Blobs that were served: from the cache, or from upstream."}, []string{"from"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_gate_seconds", Help: "Time to answer a client, its own reading included.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"kind"}),
	}
	r.MustRegister(m.requests, m.images, m.blobs, m.seconds)
	r.MustRegister(store.Collectors()...)
	return m
}

func (m *metrics) served(kind string, err error, took time.Duration) {
	name := "served"
	if f, ok := errors.AsType[*failure](err); ok {
		name = f.code
	} else if err != nil {
		name = "failed"
	}
	m.requests.WithLabelValues(kind, name).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}
