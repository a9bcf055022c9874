package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	sigroot "github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/attestor"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/trust"
)

// attestorSettings is what serve tells the attestor.
type attestorSettings struct {
	URL           string                `json:"url"`
	Dir           string                `json:"dir"`
	Builder       peer.Endpoint         `json:"builder"`
	Trust         peer.Endpoint         `json:"trust"`
	Rooms         peer.Endpoint         `json:"rooms"`           // zero: none can be opened
	LocalGit      string                `json:"localGit"`        // socket of the role that reads local repositories
	Relay         string                `json:"relay,omitempty"` // this program, where local repositories are read through the rooms' role
	OwnCA         bool                  `json:"ownCA"`           // the certificate authority is at Trust
	RegistryHost  string                `json:"registryHost"`
	RegistryToken string                `json:"registryToken"`
	Mirror        string                `json:"mirror,omitempty"`
	Docker        []byte                `json:"docker,omitempty"` // config.json with credentials of other registries
	Builders      []release.BuilderInfo `json:"builders"`
	Setup         map[string]string     `json:"setup"`
}

func runAttestor(ctx context.Context, s start[attestorSettings]) error {
	o := s.settings
	services := o.Trust.Client()
	config, err := get(ctx, services, "http://trust"+root.SigningConfigPath)
	if err != nil {
		return fmt.Errorf("signing config: %w", err)
	}
	signing, err := sigroot.NewSigningConfigFromJSON(config)
	if err != nil {
		return err
	}
	document, err := get(ctx, services, "http://trust"+root.DocumentPath)
	if err != nil {
		return fmt.Errorf("trust document: %w", err)
	}
	believed, err := trust.Parse(document)
	if err != nil {
		return err
	}
	origin, err := url.Parse(o.URL)
	if err != nil {
		return err
	}
	if err := useDocker(o.Docker); err != nil {
		return err
	}
	tokens := issuer.Client{At: o.Trust}
	cfg := release.Config{
		URL: o.URL, Dir: o.Dir, Version: version, BinaryDigest: sync.OnceValues(ownDigest),
		Builders:      o.Builders,
		Build:         worker.Client{At: o.Builder},
		SigningConfig: signing,
		Trust:         believed,
		Token: func(ctx context.Context, id release.Identity) (string, error) {
			return tokens.Token(ctx, issuer.Claims(id))
		},
		Setup:        o.Setup,
		RegistryHost: o.RegistryHost, RegistryToken: o.RegistryToken, LoopbackTargets: loopback(origin.Hostname()), Mirror: o.Mirror,
		Log: s.log,
	}
	if o.Rooms != (peer.Endpoint{}) {
		cfg.Rooms = rooms.Client{At: o.Rooms}
	}
	if o.Relay != "" {
		cfg.UploadPack = localgit.Command(o.Relay, o.LocalGit)
	}
	if o.OwnCA {
		// The token is worth a certificate: it does not pass the role that strangers talk to.
		cfg.CATransport = services.Transport
	}
	r, err := release.New(cfg)
	if err != nil {
		return err
	}
	go func() { // costs most of a second once, and then the first release need not
		if err := scan.Warm(); err != nil {
			s.log.Warn("SBOM scanner", "error", err)
		}
		debug.FreeOSMemory() // making it takes seven times what it keeps
	}()
	finish := r.Resume()
	service := attestor.New(r, o.Dir, s.log)
	var resumed sync.WaitGroup
	resumed.Go(finish)
	err = peer.Serve(ctx, s.listener, s.users, peer.Allow(service.Handler(), roleAPI))
	r.Close()
	service.Wait() // releases that were cut clean up behind them
	resumed.Wait()
	return err
}

// useDocker has the registry client find the credentials that serve was started
// with, in a /tmp that no other role sees.
func useDocker(config []byte) error {
	if config == nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "docker-")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600); err != nil {
		return err
	}
	return os.Setenv("DOCKER_CONFIG", dir)
}

// ownDigest is the hex sha256 of this executable, as it runs.
func ownDigest() (string, error) { return builder.FileDigest("/proc/self/exe") }
