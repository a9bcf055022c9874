package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/colophon-build/colophon/internal/ca"
	"github.com/colophon-build/colophon/internal/ctlog"
	"github.com/colophon-build/colophon/internal/issuer"
	"github.com/colophon-build/colophon/internal/logserver"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/trustroot"
	"github.com/colophon-build/colophon/internal/tsa"
	"github.com/colophon-build/colophon/trust"
)

// services are what the other zones need of the trust services: documents and
// tokens, never a key.
type services struct {
	signingConfig json.RawMessage
	document      json.RawMessage
	fingerprint   string
	tokens        *tokens
	attestorToken string // push token of this run's attestor; nowhere on disk
}

// openServices opens the zone that holds the keys, and serves it. They meet
// here alone: none of them imports another.
func (p *platform) openServices(ctx context.Context, running *sync.WaitGroup) (*services, error) {
	keys := filepath.Join(p.data, "trust")
	tokens, err := issuer.New(issuer.Config{Dir: keys, URL: p.url})
	if err != nil {
		return nil, err
	}
	tokens.Register(p.mux)
	root := trustroot.Config{KeyDir: keys, Dir: filepath.Join(p.data, "trust", "tuf"), URL: p.url, Builders: p.trustBuilders(), Logger: p.log.With("role", "trustroot")}
	if p.config.TrustedRoot != "" {
		root.Outside, err = readOutside(p.config)
	} else {
		err = p.openOwn(ctx, &root, tokens)
	}
	if err != nil {
		return nil, err
	}
	published, err := trustroot.New(root)
	if err != nil {
		return nil, err
	}
	published.Register(p.mux)
	running.Go(func() { published.Run(ctx) })
	running.Go(func() {
		l, err := peer.Listen(p.socket("issuer"), -1)
		if err == nil {
			mux := http.NewServeMux()
			mux.Handle(issuer.PathToken, peer.Allow(tokens.Tokens(), "attestor"))
			err = peer.Serve(ctx, l, peer.Users{"attestor": os.Getuid()}, mux)
		}
		if err != nil {
			p.log.Error("tokens cannot be had", "error", err)
		}
	})
	believed, err := trust.Parse(published.Document())
	if err != nil {
		return nil, fmt.Errorf("own trust document: %w", err)
	}
	return &services{signingConfig: published.SigningConfig(), document: published.Document(), fingerprint: believed.Fingerprint}, nil
}

// openOwn opens the platform's own CA, CT log, clock and log.
func (p *platform) openOwn(ctx context.Context, root *trustroot.Config, tokens *issuer.Service) error {
	keys := filepath.Join(p.data, "trust")
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	ct, err := ctlog.New(ctlog.Config{KeyDir: keys, TileDir: filepath.Join(p.data, "ct"), URL: p.url})
	if err != nil {
		return err
	}
	p.onClose(ct.Close)
	ct.Register(p.mux)
	authority, err := ca.New(ca.Config{
		Dir: keys, URL: p.url, TokenKey: tokens.PublicKey(), AddPreChain: ct.AddPreChain,
		Outside: p.config.Fulcio, Log: p.log.With("role", "ca"),
	})
	if err != nil {
		return err
	}
	authority.Register(p.mux)
	clock, err := tsa.New(tsa.Config{Dir: keys, Log: p.log.With("role", "tsa")})
	if err != nil {
		return err
	}
	clock.Register(p.mux)
	log, err := logserver.New(logserver.Config{
		Dir: filepath.Join(p.data, "log"), KeyFile: filepath.Join(keys, "log.pem"), Origin: u.Hostname(),
		Metrics: p.metrics, Log: p.log.With("role", "log"),
	})
	if err != nil {
		return err
	}
	p.onClose(log.Close)
	log.Register(p.mux)
	root.CA, root.Clock = authority.Chain(), clock.Chain()
	root.CT = trustroot.Log{BaseURL: p.url + "/ct", PublicKey: ct.PublicKey(), Since: ct.Since()}
	root.Log = trustroot.Log{Origin: log.Origin(), BaseURL: p.url, PublicKey: log.PublicKey(), KeyID: log.KeyID(), Since: log.Created()}
	return nil
}

func readOutside(c config) (*trustroot.Outside, error) {
	root, err := os.ReadFile(c.TrustedRoot)
	if err != nil {
		return nil, err
	}
	signing, err := os.ReadFile(c.SigningConfig)
	if err != nil {
		return nil, err
	}
	return &trustroot.Outside{TrustedRoot: root, SigningConfig: signing}, nil
}
