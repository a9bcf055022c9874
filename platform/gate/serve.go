package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/colophon-build/colophon/internal/keypair"
	"github.com/colophon-build/colophon/internal/loopback"
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
	pair := &certificate{chain: s.TLS.Certificate, key: s.TLS.Key, log: log}
	if s.TLS.Certificate != "" {
		if _, err := pair.get(nil); err != nil {
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
	if c := s.ClusterImagePolicies; c != nil {
		l.WithClusterImagePolicies(c.NoMatchPolicy)
	}
	work, stop := context.WithCancel(ctx)
	defer stop()
	go l.FromFiles(work, verdicts.PolicyDocuments, s.Policies)
	go l.FromFiles(work, verdicts.TrustDocuments, s.Trust)
	go l.Refresh(work)

	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	mux.Handle("/v2/", New(c))
	clients := &http.Server{Addr: s.Listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quiet}
	if s.TLS.Certificate != "" {
		clients.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	}
	health := &http.Server{Addr: s.Health, Handler: l.Checks(metrics, func() string { return "" }), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	return listen(ctx, clients, health, log)
}

// listen serves until ctx ends, and then until no request is left.
func listen(ctx context.Context, clients, health *http.Server, log *slog.Logger) error {
	ended := make(chan error, 2)
	for _, server := range []*http.Server{clients, health} {
		l, err := net.Listen("tcp", server.Addr)
		if err != nil {
			return errors.Join(err, clients.Close())
		}
		defer l.Close()
		go func() {
			if server.TLSConfig != nil {
				ended <- server.ServeTLS(l, "", "")
			} else {
				ended <- server.Serve(l)
			}
		}()
	}
	log.Info("the gate answers", "clients", clients.Addr, "health", health.Addr)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), time.Minute) // downloads that run
	defer cancel()
	return errors.Join(clients.Shutdown(last), health.Shutdown(last))
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
	pair, err := keypair.Read(c.chain, c.key)
	if err == nil {
		c.last = pair
	}
	if err != nil && c.last != nil {
		c.log.Error("cannot read the certificate; the last one stays", "error", err)
		err = nil
	}
	return c.last, err
}
