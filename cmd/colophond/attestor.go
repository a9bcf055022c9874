package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"runtime/debug"
	"sync"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/build"
	"github.com/colophon-build/colophon/internal/attestor"
	"github.com/colophon-build/colophon/internal/issuer"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/worker"
	"github.com/colophon-build/colophon/release"
	"github.com/colophon-build/colophon/sbom/generate"
	"github.com/colophon-build/colophon/trust"
)

// attestorSettings is what serve tells the attestor.
type attestorSettings struct {
	URL           string                `json:"url"`
	Dir           string                `json:"dir"`
	Socket        string                `json:"socket"`
	WorkerSocket  string                `json:"workerSocket"`
	IssuerSocket  string                `json:"issuerSocket"`
	RegistryHost  string                `json:"registryHost"`
	RegistryToken string                `json:"registryToken"`
	Mirror        string                `json:"mirror,omitempty"`
	Builders      []release.BuilderInfo `json:"builders"`
	SigningConfig json.RawMessage       `json:"signingConfig"`
	TrustDocument json.RawMessage       `json:"trustDocument"`
}

func newAttestorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "attestor", Short: "role: fetches, measures, signs, publishes (started by serve)",
		Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s attestorSettings
			if err := readSettings(os.Stdin, &s); err != nil {
				return err
			}
			return runAttestor(cmd.Context(), s)
		},
	}
}

func runAttestor(ctx context.Context, s attestorSettings) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", "attestor")
	signing, err := root.NewSigningConfigFromJSON(s.SigningConfig)
	if err != nil {
		return err
	}
	believed, err := trust.Parse(s.TrustDocument)
	if err != nil {
		return err
	}
	origin, err := url.Parse(s.URL)
	if err != nil {
		return err
	}
	tokens := issuer.Client{Socket: s.IssuerSocket}
	r, err := release.New(release.Config{
		URL: s.URL, Dir: s.Dir, Version: version, BinaryDigest: sync.OnceValues(ownDigest),
		Builders:      s.Builders,
		Build:         worker.Client{Socket: s.WorkerSocket},
		SigningConfig: signing,
		Trust:         believed,
		Token: func(ctx context.Context, id release.Identity) (string, error) {
			return tokens.Token(ctx, issuer.Claims(id))
		},
		RegistryHost: s.RegistryHost, RegistryToken: s.RegistryToken, LoopbackTargets: loopback(origin.Hostname()), Mirror: s.Mirror,
		Log: log,
	})
	if err != nil {
		return err
	}
	go func() { // costs most of a second once, and then the first release need not
		if err := generate.Warm(); err != nil {
			log.Warn("SBOM scanner", "error", err)
		}
		debug.FreeOSMemory() // making it takes seven times what it keeps
	}()
	service := attestor.New(r, s.Dir, log)
	l, err := peer.Listen(s.Socket, -1)
	if err != nil {
		return err
	}
	err = peer.Serve(ctx, l, peer.Users{"api": os.Getuid()}, service.Handler())
	service.Wait() // releases that were cut clean up behind them
	return err
}

// ownDigest is the hex sha256 of this executable, as it runs.
func ownDigest() (string, error) { return build.FileDigest("/proc/self/exe") }
