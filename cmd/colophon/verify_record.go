package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// recordTimeout is how long a verdict waits for the audit ledger.
const recordTimeout = 30 * time.Second

// recording brings verdicts to the audit ledger of a platform. The zero value brings none.
type recording struct {
	asked  bool // --record
	ledger *api.ClientConfig
	policy string // sha256:HEX
}

// open finds the platform. demand is the policy as it was read.
func (r *recording) open(ctx context.Context, demand []byte) (err error) {
	if !r.asked {
		return nil
	}
	r.policy = digestOfBytes(demand)
	r.ledger, err = ledgerToReport(ctx)
	return err
}

// ledgerToReport returns the platform whose audit ledger gets what --record records.
func ledgerToReport(ctx context.Context) (*api.ClientConfig, error) {
	ledger, err := configuredPlatform(ctx)
	if err == nil && ledger == nil {
		err = usageError("colophon login FILE", "--record: in which platform's audit ledger? you are not logged in")
	}
	return ledger, err
}

// keep records a verdict, and returns the verdict that counts: undecided, if an acceptance could not be
// recorded. A rejection that could not be recorded stays a rejection, and errs gets a line about it.
func (r *recording) keep(ctx context.Context, errs io.Writer, v *verify.Verdict, opts verify.Options) *verify.Verdict {
	if r.ledger == nil {
		return v
	}
	ctx, cancel := withTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	rec := v.Record(audit.KindVerify)
	rec.About.Image = audit.Shown(printable.Cut(printable.Line(v.Image), 1<<10))
	rec.Basis = audit.Basis{Policy: r.policy, Trust: trustDigest(opts)}
	if lists := opts.Distrust.Lists; len(lists) > 0 {
		rec.Basis.Distrust = lists.ID()
	}
	if rec.Effect = audit.Refused; v.Outcome == verify.Accepted {
		rec.Effect = audit.Allowed
	}
	_, err := r.ledger.Report(ctx, rec)
	if err == nil {
		return v
	}
	err = fmt.Errorf("%s: %s, but the verdict is not in the audit ledger: %w", v.Image, v.Outcome, err)
	if v.Outcome != verify.Accepted {
		fmt.Fprintln(errs, printable.Text(err.Error()))
		return v
	}
	unrecorded := undecided(v.Image, err)
	unrecorded.Digest = v.Digest
	if said, ok := errors.AsType[*api.Error](err); ok {
		unrecorded.Hint = said.Hint
	}
	return unrecorded
}

// trustDigest returns the digest of the trust roots: of one, its fingerprint; of several, of their sorted fingerprints,
// one a line.
func trustDigest(opts verify.Options) string {
	var all []string
	for _, root := range opts.Trust {
		all = append(all, root.Fingerprint)
	}
	switch slices.Sort(all); len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	var lines []byte
	for _, fingerprint := range all {
		lines = append(append(lines, fingerprint...), '\n')
	}
	return digestOfBytes(lines)
}
