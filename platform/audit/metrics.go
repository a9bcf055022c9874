package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registry prometheus.Registerer
	size     prometheus.Gauge
	records  prometheus.Counter
	refused  prometheus.Counter
	failed   prometheus.Counter
	seconds  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registry: r,
		size:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "colophon_audit_entries", Help: "Entries of the audit ledger under its newest checkpoint."}),
		records:  prometheus.NewCounter(prometheus.CounterOpts{Name: "colophon_audit_records_total", Help: "Records that the audit ledger acknowledged."}),
		refused:  prometheus.NewCounter(prometheus.CounterOpts{Name: "colophon_audit_busy_total", Help: "Records that were sent back because too many were waiting."}),
		failed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "colophon_audit_failed_total", Help: "Records that could not be written to the disk."}),
		seconds:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "colophon_audit_write_seconds", Help: "Time to write a batch of records to the disk.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.size, m.records, m.refused, m.failed, m.seconds}
}

func (m *metrics) appended(n int, took time.Duration) {
	m.records.Add(float64(n))
	m.seconds.Observe(took.Seconds())
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.all() {
		m.registry.Unregister(c)
	}
}
