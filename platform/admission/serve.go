package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	ledger "github.com/colophon-build/colophon/platform/recorder"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// Serve answers the API server until ctx ends. It is ready when it has a certificate and has read
// the policies and trust roots.
func Serve(ctx context.Context, s Settings, log *slog.Logger) error {
	fields, err := s.fields()
	if err != nil {
		return err
	}
	api, namespace, err := s.client()
	alone := s.TLS.Certificate != "" && s.Policies != "" && s.Trust != "" && s.API == nil
	if err != nil && !alone {
		return fmt.Errorf("%w: outside of a cluster, the settings need api, or policies, trust and tls", err)
	}
	var asks Cluster = noCluster{}
	var cluster *KubeCluster
	if err == nil {
		cluster = NewKubeCluster(api)
		asks = cluster
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store, err := s.store(api)
	if err != nil {
		return err
	}
	c := Config{Verdicts: store, Cluster: asks, Fields: fields, Names: s.Names, Mirrors: s.Mirrors, DryRun: s.DryRun, Log: log, Registerer: metrics}
	l := &loader{log: log, Loader: verdicts.NewLoader(store, log, nil)}
	if s.Ledger != nil {
		r, err := s.Ledger.Open("admission", log, metrics)
		if err != nil {
			return err
		}
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
			defer cancel()
			flush(last, r, log)
		}()
		c.Recorder, c.Name = r, s.Ledger.Instance
		l.WithActs(r)
	}
	h := New(c)
	if c := s.ClusterImagePolicies; c != nil {
		l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{NoMatchPolicy: c.NoMatchPolicy})
	}
	certs := &certificate{log: log}
	webhooks, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return err
	}
	defer webhooks.Close()
	health, err := net.Listen("tcp", s.Health)
	if err != nil {
		return err
	}
	defer health.Close()
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // until the last answer is out
	defer stop()
	remembers := newKnown(api, namespace, store, log)
	if s.Remember {
		remembers.restore(work)
	}
	l.FollowLists(work, s.Distrust)
	s.start(work, l, certs, api, namespace)
	metrics.MustRegister(l.Collectors()...)
	go l.Refresh(work)
	seen := newInventory(h, s.Exempt)
	seen.whole = s.ClusterImagePolicies != nil
	fill := newFiller(h, seen, metrics)
	if api != nil {
		go cluster.followAccounts(work, log)
		seen.follow(work, api)
		lead := newLease(api, namespace, log)
		running := &verifier{h: h, seen: seen, rec: &recorder{api: api, log: log, now: h.Now}, lead: lead, eviction: s.Eviction}
		go lead.run(ctx) // when this process ends, another replica leads at once
		go running.run(ctx, time.Second)
		if s.Remember {
			go remembers.run(ctx, lead)
		}
	}
	s.startAhead(work, fill)
	return serve(ctx, h, webhooks, health, certs, l.Checks(metrics, func() string { return unready(ctx, certs) }), log)
}

// flushTime is how long admission waits at its end for the audit ledger.
const flushTime = 15 * time.Second

// flush waits until the audit ledger has what was recorded, or ctx ends: the spool ends with the pod.
func flush(ctx context.Context, r *ledger.Recorder, log *slog.Logger) {
	if err := errors.Join(r.Flush(ctx), r.Close()); err != nil {
		log.Error("records may be lost", "error", err)
	}
}

// store returns the empty store of verdicts. api is nil outside of a cluster.
func (s *Settings) store(api *kubeapi.Client) (*verdicts.Store, error) {
	helpers, err := s.CredentialHelpers.Find()
	if err != nil {
		return nil, err
	}
	c := verdicts.Config{Transport: verdicts.Transport(s.LoopbackRegistries), Helpers: helpers, Memory: int64(s.Memory) << 20}
	if s.Remember {
		if api == nil {
			return nil, errors.New("remember: there is no API server that could keep what is known")
		}
		if c.Program, err = verdicts.Program(); err != nil {
			return nil, fmt.Errorf("remember: %w", err)
		}
	}
	return verdicts.New(c), nil
}

// startAhead begins to read images before pods ask for them.
func (s *Settings) startAhead(ctx context.Context, fill *filler) {
	go fill.run(ctx)
	if s.Platform != "" {
		go fill.fromPlatform(ctx, s.Platform)
	}
	if s.List != nil {
		go fill.fromList(ctx, *s.List)
	}
}

// start begins to read what the settings name.
func (s *Settings) start(ctx context.Context, l *loader, certs *certificate, api *kubeapi.Client, namespace string) {
	for of, path := range map[int]string{verdicts.PolicyDocuments: s.Policies, verdicts.TrustDocuments: s.Trust} {
		if path != "" {
			go l.FromFiles(ctx, of, path)
		} else {
			l.fromCluster(ctx, api, of, namespace, s.ClusterImagePolicies)
		}
	}
	if s.TLS.Certificate != "" {
		go certs.fromFiles(ctx, s.TLS.Certificate, s.TLS.Key)
	} else {
		go certs.fromSecret(ctx, api, namespace)
	}
}

// drain is how long a process that ends still answers: the API server's connections learn only
// after some time that it is no longer ready.
const drain = 10 * time.Second

// serve answers until ctx ends, and then until no request is left.
func serve(ctx context.Context, h http.Handler, webhooks, health net.Listener, certs *certificate, checks http.Handler, log *slog.Logger) error {
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	// The API server keeps connections for more requests. One that is closed while a request comes loses
	// it, so that in the end, each is closed with the answer to a request.
	last := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ctx.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: last, TLSConfig: certs.config(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: quiet}
	plain := &http.Server{Handler: checks, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: quiet}
	failed := make(chan error, 2)
	go func() { failed <- server.ServeTLS(webhooks, "", "") }()
	go func() { failed <- plain.Serve(health) }()
	log.Info("admission answers", "webhooks", webhooks.Addr().String(), "health", health.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("admission ends", "after", drain)
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
	}
	end, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(end), plain.Shutdown(end))
}

// unready says what keeps the process from being ready, besides policies and trust roots.
func unready(ctx context.Context, certs *certificate) string {
	switch {
	case ctx.Err() != nil:
		return "it ends"
	case !certs.ready():
		return "there is no certificate yet"
	}
	return ""
}

// noCluster is a Cluster without an API server.
type noCluster struct{}

func (noCluster) PullSecrets(context.Context, string, string, []string) ([]PullSecret, []string) {
	return nil, []string{"there is no API server to read pull secrets from"}
}

func (noCluster) MayBreakGlass(context.Context, User, string) (bool, error) {
	return false, errors.New("there is no API server to ask")
}
