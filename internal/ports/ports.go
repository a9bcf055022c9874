// Package ports serves the two ports of a role that is no part of a platform: one for clients,
// with a certificate that may be replaced while the role runs, and one for health and metrics.
package ports

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
)

// Settings are the addresses of a role, and its certificate.
type Settings struct {
	Listen string `json:"listen,omitempty"` // address for clients
	Health string `json:"health,omitempty"` // address of /healthz, /readyz and /metrics

	TLS struct {
		Certificate string `json:"certificate,omitempty"` // file with a certificate chain in PEM
		Key         string `json:"key,omitempty"`         // file with its key
	} `json:"tls,omitzero"`
}

// Check sets the addresses that are missing. It fails if one is malformed, or if clients from other
// machines would be answered without TLS.
func (s *Settings) Check(listen, health string) error {
	for _, a := range []struct {
		name     string
		value    *string
		fallback string
	}{{"listen", &s.Listen, listen}, {"health", &s.Health, health}} {
		if *a.value == "" {
			*a.value = a.fallback
		}
		if _, _, err := net.SplitHostPort(*a.value); err != nil {
			return fmt.Errorf("%s: expected [HOST]:PORT, found %q", a.name, *a.value)
		}
	}
	host, _, _ := net.SplitHostPort(s.Listen)
	switch {
	case (s.TLS.Certificate == "") != (s.TLS.Key == ""):
		return errors.New("tls: expected both certificate and key, or none of them")
	case s.TLS.Certificate == "" && !loopback.Is(host):
		return fmt.Errorf("tls: expected a certificate and a key, because %s is reached from other machines", s.Listen)
	}
	return nil
}

// Metrics returns a registry with the metrics of every Go process.
func Metrics() *prometheus.Registry {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return metrics
}

// Checks returns the handler of /healthz, /readyz and /metrics. unready says what keeps the role
// from being ready; "" if nothing does.
func Checks(metrics *prometheus.Registry, unready func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := unready(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

// Serve serves both ports until ctx ends, and then until no request is left, for at most a minute.
func Serve(ctx context.Context, s Settings, clients, checks http.Handler, log *slog.Logger) error {
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	first := &http.Server{Addr: s.Listen, Handler: clients, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	if s.TLS.Certificate != "" {
		pair := &certificate{chain: s.TLS.Certificate, key: s.TLS.Key, log: log}
		if _, err := pair.get(nil); err != nil {
			return err
		}
		first.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	}
	second := &http.Server{Addr: s.Health, Handler: checks, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	ended := make(chan error, 2)
	for _, server := range []*http.Server{first, second} {
		l, err := net.Listen("tcp", server.Addr)
		if err != nil {
			return errors.Join(err, first.Close())
		}
		defer l.Close()
		go func() {
			if server.TLSConfig != nil {
				ended <- server.ServeTLS(l, "", "")
			} else {
				ended <- server.Serve(l)
			}
		}()
		log.Info("listening", "address", l.Addr().String())
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(first.Shutdown(last), second.Shutdown(last))
}

// certificate is read again from its files, at most every 10 seconds. While they cannot be read, the
// last one stays.
type certificate struct {
	chain, key string
	log        *slog.Logger

	mu   sync.Mutex
	read time.Time
	last *tls.Certificate
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && time.Since(c.read) < 10*time.Second {
		return c.last, nil
	}
	c.read = time.Now()
	pair, err := c.pair()
	switch {
	case err == nil:
		c.last = &pair
	case c.last != nil:
		c.log.Error("cannot read the certificate; the last one stays", "error", err)
		err = nil
	}
	return c.last, err
}

func (c *certificate) pair() (tls.Certificate, error) {
	chain, err := strict.ReadFile(c.chain, limits.Request)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := strict.ReadFile(c.key, limits.Request)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(chain, key)
}
