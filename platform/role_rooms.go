package platform

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/zone"
)

// roomsCapabilities returns the capabilities of root that the role keeps: to open rooms, to
// kill gateways (CAP_KILL), and to drop capabilities that gateways do not need.
func roomsCapabilities() []int { return append([]int{unix.CAP_SETPCAP}, sandbox.Capabilities()...) }

// roomsSettings are the settings that serve passes to the role rooms, which runs as root.
type roomsSettings struct {
	LocalGit bool                 `json:"localGit"` // the attestor may read local repositories
	Rooms    buildkit.RoomsConfig `json:"rooms"`    // Buildkitd is empty if the builder is on another host
	Gateway  zone.Zone            `json:"gateway"`  // zone of the gateways that the role starts
	Driver   zone.Zone            `json:"driver"`   // zone of the drivers that the role starts
	Hasher   zone.Zone            `json:"hasher"`   // zone of the processes that hash modules
	Store    string               `json:"store"`    // directory of the gateways' downloads
	Sums     string               `json:"sums"`     // directory of what the hashers found out
	Builds   string               `json:"builds"`   // directory of the drivers' trees and layouts
	// Concurrent is the maximum number of running builds; 0 is the worker's default.
	Concurrent int `json:"concurrent"`
	// Lack is why this host cannot open rooms, if serve knows it: the role itself may not try.
	Lack *builder.Lack `json:"lack,omitempty"`
}

// readsLocalGit reports whether the attestor, which runs on this host, needs the role
// rooms to read repositories of this host as their owners.
func (p *platform) readsLocalGit() bool {
	return p.host == roleServe && p.users.separate && p.runs(roleAttestor)
}

func (p *platform) needsRooms() bool {
	return p.runs(roleRooms) || p.readsLocalGit()
}

func prepareRooms(p *platform, process *zone.Process) (err error) {
	build := p.file.Build
	s := roomsSettings{LocalGit: p.readsLocalGit(), Rooms: buildkit.RoomsConfig{
		Runtime: build.Runtime, StateDir: p.dir("rooms"), UIDBase: build.UIDBase, Limits: build.Limits,
		Network: p.network(), Setup: p.setup(),
	}, Builds: p.dir("builds"), Concurrent: build.Concurrent}
	if s.Rooms.Caches, err = build.CacheMounts.settings(); err != nil {
		return err
	}
	s.Rooms.Caches.Dir = p.dir("caches")
	if p.runs(roleBuilder) {
		s.Rooms.Buildkitd = p.buildkitd
	}
	s.Lack = p.users.roomsLack()
	if s.Gateway, err = p.gatewayZone(); err != nil {
		return err
	}
	if s.Driver, err = p.driverZone(); err != nil {
		return err
	}
	if s.Hasher, err = p.hasherZone(); err != nil {
		return err
	}
	s.Store, s.Sums = p.dir("gateway"), p.dir("sums")
	process.Settings = s
	return nil
}

// network returns the settings that decide what the gateways of all rooms let through.
func (p *platform) network() gateway.Settings {
	platform := []string{p.url}
	for _, address := range slices.Sorted(maps.Values(p.file.Roles.Hosts)) {
		if address != "" {
			platform = append(platform, "https://"+address)
		}
	}
	if host, _, err := net.SplitHostPort(p.config.Listen); err == nil && host != "" {
		platform = append(platform, "http://"+p.config.Listen)
	}
	return gateway.Settings{Mirror: p.config.Mirror, Registry: p.url, Platform: platform, Network: p.file.Build.Network}
}

// runRooms builds Dockerfiles and reads local repositories for the attestor. It gives each
// build a driver with the attestor's recipe and tree, and a room that only this driver
// reaches; no other role has a part in the build.
func runRooms(ctx context.Context, c zone.Child[roomsSettings]) error {
	s := c.Settings
	mux := http.NewServeMux()
	if s.LocalGit {
		mux.Handle(localgit.Path, peer.Allow(localgit.Handler(c.Log), roleAttestor))
	}
	s.Rooms.Gateway = gatewayProcess(s.Gateway, c.Users, c.Logs, newHasher(s, c))
	var r *buildkit.Rooms
	if s.Lack == nil {
		var err error
		if r, err = buildkit.NewRooms(s.Rooms); err != nil {
			lack := builder.LackOf(err)
			s.Lack = &lack
		}
	}
	config := worker.Config{Dir: s.Builds, Concurrent: s.Concurrent, Log: c.Log}
	if s.Lack != nil {
		c.Log.Warn("no buildkit builder", "reason", s.Lack.Reason)
		config.Missing = map[string]builder.Lack{"buildkit": *s.Lack}
		mux.Handle("/", rooms.Unavailable(*s.Lack))
	} else {
		config.Apart = map[string]worker.Apart{"buildkit": driverProcess(s.Driver, c.Users, c.Logs, s.Rooms.Limits.WallTime)}
		mux.Handle("/", rooms.Handler(r, c.Log))
	}
	builds, err := worker.New(config)
	if err != nil {
		return err
	}
	defer builds.Close()
	builds.Register(mux)
	var dirs []string
	if s.Rooms.Buildkitd != "" {
		dirs = []string{s.Rooms.StateDir, s.Builds, s.Rooms.Caches.Dir} // as root it sees the host's disk: c.Dirs are not mounted
	}
	return peer.Serve(ctx, c.Listener, c.Users, peer.Ready(mux, watchDisks(ctx, roleRooms, dirs, c.Log).ready))
}
