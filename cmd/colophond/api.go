package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/front"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/web"
	"github.com/colophon-build/colophon/trust"
)

// apiSettings is what serve tells the front door.
type apiSettings struct {
	URL      string                   `json:"url"`
	Tokens   tokens                   `json:"tokens"`
	Builders []release.BuilderInfo    `json:"builders"`
	Roles    map[string]peer.Endpoint `json:"roles"`             // the others, by name
	TLSCert  []byte                   `json:"tlsCert,omitempty"` // PEM
	TLSKey   []byte                   `json:"tlsKey,omitempty"`  // PEM
}

// runAPI is the one role that strangers reach: it ends TLS, answers the API and
// the pages, and hands everything else to the role that it is for.
func runAPI(ctx context.Context, s start[apiSettings]) error {
	f := &port{s}
	mux, err := f.mux(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() {
		if s.settings.TLSCert == nil {
			failed <- server.Serve(s.listener)
			return
		}
		cert, err := tls.X509KeyPair(s.settings.TLSCert, s.settings.TLSKey)
		if err != nil {
			failed <- err
			return
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		failed <- server.ServeTLS(s.listener, "", "")
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		server.Close() // a release in flight ends here; the same command finishes it later
	}
	return nil
}

type port struct{ start[apiSettings] }

func (f *port) mux(ctx context.Context) (*http.ServeMux, error) {
	s := f.settings
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	proxy := func(role string) http.Handler { return peer.Proxy(role, s.Roles[role], f.log) }
	mux := http.NewServeMux()
	mux.Handle("/", proxy(roleTrust))
	mux.Handle(issuer.PathToken, http.NotFoundHandler()) // which would refuse us too
	mux.Handle("/v2/", proxy(roleRegistry))
	mux.Handle("/v2", http.RedirectHandler("/v2/", http.StatusPermanentRedirect))
	front.New(front.Config{
		Attestor: proxy(roleAttestor), MayRelease: s.Tokens.mayRelease,
		// Of an attestor on another host, the directories are not the client's.
		LocalSources: s.Roles[roleAttestor].Socket != "" && loopback(u.Hostname()),
	}).Register(mux)

	document, err := get(ctx, s.Roles[roleTrust].Client(), "http://trust"+root.DocumentPath)
	if err != nil {
		return nil, err
	}
	believed, err := trust.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("own trust document: %w", err)
	}
	pages := web.Config{URL: s.URL, Version: version, Fingerprint: believed.Fingerprint}
	for _, b := range s.Builders {
		pages.Builders = append(pages.Builders, web.Builder{ID: b.ID, BuildType: b.BuildType, Level: b.Level})
	}
	if err := web.Register(mux, pages); err != nil {
		return nil, err
	}
	own := prometheus.NewRegistry()
	own.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What a role that is away would say is missing from the answer; the rest is there.
	gatherers := prometheus.Gatherers{own}
	for role, at := range s.Roles {
		gatherers = append(gatherers, gatherRole(role, at))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET "+peer.PathHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", f.ready)
	return mux, nil
}

// roleTimeout bounds what a role takes to say how it is.
const roleTimeout = 5 * time.Second

// ready answers 200 when all roles answer. A builder that its host cannot have
// is named with the reason and keeps nothing else from working.
func (f *port) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), roleTimeout)
	defer cancel()
	var errs []error
	for _, role := range slices.Sorted(maps.Keys(f.settings.Roles)) {
		if err := health(ctx, f.settings.Roles[role].Client(), "http://role"+peer.PathHealth); err != nil {
			errs = append(errs, fmt.Errorf("%s does not answer", role))
		}
	}
	missing, err := worker.Client{At: f.settings.Roles[roleBuilder]}.Missing(ctx)
	if err := errors.Join(append(errs, err)...); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(w, "no %s builder: %s\n", name, missing[name])
	}
}
