package gate

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/colophon-build/colophon/internal/keypair"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/ports"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// Serve serves images until ctx ends. It is ready when it has read the policies and trust roots;
// until then, every image is undecided.
func Serve(ctx context.Context, s Settings, log *slog.Logger) error {
	if err := s.Check(); err != nil {
		return err
	}
	logins, err := s.logins()
	if err != nil {
		return err
	}
	pair := &keypair.Watched{Chain: s.TLS.Certificate, Key: s.TLS.Key, Log: log}
	if s.TLS.Certificate != "" {
		if _, err := pair.Get(nil); err != nil {
			return err
		}
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	host, _, err := net.SplitHostPort(s.host)
	if err != nil {
		host = s.host
	}
	transport := verdicts.Transport(loopback.Is(host))
	helpers, err := s.CredentialHelpers.Find()
	if err != nil {
		return err
	}
	if helpers != nil && !helpers.Covers(s.host) {
		return fmt.Errorf("credentialHelpers: none is for %s", s.host)
	}
	store := verdicts.New(verdicts.Config{Transport: transport, Helpers: helpers, Memory: int64(s.Memory) << 20})
	c := Config{Upstream: s.host, Names: s.Names, Verdicts: store, Transport: transport, Logins: logins, Helpers: helpers, AskClients: s.Login == "upstream", Audit: s.Mode == "audit", Log: log, Registerer: metrics}
	if s.Cache.Dir != "" {
		if c.Cache, err = OpenCache(s.Cache.Dir, int64(s.Cache.Size)<<20, log); err != nil {
			return err
		}
		defer c.Cache.Close()
	}
	l := verdicts.NewLoader(store, log, nil)
	if s.Ledger != nil {
		r, err := s.Ledger.Open("gate", log, metrics)
		if err != nil {
			return err
		}
		defer r.Close()
		c.Recorder = r
		l.WithActs(r)
	}
	l.WithClusterImagePolicies(s.ClusterImagePolicies)
	work, stop := context.WithCancel(ctx)
	defer stop()
	l.FollowLists(work, s.Distrust)
	go l.FromFiles(work, verdicts.PolicyDocuments, s.Policies)
	go l.FromFiles(work, verdicts.TrustDocuments, s.Trust)
	go l.Refresh(work)

	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	mux.Handle("/v2/", New(c))
	clients := &http.Server{Addr: s.Listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quiet}
	if s.TLS.Certificate != "" {
		clients.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.Get}
	}
	health := &http.Server{Addr: s.Health, Handler: l.Checks(metrics, l.Missing), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	return ports.Run(ctx, clients, health, log)
}
