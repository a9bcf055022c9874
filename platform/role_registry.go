package platform

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/zone"
)

// registrySettings are the settings that serve passes to the registry.
type registrySettings struct {
	URL         string   `json:"url"`
	Dir         string   `json:"dir"`
	Tokens      tokens   `json:"tokens"`
	PrivatePull bool     `json:"privatePull"`
	Mutable     []string `json:"mutable"`
}

func prepareRegistry(p *platform, process *zone.Process) error {
	process.Settings = registrySettings{
		URL: p.url, Dir: process.Zone.Path("registry"), Tokens: p.known,
		PrivatePull: p.file.Registry.PrivatePull, Mutable: p.file.Registry.Mutable,
	}
	return nil
}

func runRegistry(ctx context.Context, c zone.Child[registrySettings]) (err error) {
	s := c.Settings
	metrics := prometheus.NewRegistry()
	reg, err := registry.New(registry.Config{
		URL: s.URL, Dir: s.Dir, Authorize: s.Tokens.account,
		AnonymousPull: !s.PrivatePull, Mutable: s.Mutable,
		Log: c.Log, Registerer: metrics,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(mux, roleAPI), watchDisks(ctx, roleRegistry, c.Dirs, c.Log).ready))
}
