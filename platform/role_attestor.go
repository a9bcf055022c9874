package platform

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/attestor"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/authority/issuer"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/platform/release/credentials"
	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/platform/zone"
	"github.com/colophon-build/colophon/sign"
)

// attestorSettings are the settings that serve passes to the attestor.
type attestorSettings struct {
	URL           string                `json:"url"`
	Version       string                `json:"version"`
	Dir           string                `json:"dir"`
	Builder       peer.Endpoint         `json:"builder"`
	Trust         peer.Endpoint         `json:"trust"`
	Rooms         peer.Endpoint         `json:"rooms"`
	LocalGit      string                `json:"localGit"`        // socket of the role rooms, which reads local repositories
	Relay         string                `json:"relay,omitempty"` // path of this program, if the role rooms reads local repositories; else empty
	Confinement   release.Confinement   `json:"confinement"`
	Scanner       string                `json:"scanner"`
	CacheMounts   bool                  `json:"cacheMounts"` // releases may keep their cache mounts
	Separate      bool                  `json:"separate"`    // each role has a user of its own, so Confinement must be possible
	OwnCA         bool                  `json:"ownCA"`       // the role at Trust is the certificate authority
	RegistryHost  string                `json:"registryHost"`
	RegistryToken string                `json:"registryToken"`
	Mirror        string                `json:"mirror,omitempty"`
	Docker        []byte                `json:"docker,omitempty"` // Docker's config.json: credentials for other registries
	Builders      []release.BuilderInfo `json:"builders"`
	BuilderHost   string                `json:"builderHost"`
	Setup         map[string]string     `json:"setup"`
	Recipes       []release.RecipeRule  `json:"recipes,omitempty"`
	Credentials   *credentials.Set      `json:"credentials"`
	Recording     recording             `json:"recording"`
	TrustFrom     string                `json:"trustFrom"` // see platform.trustFrom
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
	process.Zone.Mounts = append(append(process.Zone.Mounts, p.mirror()...), zone.Mount{Source: self, Name: "colophond"}, zone.Mount{Source: p.scanner, Name: scan.Program})
	z := process.Zone
	s := attestorSettings{
		URL: p.url, Version: p.config.Version, Dir: z.Path("attestor"), RegistryHost: u.Host, RegistryToken: p.push,
		Builders: p.builders(), OwnCA: p.outside == nil, Mirror: z.Path("mirror"), Setup: p.setup(), Recipes: p.file.Recipes,
		Scanner:     z.Path(scan.Program),
		CacheMounts: p.file.Build.CacheMounts.Size > 0,
	}
	if s.BuilderHost, err = p.hostname(roleBuilder); err != nil {
		return err
	}
	if s.Credentials, err = credentials.Read(p.file.Credentials); err != nil { // root's: the attestor's user cannot read the file
		return err
	}
	s.Confinement = release.Confinement{Namespaces: true, Hide: []string{p.data}}
	if s.Separate = p.users.separate; s.Separate {
		s.Docker = dockerConfig()
		s.Confinement.Hide = []string{s.Dir, z.Path("run")}
		s.Confinement.Keys = []string{filepath.Join(s.Dir, ".ssh")}
	}
	if p.readsLocalGit() {
		s.Relay, s.LocalGit = z.Path("colophond"), socket(z.Path("run"), roleRooms)
	}
	others := map[string]*peer.Endpoint{roleTrust: &s.Trust, roleBuilder: &s.Builder, roleRooms: &s.Rooms}
	for other, at := range others {
		if *at, err = p.endpoint(z.Path("run"), roleAttestor, other); err != nil {
			return err
		}
	}
	if s.Recording, err = p.records(process, roleAttestor, "attestor"); err != nil {
		return err
	}
	if s.TrustFrom, err = p.trustFrom(); err != nil {
		return err
	}
	process.Settings = s
	return nil
}

