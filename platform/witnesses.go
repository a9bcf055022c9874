package platform

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// witnessSettings say who cosigns the checkpoints of the transparency log and of its index log, or of the audit ledger.
type witnessSettings struct {
	Policy   string        `json:"policy,omitempty"` // text of a witness policy; empty: nobody
	Wait     time.Duration `json:"wait,omitempty"`
	Required bool          `json:"required,omitempty"`
}

// check refuses what the role trust would refuse at its start.
func (s witnessSettings) check() error {
	p, err := tlog.ParseWitnessPolicy([]byte(s.Policy))
	if err != nil {
		return err
	}
	if len(p.Witnesses) == 0 {
		return errors.New("witnesses: the policy names no witness")
	}
	if s.Required && p.Enough(nil) {
		return errors.New("witnesses: required means nothing with a policy of \"quorum none\"")
	}
	for _, w := range p.Witnesses {
		if err := witness.CheckURL(w.URL); err != nil {
			return errors.New("witness " + w.Name + ": URL: " + err.Error())
		}
	}
	return nil
}

// open begins to ask the witnesses of a log. It returns nil if there are none. name is the log's in metrics.
func (s witnessSettings) open(name string, metrics prometheus.Registerer, log *slog.Logger) (*witnesses.Set, error) {
	if s.Policy == "" {
		return nil, nil
	}
	policy, err := tlog.ParseWitnessPolicy([]byte(s.Policy))
	if err != nil {
		return nil, err
	}
	return witnesses.New(witnesses.Config{Policy: policy, Name: name, Metrics: metrics, Log: log})
}

// openWitnesses begins to ask the witnesses of a log of the role trust, if there are any.
func (t *trustServices) openWitnesses(name string) (*witnesses.Set, error) {
	set, err := t.settings.Witnesses.open(name, t.metrics, t.log)
	if set == nil || err != nil {
		return nil, err
	}
	t.closers = append(t.closers, func(context.Context) error { set.Close(); return nil })
	return set, nil
}

// witnessed fails if the log needs a quorum of witnesses and has none: releases then wait in vain.
func (t *trustServices) witnessed() error {
	if t.witnesses == nil || !t.settings.Witnesses.Required {
		return nil
	}
	if text, noQuorum := t.witnesses.Problem(); noQuorum && text != "" {
		return errors.New("has no quorum of witnesses, so nothing is logged and releases fail; " + text)
	}
	return nil
}
