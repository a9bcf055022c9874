// Package recorder signs the records of a role and brings them to an audit ledger (spec/audit/v1). A
// record is on the disk of the ledger, or of this machine, before Record returns. From here it is sent
// again until the ledger has it; the ledger takes it once.
package recorder

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/loopback"
)

const (
	requiredTimeout = 5 * time.Second  // for a decision that waits for the ledger
	sendTimeout     = 30 * time.Second // for a record of the spool
)

// Settings are the member "audit" of the configuration of a role that decides.
type Settings struct {
	Ledger   string   `json:"ledger"`             // URL of the platform that has the ledger; required
	Key      string   `json:"key"`                // file with the private key that signs the records; made if it is missing. The ledger must name its public key; required
	Spool    string   `json:"spool"`              // directory for records that the ledger does not have yet; required
	Instance string   `json:"instance,omitempty"` // which one of the role, as the ledger names it
	Required bool     `json:"required,omitempty"` // a decision takes effect only when the ledger has recorded it
	Private  []string `json:"private,omitempty"`  // fields that records only commit to: user, image, namespace, name, reason; default user and reason
}

// Check returns an error if the settings contradict themselves.
func (s *Settings) Check() error {
	if s == nil {
		return nil
	}
	u, err := url.Parse(s.Ledger)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback.Is(u.Hostname())):
		return fmt.Errorf("audit: ledger: expected https://HOST, or http on this machine, found %q", s.Ledger)
	case s.Key == "" || s.Spool == "":
		return errors.New("audit: expected key and spool")
	}
	for _, field := range s.Private {
		if !slices.Contains(audit.Fields(), field) {
			return fmt.Errorf("audit: private: expected %s, found %q", strings.Join(audit.Fields(), ", "), field)
		}
	}
	return nil
}

// Config of a Recorder.
type Config struct {
	Role, Instance string
	Key            crypto.Signer
	Private        []string     // see audit.NewSigner
	URL            string       // of the ledger's platform
	HTTP           *http.Client // reaches it; nil: one with timeouts
	Spool          string       // directory
	Required       bool         // Record fails unless the ledger has the record
	Enrol          bool         // the recorder may enrol its own key
	Log            *slog.Logger
	Registerer     prometheus.Registerer // nil: no metrics
	Now            func() time.Time      // nil: time.Now
}

// Recorder records. Safe for concurrent use.
type Recorder struct {
	cfg    Config
	signer *audit.Signer
	writer audit.Writer
	spool  *spool
	live   *courier
	lost   prometheus.Counter
	counts counts

	enrolling sync.Mutex // requests at the same time enrol the key once
}

// ErrNotRecorded means that a decision must not take effect: the ledger did not record it.
var ErrNotRecorded = errors.New("the audit ledger did not record the decision, and the configuration requires it")

// Open opens a recorder by its settings. It reads the key, or makes one, and tells the operator how the
// ledger must name it.
func (s *Settings) Open(role string, log *slog.Logger, metrics prometheus.Registerer) (*Recorder, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	key, err := Key(s.Key, func() error { return nil })
	if err != nil {
		return nil, fmt.Errorf("audit: key: %w", err)
	}
	r, err := New(Config{Role: role, Instance: s.Instance, Key: key, Private: s.Private, URL: s.Ledger, Spool: s.Spool, Required: s.Required, Log: log, Registerer: metrics})
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(r.writer)
	log.Info("the configuration of the audit ledger must have this writer", "audit.writers", string(raw))
	return r, err
}

// New opens a recorder, and begins to send what its spool has.
func New(c Config) (*Recorder, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	r := &Recorder{cfg: c, lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "colophon_audit_lost_total", Help: "Decisions that could neither be recorded nor kept."})}
	spki, err := x509.MarshalPKIXPublicKey(c.Key.Public())
	if err != nil {
		return nil, err
	}
	r.writer = audit.Writer{Role: c.Role, Instance: c.Instance, Key: spki}
	if r.signer, err = audit.NewSigner(c.Key, c.Role, c.Instance, c.Private); err != nil {
		return nil, err
	}
	if r.spool, err = openSpool(c.Spool, func(ctx context.Context, all []sealed) []error { return r.deliver(ctx, sendTimeout, all) }, r.lost.Inc, c.Log); err != nil {
		return nil, fmt.Errorf("audit: spool: %w", err)
	}
	if err := r.counts.read(filepath.Join(c.Spool, countsFile)); err != nil {
		return nil, errors.Join(fmt.Errorf("audit: %w", err), r.spool.close())
	}
	r.live = newCourier(func(all []sealed) []error { return r.deliver(context.Background(), requiredTimeout, all) })
	if c.Registerer != nil {
		c.Registerer.MustRegister(r.lost, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "colophon_audit_spool_bytes", Help: "Size of the records that the audit ledger does not have yet."}, func() float64 { return float64(r.spool.bytes.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "colophon_audit_refused_bytes", Help: "Size on the disk of the records that the audit ledger refuses for ever."}, func() float64 { return float64(r.spool.refused.Load()) }))
	}
	return r, nil
}

