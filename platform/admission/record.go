package admission

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/verdicts"
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
		slog.String("uid", a.UID), slog.String("user", printable.Line(a.UserInfo.Username)), slog.String("operation", a.Operation), slog.String("object", a.describe()), slog.String("objectUID", printable.Line(a.object.Metadata.UID)),
		slog.Bool("admitted", o.admitted), slog.String("image", printable.Line(o.image)), slog.String("place", o.place.Path),
	}
	if a.DryRun || h.DryRun {
		attrs = append(attrs, slog.Bool("dryRun", true))
	}
	if o.refused != "" {
		attrs = append(attrs, slog.String("reason", o.refused))
	}
	if o.answer.Decision != nil {
		attrs = append(append(attrs, slog.Duration("took", o.took)), o.answer.Attrs()...)
	}
	h.Log.LogAttrs(ctx, slog.LevelInfo, "decision", attrs...)
}

// metrics count the decisions since this process started. No label comes from a request.
type metrics struct {
	requests, images, glass *prometheus.CounterVec
	seconds                 *prometheus.HistogramVec
	running, stopped        prometheus.Gauge
	evictions               *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, store *verdicts.Store) *metrics {
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_requests_total", Help: "Requests of the API server: admitted, refused, or no request."}, []string{"hook", "answer"}),
		images:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_images_total", Help: "Images about which something was decided: accepted, rejected, undecided, refused without asking a policy, or no image."}, []string{"outcome"}),
		glass:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_break_glass_total", Help: "Objects that asked to break the glass: broken, or refused."}, []string{"answer"}),
		running:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "colophon_admission_running_refused", Help: "Images of running pods that would be refused now, when they were verified last. Only the replica that leads counts them."}),
		stopped:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "colophon_admission_eviction_stopped", Help: "1 if a policy says that pods are evicted and none is: the configuration does not enable it, or too many would be."}),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_evictions_total", Help: "Evictions of running pods: evicted, later (a PodDisruptionBudget needs the pod), gone, failed, no answer, not asked (other policies count, or another replica may lead), unrecorded (the audit ledger is required and did not record why)."}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "colophon_admission_seconds", Help: "Time to answer the API server.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"hook"}),
	}
	r.MustRegister(m.requests, m.images, m.glass, m.seconds, m.running, m.stopped, m.evictions)
	r.MustRegister(store.Collectors()...)
	return m
}
