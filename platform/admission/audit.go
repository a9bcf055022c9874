package admission

import (
	"context"
	"errors"
	"sync"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/verify"
)

// keep brings the decisions about an object to the audit ledger. If it fails, the object must not be
// admitted.
func (h *Handler) keep(ctx context.Context, a *admitted, outcomes []outcome, allowed, brokeGlass bool) error {
	if h.Recorder == nil || a.DryRun {
		return nil
	}
	errs := make([]error, len(outcomes))
	var all sync.WaitGroup
	for i, o := range outcomes {
		all.Go(func() { errs[i] = h.Recorder.Record(ctx, h.auditRecord(a, o, allowed)) })
	}
	all.Wait()
	if brokeGlass {
		r := h.auditRecord(a, outcome{refused: "somebody broke the glass"}, true)
		errs = append(errs, h.Recorder.Record(ctx, audit.Record{Kind: audit.KindGlass, Outcome: audit.Done, By: r.By, Where: r.Where, Basis: r.Basis, Reason: r.Reason}))
	}
	err := errors.Join(errs...)
	if !allowed || h.DryRun {
		return nil // nothing takes effect
	}
	return err
}

// auditRecord returns the record of a decision about one image of an object.
func (h *Handler) auditRecord(a *admitted, o outcome, allowed bool) audit.Record {
	answer := o.answer
	if answer.Decision == nil { // refused, or let through, without a policy
		answer.Decision = &verify.Decision{Reason: o.refused}
	}
	r := h.Verdicts.Record(audit.KindAdmission, answer)
	text := func(s string) string { return printable.Cut(printable.Line(s), maxRecorded) }
	r.Effect = audit.Allowed
	if !allowed {
		r.Effect = audit.Refused
	}
	if h.DryRun {
		r.Effect = audit.Nothing
	}
	if o.refused != "" {
		r.Reason = audit.Shown(text(o.refused))
	}
	r.By.User = audit.Shown(text(a.UserInfo.Username))
	r.About.Image = audit.Shown(text(o.image))
	r.Where = audit.Where{Cluster: h.Name, Namespace: audit.Shown(text(a.Namespace)), Kind: text(a.Kind.Kind), Name: audit.Shown(text(a.object.name())), UID: text(a.object.Metadata.UID)}
	return r
}

// maxRecorded limits the texts of a record of an audit ledger, in bytes.
const maxRecorded = 1 << 10