// Flush waits until the ledger has all that the spool had, or until ctx ends: where the spool does not outlive this
// process, what is left in it is lost.
func (r *Recorder) Flush(ctx context.Context) error {
	for tick := time.NewTicker(flushEvery); ; {
		left := r.spool.bytes.Load()
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the audit ledger did not take %d bytes of records, which are in %s", left, r.cfg.Spool)
		}
	}
}

const flushEvery = 50 * time.Millisecond

// Close stops to send. What the spool has stays there for the next start.
func (r *Recorder) Close() error {
	r.live.close()
	return r.spool.close()
}

// Change makes later records hide other fields, and be required or not. Nothing may be recorded meanwhile.
func (r *Recorder) Change(private []string, required bool) error {
	signer, err := audit.NewSigner(r.cfg.Key, r.cfg.Role, r.cfg.Instance, private)
	if err == nil {
		r.signer, r.cfg.Private, r.cfg.Required = signer, private, required
	}
	return err
}

// Record records a decision or an act, of which it sets who decided. If the configuration requires it,
// an error matches ErrNotRecorded, and the decision must not take effect. Else a record that could
// not be kept is logged and counted, and there is no error.
func (r *Recorder) Record(ctx context.Context, what audit.Record) error {
	if !r.cfg.Required {
		if err := r.keep(what); err != nil {
			return r.fail(err)
		}
		return nil
	}
	e, err := r.signer.Seal(what, r.cfg.Now())
	if err != nil {
		return r.fail(err)
	}
	sent := seal(e)
	ctx, cancel := context.WithTimeout(ctx, requiredTimeout)
	defer cancel()
	if err = r.live.send(ctx, sent); err == nil {
		return nil
	}
	return r.withdraw(what, sent.data, err)
}

// Note records what has happened already, or what nobody waits for: nothing is held back until the ledger has it. The
// record is on the disk of this machine, or of the ledger, unless there is an error, which is also logged and counted.
func (r *Recorder) Note(ctx context.Context, what audit.Record) error {
	e, err := r.signer.Seal(what, r.cfg.Now())
	if err != nil {
		return r.lose(err)
	}
	sent := seal(e)
	kept := r.spool.add(sent.data)
	if kept == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requiredTimeout)
	defer cancel()
	if err := r.live.send(ctx, sent); err != nil {
		return r.lose(errors.Join(kept, err))
	}
	return nil
}

// keep signs a record and keeps it in the spool.
func (r *Recorder) keep(what audit.Record) error {
	e, err := r.signer.Seal(what, r.cfg.Now())
	if err != nil {
		return err
	}
	return r.spool.add(e.Marshal())
}

// withdraw keeps a record that did not reach the ledger in time, because of err, and a record that nothing
// followed from it. Nobody knows whether the first one arrived: both arrive in the end. It returns what Record
// returns.
func (r *Recorder) withdraw(what audit.Record, data []byte, err error) error {
	kept := r.spool.add(data)
	what.Time = time.Time{}
	switch {
	case !what.Kind.Verdict():
		what.Outcome = audit.Failed
	case what.Kind == audit.KindRunning: // it is refused by an eviction, and no pod was evicted
		what.Effect = audit.Nothing
	default:
		what.Effect = audit.Refused
	}
	what.Reason = audit.Shown("the record before this one did not reach the audit ledger in time, so the decision had no effect")
	if refused, err := r.signer.Seal(what, r.cfg.Now()); err == nil {
		kept = errors.Join(kept, r.spool.add(refused.Marshal()))
	}
	return r.fail(errors.Join(err, kept))
}

// fail returns what Record returns for an error.
func (r *Recorder) fail(err error) error {
	if r.cfg.Required {
		return fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	_ = r.lose(err) // logged and counted
	return nil
}

// lose logs and counts that a record is neither in the ledger nor kept, because of err, which it returns.
func (r *Recorder) lose(err error) error {
	r.lost.Inc()
	r.cfg.Log.Error("A DECISION IS NOT RECORDED", "error", err)
	return err
}
