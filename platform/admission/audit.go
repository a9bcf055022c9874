package admission

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/verify"
)

// Recorder brings what admission decides and does to an audit ledger.
type Recorder interface {
	verdicts.Recorder
	// Note records what has happened already, or what nobody waits for. After an error, the record is nowhere.
	Note(context.Context, audit.Record) error
}

// keep brings the decisions about an object to the audit ledger. If it fails, the object must not be
// admitted.
func (h *Handler) keep(ctx context.Context, a *admitted, outcomes []outcome, allowed, brokeGlass bool) error {
	if h.Recorder == nil || a.DryRun {
		return nil
	}
	effect := audit.Allowed
	if !allowed {
		effect = audit.Refused
	}
	if h.DryRun {
		effect = audit.Nothing
	}
	errs := make([]error, len(outcomes))
	var all sync.WaitGroup
	for i, o := range outcomes {
		all.Go(func() { errs[i] = h.Recorder.Record(ctx, h.auditRecord(audit.KindAdmission, a, o, effect)) })
	}
	all.Wait()
	if brokeGlass {
		r := h.auditRecord(audit.KindAdmission, a, outcome{refused: "somebody broke the glass"}, effect)
		errs = append(errs, h.Recorder.Record(ctx, audit.Record{Kind: audit.KindGlass, Outcome: audit.Done, By: r.By, Where: r.Where, Basis: r.Basis, Reason: r.Reason}))
	}
	err := errors.Join(errs...)
	if !allowed || h.DryRun {
		return nil // nothing takes effect
	}
	return err
}

// auditRecord returns the record of a decision about one image of an object.
func (h *Handler) auditRecord(kind audit.Kind, a *admitted, o outcome, effect string) audit.Record {
	answer := o.answer
	if answer.Decision == nil { // refused, or let through, without a policy
		answer.Decision = &verify.Decision{Reason: o.refused}
	}
	r := h.Verdicts.Record(kind, answer)
	text := func(s string) string { return printable.Cut(printable.Line(s), maxRecorded) }
	r.Effect = effect
	if strings.HasPrefix(o.digest, "sha256:") {
		r.About.Digest = o.digest // what the object names; the proofs may be about a manifest in it
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
