package search

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a search. No label comes from a request.
type metrics struct {
	questions     *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	indexed, keys prometheus.Gauge
	behind        prometheus.Gauge
	failed        prometheus.Counter
	stopped       prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_search_questions_total",
			Help: "Questions by result: answered, malformed, busy, unready (the map is being made), stopped (the index contradicts the log), failed.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "colophon_search_seconds",
			Help:    "Time from a question to its answer, by result.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"result"}),
		indexed: gauge("colophon_search_indexed_size", "Entries of the log from which questions are answered."),
		behind:  gauge("colophon_search_behind_entries", "Entries of the log that are not in the index yet."),
		keys:    gauge("colophon_search_keys", "Keys of the map."),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "colophon_search_failures_total", Help: "Times that the map could not be continued; it is tried again."}),
		stopped: gauge("colophon_search_stopped", "1 if the index contradicts the log, so that nothing is answered."),
	}
	for _, result := range results {
		m.questions.WithLabelValues(result)
	}
	if registry != nil {
		registry.MustRegister(m.questions, m.seconds, m.indexed, m.behind, m.keys, m.failed, m.stopped)
	}
	return m
}

// The results of a question.
const (
	answered  = "answered"
	malformed = "malformed"
	overload  = "busy"
	unready   = "unready"
	halted    = "stopped"
	broken    = "failed"
)

var results = []string{answered, malformed, overload, unready, halted, broken}

func (m *metrics) question(result string, took time.Duration) {
	m.questions.WithLabelValues(result).Inc()
	m.seconds.WithLabelValues(result).Observe(took.Seconds())
}
