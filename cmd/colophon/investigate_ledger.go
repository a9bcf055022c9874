package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/verify"
)

// ledgerAskers returns who asks the audit ledger. Without --ledger, a ledger whose key this machine does
// not know is not asked, and the case says so.
func (o *investigateOptions) ledgerAskers(ctx context.Context) (map[investigate.ID]investigate.Asker, error) {
	ledger, err := (&ledgerOptions{url: o.ledger, token: o.ledgerToken}).openLedger(ctx)
	if err != nil && o.ledger != "" {
		return nil, err
	}
	if err != nil {
		nobody := func(context.Context, *investigate.Inquiry) (investigate.Reply, error) {
			return investigate.Reply{}, investigate.NotAskedFor("%v", err)
		}
		return map[investigate.ID]investigate.Asker{investigate.AskDecided: nobody, investigate.AskRebuilder: nobody}, nil
	}
	return investigate.LedgerAskers(askedLedger{ledger}), nil
}

// askedLedger is an audit ledger as investigations ask it.
type askedLedger struct{ *auditLedger }

// Name implements investigate.Ledger.
func (l askedLedger) Name() string { return l.url + ", audit ledger " + l.verifier.Name() }

// Decisions implements investigate.Ledger.
func (l askedLedger) Decisions(ctx context.Context, f audit.Filter, limit int) (out []investigate.Decision, more bool, err error) {
	proven, more, err := l.page(ctx, f, nil, min(limit, audit.MaxPage))
	for _, p := range proven {
		r := p.Record
		value := func(f audit.Field) string {
			if f.Hidden != "" && f.Value == "" {
				return "hidden"
			}
			return f.Value
		}
		where := strings.Trim(strings.Join([]string{r.Where.Cluster, value(r.Where.Namespace), r.Where.Kind, value(r.Where.Name)}, "/"), "/")
		out = append(out, investigate.Decision{Index: p.Index, Time: r.Time, Kind: string(r.Kind), Role: r.By.Role, Who: r.By.Instance, Outcome: r.Outcome, Effect: r.Effect, Digest: r.About.Digest, Where: where, Policy: r.Basis.Policy})
	}
	if err != nil {
		err = fmt.Errorf("ledger %s: %w", l.url, err)
	}
	return out, more, err
}

// readLists reads the lists of this machine's issuers.
func readLists(ctx context.Context, now time.Time) (distrust.Lists, error) {
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return nil, err
	}
	err := loadLists(ctx, &opts, now, false)
	return opts.Distrust.Lists, err
}