// dockerConfig returns the Docker config.json of the user that started serve, or nil
// if there is none. It holds registry credentials; the attestor's own user cannot
// read the file.
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
	err = release.Probe(cfg.Confinement, cfg.Scanner)
	if err != nil && !c.Settings.Separate {
		c.Log.Warn("the processes that read repositories and images have no namespaces of their own", "reason", err)
		cfg.Confinement.Namespaces = false
		err = release.Probe(cfg.Confinement, cfg.Scanner)
	}
	if err != nil {
		return fmt.Errorf("cannot confine the processes that read repositories and images: %w", err)
	}
	metrics := prometheus.NewRegistry()
	ledger, closeLedger, err := c.Settings.Recording.open(roleAttestor, metrics, c.Log)
	if err != nil {
		return err
	}
	defer closeLedger()
	if ledger != nil {
		cfg.Record = ledger.Record
	}
	r, err := release.New(cfg)
	if err != nil {
		return err
	}
	finish := r.Resume()
	service := attestor.New(r, c.Settings.Dir, metrics, c.Log)
	var resumed sync.WaitGroup
	resumed.Go(finish)
	disks, self := watchDisks(ctx, roleAttestor, c.Dirs, c.Log), watchSelf(ctx, c.Settings.URL, cfg.Trust, c.Log)
	ready := func(ctx context.Context) error {
		for _, c := range []*condition{disks, self} {
			if err := c.ready(ctx); err != nil {
				return err
			}
		}
		if c.Settings.Rooms == (peer.Endpoint{}) {
			return nil
		}
		// The role api does not reach rooms.
		if err := health(ctx, c.Settings.Rooms.Client(), "http://rooms"+peer.PathReady); err != nil {
			return fmt.Errorf("rooms: %w", err)
		}
		return nil
	}
	err = peer.Serve(ctx, c.Listener, c.Users, peer.Ready(peer.Allow(service.Handler(), roleAPI), ready))
	r.Close()
	service.Wait() // interrupted releases must clean up
	resumed.Wait()
	return err
}

// releaseConfig fetches signing config and trust document from the trust services
// and returns the configuration of releases.
func releaseConfig(ctx context.Context, o attestorSettings, log *slog.Logger) (cfg release.Config, err error) {
	services := o.Trust.Client()
	config, err := get(ctx, services, "http://trust"+root.SigningConfigPath)
	if err != nil {
		return cfg, fmt.Errorf("signing config: %w", err)
	}
	signing, err := sign.ParseConfig(config)
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
	own := &api.ClientConfig{URL: o.URL, Token: o.RegistryToken}
	cfg = release.Config{
		URL: o.URL, Dir: o.Dir, Version: o.Version, BinaryDigest: sync.OnceValues(executableDigest),
		Builders:      o.Builders,
		BuilderHost:   o.BuilderHost,
		Build:         byName{"buildkit": worker.Client{At: o.Rooms}, "golang": worker.Client{At: o.Builder}},
		Rooms:         rooms.Client{At: o.Rooms},
		SigningConfig: signing,
		Trust:         trusted,
		Token: func(ctx context.Context, id release.Identity) (string, error) {
			return tokens.Token(ctx, issuer.Claims(id))
		},
		Setup:       o.Setup,
		Confinement: o.Confinement,
		Scanner:     o.Scanner,
		Recipes:     o.Recipes,
		CacheMounts: o.CacheMounts,
		Credentials: o.Credentials,
		Archive: func(ctx context.Context, bundle []byte) error {
			_, err := own.Keep(ctx, bundle)
			return err
		},
		RegistryHost: o.RegistryHost, RegistryToken: o.RegistryToken, LoopbackTargets: loopback.Is(origin.Hostname()), Mirror: o.Mirror,
		Log: log,
	}
	if o.Relay != "" {
		cfg.LocalGit = func(socket string) (string, func(), error) {
			stop, err := localgit.Forward(socket, peer.At(o.LocalGit), log)
			return localgit.Command(o.Relay, socket), stop, err
		}
	}
	if o.OwnCA {
		// Whoever has the workload token gets a certificate, so the token must not pass
		// through the role api, which strangers reach. At the socket the log also knows
		// that it is the attestor, and has slots for it.
		cfg.Transport = services.Transport
	}
	return cfg, nil
}

// useDocker writes config, a Docker config.json, below /tmp and sets DOCKER_CONFIG, so
// that the registry client uses its credentials. No other role sees this /tmp.
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

// executableDigest returns the SHA-256 of the running executable, in hex.
func executableDigest() (string, error) { return builder.FileDigest("/proc/self/exe") }
