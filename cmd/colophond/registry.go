package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/registry"
)

// registrySettings is what serve tells the registry.
type registrySettings struct {
	Dir         string   `json:"dir"`
	Tokens      tokens   `json:"tokens"`
	PrivatePull bool     `json:"privatePull"`
	Mutable     []string `json:"mutable"`
}

func runRegistry(ctx context.Context, s start[registrySettings]) (err error) {
	metrics := prometheus.NewRegistry()
	reg, err := registry.New(registry.Config{
		Dir: s.settings.Dir, Authorize: s.settings.Tokens.role,
		AnonymousPull: !s.settings.PrivatePull, Mutable: s.settings.Mutable,
		Log: s.log, Registerer: metrics,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	mux := http.NewServeMux()
	mux.Handle("/v2/", reg)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return peer.Serve(ctx, s.listener, s.users, peer.Allow(mux, roleAPI))
}
