package attestor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/platform/release"
)

// metrics count the releases since this process started. No label comes from a request.
type metrics struct {
	handler  http.Handler
	releases *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	running  prometheus.Gauge
}

func newMetrics(r *release.Releaser, reg *prometheus.Registry) *metrics {
	m := &metrics{
		releases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_releases_total", Help: "Releases that ended: released, failed, or cancelled by the requester.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_release_seconds", Help: "Time from request to end of a release.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "colophon_releases_running", Help: "Releases that run or wait."}),
	}
	reg.MustRegister(m.releases, m.seconds, m.running)
	for from, count := range map[string]func() float64{
		"store":   func() float64 { n, _ := r.Downloads(); return float64(n) },
		"network": func() float64 { _, n := r.Downloads(); return float64(n) },
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "colophon_build_downloads_total", Help: "Downloads of builds: from the platform's store, or from the network and mirrors.",
			ConstLabels: prometheus.Labels{"from": from},
		}, count))
	}
	for _, outcome := range []string{"released", "failed", "cancelled"} { // export them as zero from the start
		m.releases.WithLabelValues(outcome)
	}
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) ended(err error, took time.Duration) {
	outcome := "released"
	switch {
	case errors.Is(err, context.Canceled):
		outcome = "cancelled"
	case err != nil:
		outcome = "failed"
	}
	m.releases.WithLabelValues(outcome).Inc()
	m.seconds.WithLabelValues(outcome).Observe(took.Seconds())
}
