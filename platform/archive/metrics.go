package archive

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/metered"
)

// metrics of an archive.
type metrics struct {
	*metered.Metrics
	kept    prometheus.Gauge
	leftOut prometheus.Counter
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
	}
	var err error
	m.Metrics, err = metered.Register(registry, m.kept, m.leftOut)
	return m, err
}
