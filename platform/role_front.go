package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/authority/distrust"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/front"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/search"
	"github.com/colophon-build/colophon/platform/web"
	"github.com/colophon-build/colophon/platform/zone"
)

// frontSettings are the settings that serve passes to the role api.
type frontSettings struct {
	URL      string                   `json:"url"`
	Version  string                   `json:"version"`
	Tokens   tokens                   `json:"tokens"`
	Builders []release.BuilderInfo    `json:"builders"`
	Roles    map[string]peer.Endpoint `json:"roles"` // the roles that it sends requests to

	TrustFrom string `json:"trustFrom"` // see platform.trustFrom
}

func prepareFront(p *platform, process *zone.Process) (err error) {
	s := frontSettings{URL: p.url, Version: p.config.Version, Tokens: p.known, Builders: p.builders(), Roles: map[string]peer.Endpoint{}}
	r, err := findRole(roleAPI)
	if err != nil {
		return err
	}
	for _, other := range r.asks {
		if other == roleACME && !p.usesACME() || other == roleSearch && !p.searches() {
			continue
		}
		if s.Roles[other], err = p.endpoint(process.Zone.Path("run"), roleAPI, other); err != nil {
			return err
		}
		if !p.runs(other) {
			process.Zone.Confine.Inet = true
		}
	}
	if s.TrustFrom, err = p.trustFrom(); err != nil {
		return err
	}
	process.Updates = p.news
	process.Settings = s
	process.Listener, err = p.port.(*net.TCPListener).File()
	return err
}

// runFront is the role api, the only role that strangers reach. It terminates TLS,
// serves the API and the pages, and proxies every other request to its role.
func runFront(ctx context.Context, c zone.Child[frontSettings]) error {
	f := &port{settings: c.Settings, log: c.Log}
	if err := f.heard.listen(c.Updates, c.Log); err != nil {
		return err
	}
	if e, ok := c.Settings.Roles[roleACME]; ok {
		f.heard.authority = &e
		go f.heard.follow(ctx, c.Log)
	}
	mux, err := f.mux(ctx)
	if err != nil {
		return err
	}
	// A browser sends the token that somebody gave the pages also with what another site has it ask for.
	own := http.NewCrossOriginProtection().Handler(mux)
	server := &http.Server{Handler: front.Patience(front.Logged(own, c.Settings.Tokens.name, c.Log)), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	if server.TLSConfig = f.heard.tls(); server.TLSConfig != nil {
		go func() { failed <- server.ServeTLS(c.Listener, "", "") }()
	} else {
		go func() { failed <- server.Serve(c.Listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		server.Close() // cancels a running release; the client can run its command again to finish it
	}
	return nil
}

// port serves the platform's port.
type port struct {
	settings frontSettings
	log      *slog.Logger
	heard    heard
}

func (f *port) mux(ctx context.Context) (*http.ServeMux, error) {
	s := f.settings
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	proxy := func(role string) http.Handler { return peer.Proxy(roleAPI, role, s.Roles[role], f.log) }
	mux := http.NewServeMux()
	mux.Handle("/", front.Buffered(proxy(roleTrust)))
	mux.Handle(issuer.PathToken, http.NotFoundHandler()) // the attestor alone may ask for tokens, at the socket
	mux.Handle("/v2/", proxy(roleRegistry))
	mux.Handle(api.PathArchive, proxy(roleRegistry))
	mux.Handle(api.PathArchive+"/", proxy(roleRegistry))
	if _, ok := s.Roles[roleSearch]; ok {
		mux.Handle("GET "+search.Path, proxy(roleSearch))
		for _, path := range []string{api.PathArchiveSearch, api.PathArchiveLog, api.PathArchiveIndex} {
			mux.Handle("GET "+path, proxy(roleSearch))
		}
	}
	mux.Handle(api.PathAudit+"/", proxy(roleLedger))
	mux.Handle(api.PathAudit+"/writers", http.NotFoundHandler()) // roles enrol at the socket
	mux.Handle("POST "+distrust.Path, front.Administering(s.Tokens.administrator, distrust.HeaderAccount, proxy(roleTrust)))
	mux.Handle("/v2", http.RedirectHandler("/v2/", http.StatusPermanentRedirect))
	front.New(front.Config{
		Attestor: proxy(roleAttestor), MayRelease: s.Tokens.mayRelease, Version: s.Version,
		// An attestor on another host cannot read directories of this host.
		LocalSources: s.Roles[roleAttestor].Socket != "" && loopback.Is(u.Hostname()),
	}).Register(mux)

	trusted, err := getTrustDocument(ctx, s.Roles[roleTrust].Client())
	if err != nil {
		return nil, err
	}
	pages := web.Config{URL: s.URL, Version: s.Version, Fingerprint: trusted.Fingerprint}
	for _, b := range s.Builders {
		pages.Builders = append(pages.Builders, web.Builder{ID: b.ID, BuildType: b.BuildType, Level: b.Level})
	}
	if err := web.Register(mux, pages); err != nil {
		return nil, err
	}
	ours := prometheus.NewRegistry()
	ours.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ours.MustRegister(f.heard.metrics()...)
	// If a role does not answer, only its metrics are missing.
	gatherers := prometheus.Gatherers{ours}
	for role, at := range s.Roles {
		gatherers = append(gatherers, gatherRole(role, at))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET "+peer.PathHealth, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", f.ready)
	return mux, nil
}

// roleTimeout is how long a role may take to answer a request for health or metrics.
const roleTimeout = 5 * time.Second

// ready answers 200 if all roles can do their work. Otherwise it says in one line for each
// role what is wrong. It lists the builders that their host cannot run and why; without them
// the platform still counts as ready.
func (f *port) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), roleTimeout)
	defer cancel()
	var errs []error
	for _, role := range slices.Sorted(maps.Keys(f.settings.Roles)) {
		client := f.settings.Roles[role].Client()
		if err := health(ctx, client, "http://role"+peer.PathHealth); err != nil {
			errs = append(errs, fmt.Errorf("%s does not answer", role))
		} else if err := health(ctx, client, "http://role"+peer.PathReady); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", role, err))
		}
	}
	missing := map[string]builder.Lack{}
	for _, role := range []string{roleBuilder, roleRooms} {
		reasons, err := worker.Client{At: f.settings.Roles[role]}.Missing(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		maps.Copy(missing, reasons)
	}
	if err := errors.Join(errs...); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(w, "no %s builder: %s\n", name, missing[name])
	}
	for _, line := range f.heard.warnings(time.Now()) {
		fmt.Fprintln(w, line)
	}
}
