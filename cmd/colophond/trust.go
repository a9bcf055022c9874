package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/authority/ca"
	"github.com/colophon-build/colophon/platform/authority/ctlog"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/log"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/authority/tsa"
	"github.com/colophon-build/colophon/platform/release"
)

// trustSettings is what serve tells the trust services.
type trustSettings struct {
	URL      string                `json:"url"`
	KeyDir   string                `json:"keyDir"`
	LogDir   string                `json:"logDir"`
	CTDir    string                `json:"ctDir"`
	Fulcio   json.RawMessage       `json:"fulcio,omitempty"`
	Outside  *root.Outside         `json:"outside,omitempty"`
	Builders []release.BuilderInfo `json:"builders"`
}

// runTrust opens the services that hold keys, and serves them. They meet here
// alone: none of them imports another.
func runTrust(ctx context.Context, s start[trustSettings]) (err error) {
	t := &trustServices{start: s, mux: http.NewServeMux(), metrics: prometheus.NewRegistry()}
	klog.SetSlogLogger(s.log) // Tessera's
	defer func() { err = errors.Join(err, t.close()) }()
	tokens, err := issuer.New(issuer.Config{Dir: s.settings.KeyDir, URL: s.settings.URL})
	if err != nil {
		return err
	}
	tokens.Register(t.mux)
	documents := root.Config{KeyDir: s.settings.KeyDir, Dir: filepath.Join(s.settings.KeyDir, "tuf"), URL: s.settings.URL, Outside: s.settings.Outside, Logger: s.log}
	for _, b := range s.settings.Builders {
		documents.Builders = append(documents.Builders, b.Builder)
	}
	if documents.Outside == nil {
		if err := t.openOwn(&documents, tokens); err != nil {
			return err
		}
	}
	published, err := root.New(documents)
	if err != nil {
		return err
	}
	published.Register(t.mux)
	go published.Run(ctx)

	// The tokens are the attestor's; all else is public.
	inside := http.NewServeMux()
	inside.Handle("POST "+issuer.PathToken, peer.Allow(tokens.Tokens(), roleAttestor))
	inside.Handle("GET /metrics", peer.Allow(promhttp.HandlerFor(t.metrics, promhttp.HandlerOpts{}), roleAPI))
	inside.Handle("/", peer.Allow(t.mux, roleAPI, roleAttestor, roleServe))
	return peer.Serve(ctx, s.listener, s.users, inside)
}

// trustServices are being opened.
type trustServices struct {
	start[trustSettings]
	mux     *http.ServeMux
	metrics *prometheus.Registry
	closers []func(context.Context) error // in order of opening
}

// openOwn opens the platform's own CA, CT log, clock and log.
func (t *trustServices) openOwn(documents *root.Config, tokens *issuer.Service) error {
	s := t.settings
	u, err := url.Parse(s.URL)
	if err != nil {
		return err
	}
	ct, err := ctlog.New(ctlog.Config{KeyDir: s.KeyDir, TileDir: s.CTDir, URL: s.URL})
	if err != nil {
		return err
	}
	t.closers = append(t.closers, ct.Close)
	ct.Register(t.mux)
	authority, err := ca.New(ca.Config{
		Dir: s.KeyDir, URL: s.URL, TokenKey: tokens.PublicKey(), AddPreChain: ct.AddPreChain,
		Outside: s.Fulcio, Log: t.log.With("service", "ca"),
	})
	if err != nil {
		return err
	}
	authority.Register(t.mux)
	clock, err := tsa.New(tsa.Config{Dir: s.KeyDir, Log: t.log.With("service", "tsa")})
	if err != nil {
		return err
	}
	clock.Register(t.mux)
	log, err := log.New(log.Config{
		Dir: s.LogDir, KeyFile: filepath.Join(s.KeyDir, "log.pem"), Origin: u.Hostname(),
		Metrics: t.metrics, Log: t.log.With("service", "log"),
	})
	if err != nil {
		return err
	}
	t.closers = append(t.closers, log.Close)
	log.Register(t.mux)
	documents.CA, documents.Clock = authority.Chain(), clock.Chain()
	documents.CT = root.Log{BaseURL: s.URL + "/ct", PublicKey: ct.PublicKey(), Since: ct.Since()}
	documents.Log = root.Log{Origin: log.Origin(), BaseURL: s.URL, PublicKey: log.PublicKey(), KeyID: log.KeyID(), Since: log.Created()}
	return nil
}

func (t *trustServices) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		errs = append(errs, t.closers[i](ctx))
	}
	return errors.Join(errs...)
}

// readOutside reads the trust services of somebody else that the configuration
// names; nil where it names none.
func readOutside(c config) (*root.Outside, error) {
	if c.TrustedRoot == "" {
		return nil, nil
	}
	trusted, err := os.ReadFile(c.TrustedRoot)
	if err != nil {
		return nil, fmt.Errorf("trustedRoot: %w", err)
	}
	signing, err := os.ReadFile(c.SigningConfig)
	if err != nil {
		return nil, fmt.Errorf("signingConfig: %w", err)
	}
	return &root.Outside{TrustedRoot: trusted, SigningConfig: signing}, nil
}
