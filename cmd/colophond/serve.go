package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/build/gateway"
	"github.com/colophon-build/colophon/internal/apiserver"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/registry"
	"github.com/colophon-build/colophon/internal/web"
	"github.com/colophon-build/colophon/internal/worker"
	"github.com/colophon-build/colophon/release"
	"github.com/colophon-build/colophon/trust"
)

type serveOptions struct {
	data, listen, url, mirror, config string
	tlsCert, tlsKey                   string
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "run the whole platform",
		Long: `Serve runs the platform: OIDC issuer, certificate authority, CT log, transparency
log, timestamp authority, trust root, registry and API on one port, and the
attestor and the builder as processes of their own behind Unix sockets.

Keys are made at the first start and never replaced. When everything answers,
one line with the URL goes to standard output, and DIR/client.json is what
"colophon login" takes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "directory that holds everything (required)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address to listen on")
	f.StringVar(&o.url, "url", "", "the platform's public origin (default: from --listen); certificates name it, so it should not change")
	f.StringVar(&o.mirror, "mirror", "", "OCI layout that answers builds' pulls of the images it names")
	f.StringVar(&o.config, "config", "", "configuration file, JSON (docs/configuration.md)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM certificate chain; needed on any address but loopback")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM key of --tls-cert")
	cmd.MarkFlagRequired("data")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

// platform is everything that runServe wires.
type platform struct {
	options serveOptions
	config  config
	data    string // absolute
	url     string
	log     *slog.Logger
	metrics *prometheus.Registry
	mux     *http.ServeMux
	closers []func(context.Context) error // in order of opening
}

func runServe(ctx context.Context, o serveOptions) error {
	p := &platform{options: o, log: slog.New(slog.NewTextHandler(os.Stderr, nil)), mux: http.NewServeMux(), metrics: prometheus.NewRegistry()}
	var err error
	if p.config, err = readConfig(o.config); err != nil {
		return err
	}
	if p.url, err = origin(o.listen, o.url, o.tlsCert != ""); err != nil {
		return err
	}
	if o.mirror != "" { // the worker would only go without
		if _, err := gateway.OpenMirror(o.mirror); err != nil {
			return fmt.Errorf("--mirror: %w", err)
		}
	}
	unlock, err := p.openData()
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := p.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	klog.SetSlogLogger(p.log.With("role", "log")) // Tessera's
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What a role that is away would say is missing from the answer; the rest is there.
	gatherers := prometheus.Gatherers{p.metrics, gatherRole(p.socket("attestor")), gatherRole(p.socket("worker"))}
	p.mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))

	// Roles end before the services they use.
	roles, stopRoles := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer p.close()
	defer running.Wait()
	defer stopRoles()

	services, err := p.openServices(roles, &running)
	if err != nil {
		return err
	}
	if err := p.openServing(services); err != nil {
		return err
	}
	server := &http.Server{Handler: p.mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	for _, r := range p.roles(services) {
		running.Go(func() { r.supervise(roles) })
	}
	if err := p.awaitRoles(ctx); err != nil {
		return err
	}
	fmt.Printf("ready %s\n", p.url)
	select {
	case err = <-failed:
		return err
	case <-ctx.Done():
	}
	p.log.Info("stopping")
	stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		server.Close() // a release in flight ends here; the same command finishes it later
	}
	return nil
}

// openData makes the data directory, for one platform at a time.
func (p *platform) openData() (unlock func(), err error) {
	if p.data, err = filepath.Abs(p.options.data); err != nil {
		return nil, err
	}
	for _, d := range []string{"", "trust", "log", "ct", "registry", "attestor", "rooms", "run"} {
		if err := os.MkdirAll(filepath.Join(p.data, d), 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(p.data, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another colophond", p.data)
	}
	return func() { f.Close() }, nil
}

func (p *platform) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", p.options.listen)
	if err != nil || p.options.tlsCert == "" {
		return l, err
	}
	cert, err := tls.LoadX509KeyPair(p.options.tlsCert, p.options.tlsKey)
	if err != nil {
		l.Close()
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// openServing opens the zone that holds no keys: registry and API.
func (p *platform) openServing(s *services) error {
	var err error
	if s.tokens, err = openTokens(p.data, p.url, s.fingerprint); err != nil {
		return err
	}
	s.attestorToken = newToken()
	s.tokens.allow(s.attestorToken, registry.Push)
	reg, err := registry.New(registry.Config{
		Dir: filepath.Join(p.data, "registry"), Authorize: s.tokens.role,
		AnonymousPull: !p.config.Registry.PrivatePull, Mutable: p.config.Registry.Mutable,
		Log: p.log.With("role", "registry"), Registerer: p.metrics,
	})
	if err != nil {
		return err
	}
	p.onClose(func(context.Context) error { return reg.Close() })
	p.mux.Handle("/v2/", reg)
	p.mux.Handle("/v2", http.RedirectHandler("/v2/", http.StatusPermanentRedirect))
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	apiserver.New(apiserver.Config{
		Attestor: peer.Proxy("attestor", p.socket("attestor"), p.log.With("role", "api")), MayRelease: s.tokens.mayRelease, LocalSources: loopback(u.Hostname()),
	}).Register(p.mux)
	pages := web.Config{URL: p.url, Version: version, Fingerprint: s.fingerprint}
	for _, b := range p.builders() {
		pages.Builders = append(pages.Builders, web.Builder{ID: b.ID, BuildType: b.BuildType, Level: b.Level})
	}
	if err := web.Register(p.mux, pages); err != nil {
		return err
	}
	p.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	p.mux.HandleFunc("GET /readyz", p.ready)
	return nil
}

// roleTimeout bounds what a role of this host takes to say how it is.
const roleTimeout = 5 * time.Second

// ready answers 200 when all roles answer. A builder that this host cannot have
// is named with the reason and keeps nothing else from working.
func (p *platform) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), roleTimeout)
	defer cancel()
	missing, err := map[string]string(nil), p.rolesAnswer(ctx)
	if err == nil {
		missing, err = worker.Client{Socket: p.socket("worker")}.Missing(ctx)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(w, "no %s builder: %s\n", name, missing[name])
	}
}

// roles are the zones that run as processes of their own.
func (p *platform) roles(s *services) []role {
	u, _ := url.Parse(p.url)
	return []role{
		{name: "worker", log: p.log, settings: workerSettings{
			Socket: p.socket("worker"), Dir: filepath.Join(p.data, "rooms"), Mirror: p.options.mirror, Config: p.config,
		}},
		{name: "attestor", log: p.log, settings: attestorSettings{
			URL: p.url, Dir: filepath.Join(p.data, "attestor"), Socket: p.socket("attestor"),
			WorkerSocket: p.socket("worker"), IssuerSocket: p.socket("issuer"),
			RegistryHost: u.Host, RegistryToken: s.attestorToken, Mirror: p.options.mirror,
			Builders: p.builders(), SigningConfig: s.signingConfig, TrustDocument: s.document,
		}},
	}
}

// builders are this platform's, and the SLSA Build level that each can earn.
// Both sign with an identity that the build cannot reach. The room of buildkit
// isolates a build from the platform, but builder and attestor are still
// processes of one OS user, which L3 forbids; golang compiles with less around it.
func (p *platform) builders() []release.BuilderInfo {
	return []release.BuilderInfo{
		{Name: "buildkit", ID: p.url + "/builders/buildkit/v1", BuildType: attest.BuildTypeBuildKit, Level: 2},
		{Name: "golang", ID: p.url + "/builders/golang/v1", BuildType: attest.BuildTypeGolang, Level: 1},
	}
}

func (p *platform) trustBuilders() []trust.Builder {
	var out []trust.Builder
	for _, b := range p.builders() {
		out = append(out, trust.Builder{ID: b.ID, Level: b.Level})
	}
	return out
}

func (p *platform) socket(role string) string { return filepath.Join(p.data, "run", role+".sock") }

// rolesAnswer dials the sockets of all roles.
func (p *platform) rolesAnswer(ctx context.Context) error {
	var errs []error
	for _, name := range []string{"issuer", "worker", "attestor"} {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", p.socket(name))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s does not answer", name))
			continue
		}
		c.Close()
	}
	return errors.Join(errs...)
}

func (p *platform) awaitRoles(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := p.rolesAnswer(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("platform did not come up: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p *platform) onClose(f func(context.Context) error) { p.closers = append(p.closers, f) }

func (p *platform) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](ctx); err != nil {
			p.log.Error("closing", "error", err)
		}
	}
}
