package log

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/metered"
)

// metrics of a log.
type metrics struct {
	*metered.Metrics
	entries *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	size    prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_log_entries_total",
			Help: "Requests for an entry by result: new, duplicate, refused (bad request), busy, unwitnessed (no quorum of witnesses, and one is needed), failed.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "colophon_log_entry_seconds",
			Help:    "Time from a request to its answer, by result.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 5, 20},
		}, []string{"result"}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "colophon_log_size",
			Help: "Entries under the published checkpoint.",
		}),
	}
	var err error
	m.Metrics, err = metered.Register(registry, m.entries, m.seconds, m.size)
	return m, err
}

func (m *metrics) entry(result string, took time.Duration) {
	m.entries.WithLabelValues(result).Inc()
	m.seconds.WithLabelValues(result).Observe(took.Seconds())
}
