package platform

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/search"
	"github.com/colophon-build/colophon/platform/zone"
	proofs "github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// searchSettings are the settings that serve passes to the role search.
type searchSettings struct {
	Dir   string        `json:"dir"`
	Trust peer.Endpoint `json:"trust"`
}

// searches reports whether the platform has a log of its own, whose entries can be found.
func (p *platform) searches() bool { return p.outside == nil }

func (p *platform) needsSearch() bool { return p.searches() && p.runs(roleSearch) }

func prepareSearch(p *platform, process *zone.Process) (err error) {
	s := searchSettings{Dir: process.Zone.Path("search")}
	if s.Trust, err = p.endpoint(process.Zone.Path("run"), roleSearch, roleTrust); err != nil {
		return err
	}
	process.Settings = s
	return nil
}

// runSearch is the role search. It reads the log as everybody does, and holds no key: the role
// trust commits to the roots that it computes.
func runSearch(ctx context.Context, c zone.Child[searchSettings]) error {
	client := c.Settings.Trust.Client()
	metrics := prometheus.NewRegistry()
	of, err := logOfIndex(ctx, client)
	if err != nil {
		return err
	}
	cfg := search.Config{
		Dir:     c.Settings.Dir,
		Log:     tlog.HTTP{URL: "http://trust/api/v2", Client: client},
		Index:   tlog.HTTP{URL: "http://trust/index", Client: client},
		Append:  func(ctx context.Context, entry []byte) error { return addToIndex(ctx, client, entry) },
		Metrics: metrics, Logger: c.Log,
	}
	if cfg.LogKey, err = tlog.NewVerifier(of.Origin, ed25519.PublicKey(of.PublicKey)); err != nil {
		return err
	}
	if cfg.IndexKey, err = tlog.NewVerifier(proofs.IndexOrigin(of.Origin), ed25519.PublicKey(of.PublicKey)); err != nil {
		return err
	}
	service := search.New(cfg)
	mux := http.NewServeMux()
	service.Register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	disks := watchDisks(ctx, roleSearch, c.Dirs, c.Log)
	ready := func(ctx context.Context) error { return errors.Join(service.Ready(), disks.ready(ctx)) }
	err = peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(mux, roleAPI), ready))
	if ctx.Err() != nil { // the map is saved when Run returns
		return errors.Join(err, <-done)
	}
	return err
}

// logOfIndex asks the role trust which log the index log is of.
func logOfIndex(ctx context.Context, client *http.Client) (of indexlog.Of, err error) {
	body, err := get(ctx, client, "http://trust"+indexlog.PathOf)
	if err != nil {
		return of, err
	}
	err = strict.UnmarshalKnown(body, limits.TrustRoot, &of)
	return of, err
}

// addToIndex has the role trust add an entry to the index log.
func addToIndex(ctx context.Context, client *http.Client, entry []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://trust"+indexlog.PathAdd, bytes.NewReader(entry))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("index log: got %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return nil
}
