package platform

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/archive"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/zone"
)

// registrySettings are the settings that serve passes to the registry.
type registrySettings struct {
	URL         string   `json:"url"`
	Dir         string   `json:"dir"`
	Archive     string   `json:"archive"` // directory
	Tokens      tokens   `json:"tokens"`
	PrivatePull bool     `json:"privatePull"`
	Mutable     []string `json:"mutable"`
}

func prepareRegistry(p *platform, process *zone.Process) error {
	process.Settings = registrySettings{
		URL: p.url, Dir: process.Zone.Path("registry"), Archive: process.Zone.Path("archive"), Tokens: p.known,
		PrivatePull: p.file.Registry.PrivatePull, Mutable: p.file.Registry.Mutable,
	}
	return nil
}

func runRegistry(ctx context.Context, c zone.Child[registrySettings]) (err error) {
	s := c.Settings
	metrics := prometheus.NewRegistry()
	kept, err := archive.Open(archive.Config{Dir: s.Archive, Metrics: metrics, Log: c.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	reg, err := registry.New(registry.Config{
		URL: s.URL, Dir: s.Dir, Authorize: s.Tokens.account,
		AnonymousPull: !s.PrivatePull, Mutable: s.Mutable,
		Archive: kept.Manifest, Log: c.Log, Registerer: metrics,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	kept.Register(mux, func(token string) (mayRead, mayAdd bool) {
		_, role := s.Tokens.account(token)
		return role >= registry.Pull || token == "" && !s.PrivatePull, role >= registry.Push
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(mux, roleAPI), watchDisks(ctx, roleRegistry, c.Dirs, c.Log).ready))
}
