package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/tlog/follow"
)

// Batch, if not nil, gets the entries of each log in order, verified, before they count as
// read. An index of a log is built there.
type Batch func(ctx context.Context, origin string, b follow.Batch) error

// Serve follows the logs until ctx ends. Alarms are lines of the log, and go to the webhook.
func Serve(ctx context.Context, s Settings, batch Batch, log *slog.Logger) (err error) {
	p, err := s.plan()
	if err != nil {
		return err
	}
	klog.SetSlogLogger(logs.Library(log)) // Tessera logs with klog
	metrics := ports.Metrics()
	m := &monitor.Monitor{Watch: p.watch, Sinks: []monitor.Sink{alarms{log}}, Batch: batch}
	if p.hook != nil {
		m.Sinks = append(m.Sinks, p.hook)
	}
	followed, err := m.Open(p.logs)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range followed {
			err = errors.Join(err, l.Close())
		}
	}()
	metrics.MustRegister(&collector{m: m, logs: followed})
	found := &searches{}
	if p.search.Name != "" {
		if found, err = openSearches(p, s.Dir, followed, metrics, log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, found.close()) }()
	}
	log.Info("following", "logs", len(followed))
	work, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.Run(work, followed, p.every) })
	for _, x := range found.logs {
		running.Go(func() { x.run(work) })
	}
	checks := ports.Checks(metrics, func() string { return strings.Join(append(unready(followed), found.unready()...), "\n") })
	if found.mux != nil {
		err = ports.Serve(ctx, p.search.Settings, found.mux, checks, log)
	} else {
		err = ports.ServeChecks(ctx, p.health, checks, log)
	}
	stop()
	running.Wait()
	return err
}

// unready says which logs are not read to their end.
func unready(logs []*monitor.Followed) (all []string) {
	for _, l := range logs {
		if last, err := l.State(); err != nil {
			all = append(all, err.Error())
		} else if last.IsZero() {
			all = append(all, fmt.Sprintf("log %s is being read for the first time", l.Origin()))
		}
	}
	return all
}

// alarms is the sink that logs alarms.
type alarms struct{ log *slog.Logger }

// Report implements monitor.Sink.
func (a alarms) Report(ctx context.Context, all []monitor.Alarm) error {
	for _, alarm := range all {
		level := slog.LevelError
		if alarm.Kind == monitor.Recovered || alarm.Kind == monitor.Forged {
			level = slog.LevelInfo
		}
		a.log.LogAttrs(ctx, level, "alarm", slog.String("kind", string(alarm.Kind)), slog.String("why", alarm.Why), slog.Any("alarm", alarm))
	}
	return nil
}

// collector gives the metrics of the logs.
type collector struct {
	m    *monitor.Monitor
	logs []*monitor.Followed
}

var (
	size   = prometheus.NewDesc("colophon_follow_log_size", "Entries of the newest checkpoint of a log that was seen and proven.", []string{"origin"}, nil)
	read   = prometheus.NewDesc("colophon_follow_read_entries", "Entries of a log that were read and reported.", []string{"origin"}, nil)
	last   = prometheus.NewDesc("colophon_follow_last_read_seconds", "When a log was last read to its end (Unix time); 0: never.", []string{"origin"}, nil)
	failed = prometheus.NewDesc("colophon_follow_log_failed", "1 if the log could not be followed the last time, or not be judged.", []string{"origin", "kind"}, nil)
	found  = prometheus.NewDesc("colophon_follow_alarms_total", "Alarms since the start.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{size, read, last, failed, found} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, l := range c.logs {
		p := l.Progress()
		gauge(size, float64(p.Checkpoint.Size), l.Origin())
		gauge(read, float64(p.Next), l.Origin())
		at, err := l.State()
		seconds := 0.0
		if !at.IsZero() {
			seconds = float64(at.Unix())
		}
		gauge(last, seconds, l.Origin())
		kind := monitor.Undecided
		if f, ok := errors.AsType[*follow.Failure](err); ok {
			kind = monitor.Kind(f.Kind)
		}
		for _, k := range []monitor.Kind{monitor.Unreachable, monitor.KeySuspect, monitor.Misbehaves, monitor.Undecided} {
			v := 0.0
			if err != nil && k == kind {
				v = 1
			}
			gauge(failed, v, l.Origin(), string(k))
		}
	}
	counts := c.m.Counts()
	for _, kind := range append([]monitor.Kind{monitor.Forged}, monitor.Alarms...) {
		to <- prometheus.MustNewConstMetric(found, prometheus.CounterValue, float64(counts[kind]), string(kind))
	}
}
