package verdicts

import (
	"context"
	"strings"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
)

// Recorder brings decisions to an audit ledger. If Record fails, the decision must not take effect.
type Recorder interface {
	Record(context.Context, audit.Record) error
}

// basis is what counts, by the id given to Use.
type basis struct {
	id string
	audit.Basis
}

// Record returns the record of an answer, without where the image would run and what followed.
func (s *Store) Record(kind audit.Kind, a Answer) audit.Record {
	d := a.Decision
	r := audit.Record{Kind: kind, Outcome: d.Outcome.String(), Reason: audit.Shown(printable.Cut(printable.Line(d.Reason), maxText-8))}
	id, told, listed := strings.Cut(a.Policies, "+")
	if b := s.basis.Load(); b != nil && b.id == id {
		r.Basis = b.Basis
	}
	if l := s.lists.Load(); listed && l != nil && l.id == told {
		r.Basis.Distrust = l.sum
	}
	for _, x := range d.Rules[:min(len(d.Rules), maxRules)] {
		r.Rules = append(r.Rules, audit.Rule{Policy: printable.Cut(x.Policy, maxName), Rule: printable.Cut(x.Rule, maxName), Outcome: x.Outcome.String()})
	}
	v := d.Verdict()
	for _, l := range v.Links {
		r.Links = append(r.Links, audit.Link{Name: l.Name, State: string(l.Status)})
	}
	r.About.Digest = v.Digest
	if v.Facts != nil && v.Facts.Build != nil {
		b := v.Facts.Build
		r.About.Source, r.About.Commit, r.About.Ref, r.About.Builder, r.About.Level = b.Source, b.Commit, b.Ref, b.Builder, v.Level
	}
	return r
}

// Limits of a record of an audit ledger.
const (
	maxName  = 80  // bytes of the name of a policy or rule
	maxRules = 128 // rules; the first ones
)
