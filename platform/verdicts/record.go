package verdicts

import (
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/printable"
)

// maxText limits the texts of a record, in bytes.
const maxText = 4 << 10

// Attrs returns the answer as it is recorded, whoever asked: the outcome, the policies and rules, and
// what it rests on (digest, source, commit, builder, level).
func (a Answer) Attrs() []slog.Attr {
	d := a.Decision
	out := []slog.Attr{slog.String("outcome", d.Outcome.String()), slog.String("policies", a.Policies), slog.Bool("known", a.Known)}
	var rules []string
	for _, r := range d.Rules {
		rules = append(rules, r.Policy+"/"+r.Rule+": "+r.Outcome.String())
	}
	if len(rules) > 0 {
		out = append(out, slog.String("rules", printable.Cut(strings.Join(rules, ", "), maxText)))
	}
	if len(d.Warnings) > 0 {
		out = append(out, slog.String("warnings", printable.Cut(printable.Line(strings.Join(d.Warnings, "; ")), maxText)))
	}
	v := d.Verdict()
	if v.Digest != "" {
		out = append(out, slog.String("digest", v.Digest))
	}
	if v.Facts != nil && v.Facts.Build != nil {
		b := v.Facts.Build
		out = append(out, slog.String("source", b.Source), slog.String("commit", b.Commit), slog.String("builder", b.Builder), slog.Int("level", v.Level))
	}
	return out
}

// Collectors returns the metrics of the store.
func (s *Store) Collectors() []prometheus.Collector {
	gauge := func(name, help string, value func(Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(s.Stats()) })
	}
	return []prometheus.Collector{
		gauge("colophon_verdicts_images", "Images whose verdicts are kept.", func(s Stats) float64 { return float64(s.Images) }),
		gauge("colophon_verdicts_bytes", "Estimated size of the verdicts that are kept.", func(s Stats) float64 { return float64(s.Bytes) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "colophon_verdicts_reads_total", Help: "Images that were read and verified."}, func() float64 { return float64(s.Stats().Reads) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "colophon_verdicts_known_total", Help: "Answers that needed no registry."}, func() float64 { return float64(s.Stats().Known) }),
	}
}
