package admission

import (
	"context"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/verify"
)

// describe returns the object as KIND NAMESPACE/NAME.
func (a *admitted) describe() string {
	return printable.Line(a.Kind.Kind + " " + a.Namespace + "/" + a.object.name())
}

// record writes one line about one decision: who, what, which digest, commit and rule, when and how
// long it took.
func (h *Handler) record(ctx context.Context, a *admitted, o outcome) {
	name := "no image"
	if d := o.answer.Decision; d != nil {
		name = d.Outcome.String()
	} else if o.refused != "" {
		name = "refused"
	}
	h.metrics.images.WithLabelValues(name).Inc()
	attrs := []slog.Attr{
		slog.String("uid", a.UID), slog.String("user", printable.Line(a.UserInfo.Username)), slog.String("operation", a.Operation), slog.String("object", a.describe()),
		slog.Bool("admitted", o.admitted), slog.String("image", printable.Line(o.image)), slog.String("place", o.place.Path),
	}
	if a.DryRun || h.DryRun {
		attrs = append(attrs, slog.Bool("dryRun", true))
	}
	if o.refused != "" {
		attrs = append(attrs, slog.String("reason", o.refused))
	}
	if d := o.answer.Decision; d != nil {
		attrs = append(attrs, slog.String("outcome", d.Outcome.String()), slog.String("policies", o.answer.Policies), slog.Bool("known", o.answer.Known), slog.Duration("took", o.took))
		attrs = append(attrs, facts(d)...)
	}
	h.Log.LogAttrs(ctx, slog.LevelInfo, "decision", attrs...)
}

// facts returns the rules that were asked, and what the decision rests on.
func facts(d *verify.Decision) (out []slog.Attr) {
	var rules []string
	for _, r := range d.Rules {
		rules = append(rules, r.Policy+"/"+r.Rule+": "+r.Outcome.String())
	}
	if len(rules) > 0 {
		out = append(out, slog.String("rules", printable.Cut(strings.Join(rules, ", "), maxMessage)))
	}
	if len(d.Warnings) > 0 {
		out = append(out, slog.String("warnings", printable.Cut(printable.Line(strings.Join(d.Warnings, "; ")), maxMessage)))
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

// metrics count the decisions since this process started. No label comes from a request.
type metrics struct {
	requests, images, glass *prometheus.CounterVec
	seconds                 *prometheus.HistogramVec
	running                 prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, store *verdicts.Store) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_requests_total", Help: "Requests of the API server: admitted, refused, or no request."}, []string{"hook", "answer"}),
		images:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_images_total", Help: "Images about which something was decided: accepted, rejected, undecided, refused without asking a policy, or no image."}, []string{"outcome"}),
		glass:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_break_glass_total", Help: "Objects that asked to break the glass: broken, or refused."}, []string{"answer"}),
		running:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "colophon_admission_running_refused", Help: "Images of running pods that would be refused now, when they were verified last."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_admission_seconds", Help: "Time to answer the API server.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"hook"}),
	}
	gauge := func(name, help string, value func(verdicts.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(store.Stats()) })
	}
	r.MustRegister(m.requests, m.images, m.glass, m.seconds, m.running,
		gauge("colophon_verdicts_images", "Images whose verdicts are kept.", func(s verdicts.Stats) float64 { return float64(s.Images) }),
		gauge("colophon_verdicts_bytes", "Estimated size of the verdicts that are kept.", func(s verdicts.Stats) float64 { return float64(s.Bytes) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "colophon_verdicts_reads_total", Help: "Images that were read and verified."}, func() float64 { return float64(store.Stats().Reads) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "colophon_verdicts_known_total", Help: "Answers that needed no registry."}, func() float64 { return float64(store.Stats().Known) }))
	return m
}
