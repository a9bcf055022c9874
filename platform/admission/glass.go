package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
)

// Annotations of a pod, or of the template of a workload, that break the glass: the images may run
// though policies refuse them.
const (
	AnnotationReason = "colophon.build/break-glass"       // why
	AnnotationUntil  = "colophon.build/break-glass-until" // until when pods may start: RFC 3339, at most 24 hours ahead
)

const longestGlass = 24 * time.Hour

// controllers make pods from templates that were admitted before. Only the API server's own
// controllers are: they copy the annotations of the template, and nobody else can be them.
var controllers = []string{
	"cronjob-controller", "daemon-set-controller", "deployment-controller", "job-controller",
	"replicaset-controller", "replication-controller", "statefulset-controller",
}

// glass is the answer to an object that asks to break the glass.
type glass struct {
	asked bool
	why   string
	until time.Time
	err   error // why it is not broken
}

// askGlass finds out whether the object may break the glass. It is asked before any registry: one
// that hangs takes the whole time, and is why somebody breaks the glass.
func (h *Handler) askGlass(ctx context.Context, a *admitted) (g glass) {
	m, _ := a.object.pod()
	reason, asked := m.Annotations[AnnotationReason]
	if g.asked = asked; asked {
		g.why, g.until, g.err = h.mayBreak(ctx, a, reason, m.Annotations[AnnotationUntil])
	}
	return g
}

// breaksGlass reports whether the object may have images that were refused, because somebody who
// may do so said why, and the time is not over. It adds warnings to the answer, also about why
// the glass was not broken.
func (h *Handler) breaksGlass(ctx context.Context, a *admitted, g glass, out *response) bool {
	if !g.asked {
		return false
	}
	if g.err != nil {
		h.metrics.glass.WithLabelValues("refused").Inc()
		h.Log.WarnContext(ctx, "the glass was not broken", "user", a.UserInfo.Username, "object", a.describe(), "error", g.err)
		out.warn("the glass is not broken: " + g.err.Error())
		return false
	}
	if out.Audit == nil {
		out.Audit = map[string]string{}
	}
	out.Audit["break-glass"] = g.why
	out.warn(fmt.Sprintf("THE GLASS IS BROKEN until %s: images run that policies refuse: %s", g.until.Format(time.RFC3339), g.why))
	if !a.DryRun {
		h.metrics.glass.WithLabelValues("broken").Inc()
	}
	h.Log.ErrorContext(ctx, "the glass is broken", "user", a.UserInfo.Username, "object", a.describe(), "reason", g.why, "until", g.until, "dryRun", a.DryRun)
	return true
}

// checkGlass refuses the annotations of those who may not set them, also if all images are
// accepted: an image may be refused when the controllers make the pods, and annotations that
// controllers copied are trusted.
func (a *admitted) checkGlass(g glass) error {
	m, _ := a.object.pod()
	old, _ := a.before.pod()
	same := m.Annotations[AnnotationReason] == old.Annotations[AnnotationReason] && m.Annotations[AnnotationUntil] == old.Annotations[AnnotationUntil]
	if !g.asked || g.err == nil || a.copied() || same {
		return nil
	}
	return fmt.Errorf("the glass is not broken: %w", g.err)
}

// copied reports whether a controller makes the object from a template that was admitted before.
func (a *admitted) copied() bool {
	name, ok := strings.CutPrefix(a.UserInfo.Username, "system:serviceaccount:kube-system:")
	return ok && slices.Contains(controllers, name)
}

// mayBreak returns the reason and the end, or why the glass is not broken.
func (h *Handler) mayBreak(ctx context.Context, a *admitted, reason, until string) (string, time.Time, error) {
	now := h.Now()
	reason = printable.Cut(printable.Line(strings.TrimSpace(reason)), maxWarning)
	end, err := time.Parse(time.RFC3339, until)
	switch {
	case len(reason) < 5:
		return "", end, fmt.Errorf("annotation %s: expected a reason", AnnotationReason)
	case err != nil:
		return "", end, fmt.Errorf("annotation %s: expected a time such as %s, found %q", AnnotationUntil, now.Add(time.Hour).UTC().Format(time.RFC3339), printable.Line(until))
	case !now.Before(end):
		return "", end, fmt.Errorf("annotation %s: the time ended on %s", AnnotationUntil, until)
	case end.Sub(now) > longestGlass:
		return "", end, fmt.Errorf("annotation %s: expected at most %s from now, found %s", AnnotationUntil, longestGlass, until)
	}
	if a.copied() {
		return reason, end, nil
	}
	may, err := h.Cluster.MayBreakGlass(ctx, a.UserInfo, a.Namespace)
	if err != nil {
		return "", end, fmt.Errorf("it is not known whether %s may: %w", printable.Line(a.UserInfo.Username), err)
	}
	if !may {
		return "", end, fmt.Errorf("%s may not break it: the verb breakglass on imagepolicies.colophon.build is not granted", printable.Line(a.UserInfo.Username))
	}
	return reason, end, nil
}
