// Package ports serves the two ports of a role that is no part of a platform: one for clients,
// with a certificate that may be replaced while the role runs, and one for health and metrics.
package ports

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/keypair"
	"github.com/colophon-build/colophon/internal/loopback"
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

// ServeChecks serves the port for health and metrics alone until ctx ends.
func ServeChecks(ctx context.Context, address string, checks http.Handler, log *slog.Logger) error {
	return run(ctx, []*http.Server{checksServer(address, checks, log)}, log)
}

func checksServer(address string, checks http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Addr: address, Handler: checks, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet(log)}
}

func quiet(log *slog.Logger) *stdlog.Logger { return slog.NewLogLogger(log.Handler(), slog.LevelDebug) }

// Serve serves both ports until ctx ends, and then until no request is left, for at most a minute.
func Serve(ctx context.Context, s Settings, clients, checks http.Handler, log *slog.Logger) error {
	first := &http.Server{Addr: s.Listen, Handler: clients, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: quiet(log)}
	if s.TLS.Certificate != "" {
		pair := &keypair.Watched{Chain: s.TLS.Certificate, Key: s.TLS.Key, Log: log}
		if _, err := pair.Get(nil); err != nil {
			return err
		}
		first.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Get}
	}
	return Run(ctx, first, checksServer(s.Health, checks, log), log)
}

// Run serves with two servers until ctx ends, and then until no request is left, for at most a
// minute. A server with a TLSConfig serves TLS.
func Run(ctx context.Context, clients, checks *http.Server, log *slog.Logger) error {
	return run(ctx, []*http.Server{clients, checks}, log)
}

// listen listens at a TCP address.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%s: another program listens there; choose another address, or end that program", address)
	}
	return l, err
}

func run(ctx context.Context, servers []*http.Server, log *slog.Logger) error {
	ended := make(chan error, len(servers))
	for _, server := range servers {
		l, err := listen(server.Addr)
		if err != nil {
			return errors.Join(err, servers[0].Close())
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
	var errs []error
	for _, server := range servers {
		errs = append(errs, server.Shutdown(last))
	}
	return errors.Join(errs...)
}
