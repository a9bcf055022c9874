package platform

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/every"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/platform/zone"
)

// news is what serve tells the role api at the start and when it changes.
type news struct {
	Pair  *acme.Pair `json:"pair,omitempty"`  // of the files of --tls-cert and --tls-key; nil without them
	Clock string     `json:"clock,omitempty"` // what is wrong with the host's clock
	Gate  string     `json:"gate,omitempty"`  // what is wrong with the files of the registry's gate
}

// readKeyPair reads the files of a certificate and its key, which must belong together and
// not have ended.
func readKeyPair(cert, key string, now time.Time) (pair acme.Pair, leaf *tls.Certificate, err error) {
	for file, data := range map[string]*[]byte{cert: &pair.Cert, key: &pair.Key} {
		if *data, err = os.ReadFile(file); err != nil {
			return pair, nil, err
		}
	}
	both, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return pair, nil, fmt.Errorf("%s, %s: %w", cert, key, err)
	}
	if end := both.Leaf.NotAfter; now.After(end) {
		return pair, nil, fmt.Errorf("%s: the certificate ended on %s", cert, end.UTC().Format(time.RFC3339))
	}
	return pair, &both, nil
}

// newsEvery is how often serve looks for news, and the role api at the role acme.
const newsEvery = 2 * time.Second

// openNews collects what the role api gets at its start, and returns it.
func (p *platform) openNews() (first news, err error) {
	first.Clock = clockFault()
	if p.config.TLSCert != "" {
		pair, _, err := readKeyPair(p.config.TLSCert, p.config.TLSKey, time.Now())
		if err != nil {
			return first, err
		}
		first.Pair = &pair
	}
	if first.Clock != "" {
		p.log.Warn(first.Clock)
	}
	p.news, err = zone.NewUpdates(first)
	return first, err
}

// watchNews tells the role api what differs from last, until ctx is done. Files of a
// certificate that are wrong change nothing: whoever renews them writes one after the other.
func (p *platform) watchNews(ctx context.Context, last news) {
	failed := ""
	for range every.Period(ctx, newsEvery) {
		p.changes.collect()
		now := news{Pair: last.Pair, Clock: clockFault(), Gate: p.gate.look(ctx, p.ownTrust, p.ownList)}
		if now.Gate != "" && now.Gate != last.Gate {
			p.log.Error(now.Gate)
		}
		if now.Pair != nil {
			pair, both, err := readKeyPair(p.config.TLSCert, p.config.TLSKey, time.Now())
			switch {
			case err == nil && !reflect.DeepEqual(pair, *now.Pair):
				now.Pair = &pair
				p.log.Info("the port has a new certificate", "until", both.Leaf.NotAfter.UTC().Format(time.RFC3339))
			case err != nil && err.Error() != failed:
				p.log.Warn("the certificate of the port cannot be read again; the old one stays in use", "error", err)
			}
			if failed = ""; err != nil {
				failed = err.Error()
			}
		}
		if reflect.DeepEqual(now, last) {
			continue
		}
		if last = now; p.news.Set(now) != nil {
			p.log.Error("the role api cannot get news") // these types marshal
		}
	}
}

// clockFault says what is wrong with the host's clock as far as the kernel knows, or "".
func clockFault() string {
	state, err := unix.Adjtimex(&unix.Timex{}) // reads only
	if err != nil || state != unix.TIME_ERROR {
		return ""
	}
	return "the host's clock is not synchronised (adjtimex); timestamps and certificates need the right time"
}

// heard is what the role api got last from serve, and from the role acme if there is one.
type heard struct {
	clock, gate atomic.Pointer[string]
	certificate atomic.Pointer[tls.Certificate] // nil without TLS, and until an authority gives the first one

	authority *peer.Endpoint             // of the role acme, if there is one
	renewal   atomic.Pointer[acme.State] // what that role said last
}

// listen takes the first of updates, and the others as they come.
func (h *heard) listen(updates <-chan []byte, log *slog.Logger) error {
	first, ok := <-updates
	if !ok {
		return errors.New("serve ended")
	}
	if err := h.take(first); err != nil {
		return err
	}
	go func() {
		for data := range updates {
			if err := h.take(data); err != nil {
				log.Error("news from serve", "error", err)
			}
		}
	}()
	return nil
}

func (h *heard) take(data []byte) error {
	var n news
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	h.clock.Store(&n.Clock)
	h.gate.Store(&n.Gate)
	if n.Pair == nil {
		return nil
	}
	both, err := tls.X509KeyPair(n.Pair.Cert, n.Pair.Key)
	if err == nil {
		h.certificate.Store(&both)
	}
	return err
}

// tls returns the TLS configuration of the port, or nil without TLS.
func (h *heard) tls() *tls.Config {
	if h.certificate.Load() == nil && h.authority == nil {
		return nil
	}
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := h.certificate.Load(); c != nil {
				return c, nil
			}
			return nil, errors.New("there is no certificate yet")
		},
		GetConfigForClient: h.challenge,
		MinVersion:         tls.VersionTLS12,
	}
}

// endsSoon reports whether a certificate ends within 14 days; if the platform renews it by
// itself, also whether the time for that is over, because a quarter of its life is left.
// /readyz says so then.
func endsSoon(leaf *x509.Certificate, now time.Time, renewed bool) bool {
	soon := 14 * 24 * time.Hour
	if renewed {
		soon = min(soon, leaf.NotAfter.Sub(leaf.NotBefore)/4)
	}
	return leaf.NotAfter.Sub(now) < soon
}

// warnings are lines for an operator; the platform is ready nevertheless.
func (h *heard) warnings(now time.Time) (lines []string) {
	if c := h.certificate.Load(); c != nil {
		if endsSoon(c.Leaf, now, h.authority != nil) {
			lines = append(lines, fmt.Sprintf("the certificate of the port ends in %d hours", int(c.Leaf.NotAfter.Sub(now).Hours())))
		}
		if r := h.renewal.Load(); r != nil && r.Fault != "" {
			lines = append(lines, fmt.Sprintf("the certificate of the port, which ends on %s, was not renewed: %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339), r.Fault))
		}
	}
	for _, fault := range []string{*h.clock.Load(), *h.gate.Load()} {
		if fault != "" {
			lines = append(lines, strings.ReplaceAll(fault, "\n", "; "))
		}
	}
	return lines
}

func (h *heard) metrics() []prometheus.Collector {
	list := []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "colophon_clock_synchronised", Help: "1, or 0 if the kernel says that the host's clock is not synchronised.",
	}, func() float64 {
		if *h.clock.Load() != "" {
			return 0
		}
		return 1
	})}
	if h.certificate.Load() != nil || h.authority != nil {
		list = append(list, certificateEnd("port", func() time.Time {
			if c := h.certificate.Load(); c != nil {
				return c.Leaf.NotAfter
			}
			return time.Unix(0, 0)
		}))
	}
	if h.authority != nil {
		list = append(list, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "colophon_acme_failures", Help: "Attempts to get a certificate for the port that failed since the last success.",
		}, func() float64 {
			if r := h.renewal.Load(); r != nil {
				return float64(r.Failures)
			}
			return 0
		}))
	}
	return list
}

// certificateEnd returns the metric of the end of a certificate.
func certificateEnd(name string, end func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "colophon_certificate_end_timestamp_seconds", Help: "When a certificate ends.", ConstLabels: prometheus.Labels{"certificate": name},
	}, func() float64 { return float64(end().Unix()) })
}
