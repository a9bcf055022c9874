package gate

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/distribution"
)

// metrics count what was served since this process started. No label comes from a request.
type metrics struct {
	requests, blobs *prometheus.CounterVec
	seconds         *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_requests_total", Help: "Requests of clients: served, or the code of the error."}, []string{"kind", "answer"}),
		blobs:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_gate_blobs_total", Help: "Blobs that were served: from the cache, or from upstream."}, []string{"from"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_gate_seconds", Help: "Time to answer a client, its own reading included.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"kind"}),
	}
	r.MustRegister(m.requests, m.blobs, m.seconds)
	return m
}

func (m *metrics) served(kind string, err error, took time.Duration) {
	name := "served"
	if f, ok := errors.AsType[*distribution.Failure](err); ok {
		name = f.Code
	} else if err != nil {
		name = "failed"
	}
	m.requests.WithLabelValues(kind, name).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}
