package archive

import "github.com/prometheus/client_golang/prometheus"

// metrics of an archive.
type metrics struct {
	kept    prometheus.Gauge
	leftOut prometheus.Counter

	registry prometheus.Registerer
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "colophon_archive_records",
			Help: "Records in the archive's journal: pieces of evidence, and further digests that they are found by.",
		}),
		leftOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "colophon_archive_left_out_total",
			Help: "Pieces of evidence that were past a limit, and were not archived.",
		}),
		registry: registry,
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range m.collectors() {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.kept, m.leftOut}
}

func (m *metrics) unregister() {
	if m.registry == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registry.Unregister(c)
	}
}
