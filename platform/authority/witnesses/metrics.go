package witnesses

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/metered"
	"github.com/colophon-build/colophon/tlog/witness"
)

type metrics struct {
	*metered.Metrics
	answers *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	up      *prometheus.GaugeVec
	size    prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, log string) (*metrics, error) {
	of := prometheus.Labels{"log": log}
	m := &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_log_witness_answers_total", ConstLabels: of,
			Help: "Answers of witnesses by result: cosigned, history (the witness has seen another history of the log), unknown (it does not know the log), wrong (no witness answers so), failed (no answer).",
		}, []string{"witness", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_log_witness_seconds", ConstLabels: of,
			Help:    "Time until a witness answered.",
			Buckets: []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"witness"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "colophon_log_witness_up", ConstLabels: of,
			Help: "1 if the last answer of the witness was a cosignature.",
		}, []string{"witness"}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "colophon_log_witnessed_size", ConstLabels: of,
			Help: "Entries under the newest checkpoint that a quorum of witnesses cosigned.",
		}),
	}
	var err error
	m.Metrics, err = metered.Register(registry, m.answers, m.seconds, m.up, m.size)
	return m, err
}

func (m *metrics) answer(name string, err error, took time.Duration) {
	result, up := "cosigned", 1.0
	if err != nil {
		result, up = "failed", 0
	}
	for kind, named := range map[error]string{witness.ErrHistory: "history", witness.ErrUnknownLog: "unknown", witness.ErrAnswer: "wrong"} {
		if errors.Is(err, kind) {
			result = named
		}
	}
	m.answers.WithLabelValues(name, result).Inc()
	m.seconds.WithLabelValues(name).Observe(took.Seconds())
	m.up.WithLabelValues(name).Set(up)
}
