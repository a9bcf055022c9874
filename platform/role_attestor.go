package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	sigroot "github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/internal/loopback"
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
	"github.com/colophon-build/colophon/platform/zone"
)

// attestorSettings is what serve tells the attestor.
type attestorSettings struct {
	URL           string                `json:"url"`
	Version       string                `json:"version"`
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

func prepareAttestor(p *platform, process *zone.Process) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return err
	}
	process.Zone.Mounts = append(append(process.Zone.Mounts, p.mirror()...), zone.Mount{Source: self, Name: "colophond"})
	z := process.Zone
	s := attestorSettings{
		URL: p.url, Version: p.config.Version, Dir: z.Path("attestor"), RegistryHost: u.Host, RegistryToken: p.push,
		Builders: p.builders(), OwnCA: p.outside == nil, Mirror: z.Path("mirror"), Setup: p.setup(),
	}
	if p.users.separate {
		s.Docker = dockerConfig()
	}
	if p.readsLocalGit() {
		s.Relay, s.LocalGit = z.Path("colophond"), socket(z.Path("run"), roleRooms)
	}
	others := map[string]*peer.Endpoint{roleTrust: &s.Trust, roleBuilder: &s.Builder}
	if p.opensRooms() {
		others[roleRooms] = &s.Rooms
	}
	for other, at := range others {
		if *at, err = p.endpoint(z.Path("run"), roleAttestor, other); err != nil {
			return err
		}
	}
	process.Settings = s
	return nil
}

// dockerConfig is the registry credentials of the user that started serve, if
// there are any. The attestor's own user could not read them.
func dockerConfig() []byte {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(home, ".docker")
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil
	}
	return data
}

func runAttestor(ctx context.Context, c zone.Child[attestorSettings]) error {
	cfg, err := releaseConfig(ctx, c.Settings, c.Log)
	if err != nil {
		return err
	}
	r, err := release.New(cfg)
	if err != nil {
		return err
	}
	go func() { // costs most of a second once, and then the first release need not
		if err := scan.Warm(); err != nil {
			c.Log.Warn("SBOM scanner", "error", err)
		}
		debug.FreeOSMemory() // making it takes seven times what it keeps
	}()
	finish := r.Resume()
	service := attestor.New(r, c.Settings.Dir, c.Log)
	var resumed sync.WaitGroup
	resumed.Go(finish)
	err = peer.Serve(ctx, c.Listener, c.Users, peer.Allow(service.Handler(), roleAPI))
	r.Close()
	service.Wait() // releases that were cut clean up behind them
	resumed.Wait()
	return err
}

// releaseConfig asks the trust services for what releases need of them.
func releaseConfig(ctx context.Context, o attestorSettings, log *slog.Logger) (cfg release.Config, err error) {
	services := o.Trust.Client()
	config, err := get(ctx, services, "http://trust"+root.SigningConfigPath)
	if err != nil {
		return cfg, fmt.Errorf("signing config: %w", err)
	}
	signing, err := sigroot.NewSigningConfigFromJSON(config)
	if err != nil {
		return cfg, err
	}
	trusted, err := getTrustDocument(ctx, services)
	if err != nil {
		return cfg, err
	}
	origin, err := url.Parse(o.URL)
	if err != nil {
		return cfg, err
	}
	if err := useDocker(o.Docker); err != nil {
		return cfg, err
	}
	tokens := issuer.Client{At: o.Trust}
	cfg = release.Config{
		URL: o.URL, Dir: o.Dir, Version: o.Version, BinaryDigest: sync.OnceValues(ownDigest),
		Builders:      o.Builders,
		Build:         worker.Client{At: o.Builder},
		SigningConfig: signing,
		Trust:         trusted,
		Token: func(ctx context.Context, id release.Identity) (string, error) {
			return tokens.Token(ctx, issuer.Claims(id))
		},
		Setup:        o.Setup,
		RegistryHost: o.RegistryHost, RegistryToken: o.RegistryToken, LoopbackTargets: loopback.Is(origin.Hostname()), Mirror: o.Mirror,
		Log: log,
	}
	if o.Rooms != (peer.Endpoint{}) {
		cfg.Rooms = rooms.Client{At: o.Rooms}
	}
	if o.Relay != "" {
		cfg.UploadPack = localgit.Command(o.Relay, o.LocalGit)
	}
	if o.OwnCA {
		// Whoever has the token gets a certificate: it does not pass the role that strangers talk to.
		cfg.CATransport = services.Transport
	}
	return cfg, nil
}

// useDocker makes the registry client find the credentials that serve was started
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
