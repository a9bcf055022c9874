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
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/zone"
)

// roomsCapabilities are all that the role keeps of root: to open rooms, and to end
// gateways and take from them what they do not need.
var roomsCapabilities = append([]int{unix.CAP_KILL, unix.CAP_SETPCAP}, sandbox.Capabilities...)

// roomsSettings is what serve tells the role that needs root.
type roomsSettings struct {
	LocalGit bool                 `json:"localGit"` // the attestor may read local repositories
	Rooms    buildkit.RoomsConfig `json:"rooms"`    // Buildkitd is empty if no rooms are wanted here
	Gateway  zone.Zone            `json:"gateway"`  // of the gateways that it starts
}

// opensRooms answers whether builds may have rooms. The builder of another host has
// them, or says why not.
func (p *platform) opensRooms() bool { return !p.runs(roleBuilder) || sandbox.Supported() == nil }

// readsLocalGit answers whether the attestor is within reach of this host's
// repositories, and needs the role rooms to read them as their owners.
func (p *platform) readsLocalGit() bool {
	return p.host == roleServe && p.users.separate && p.runs(roleAttestor)
}

func (p *platform) needsRooms() bool {
	return p.runs(roleBuilder) && p.opensRooms() || p.readsLocalGit()
}

func prepareRooms(p *platform, process *zone.Process) (err error) {
	build := p.file.Build
	s := roomsSettings{LocalGit: p.readsLocalGit(), Rooms: buildkit.RoomsConfig{
		Runtime: build.Runtime, StateDir: p.dir("rooms"), UIDBase: build.UIDBase, Limits: build.Limits,
		Network: p.network(), Setup: p.setup(),
	}}
	if p.runs(roleBuilder) {
		s.Rooms.Buildkitd = p.buildkitd
	}
	if s.Gateway, err = p.gatewayZone(); err != nil {
		return err
	}
	process.Settings = s
	return nil
}

// network is what the gateways of all rooms let through.
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
	return gateway.Settings{Mirror: p.config.Mirror, Platform: platform, Network: p.file.Build.Network}
}

// runRooms opens rooms for the builder, and local repositories for the attestor.
func runRooms(ctx context.Context, c zone.Child[roomsSettings]) error {
	s := c.Settings
	mux := http.NewServeMux()
	if s.LocalGit {
		mux.Handle(localgit.Path, peer.Allow(localgit.Handler(c.Log), roleAttestor))
	}
	s.Rooms.Gateway = gatewayProcess(s.Gateway, c.Users)
	r, err := buildkit.NewRooms(s.Rooms)
	if err != nil {
		c.Log.Warn("no rooms", "reason", err)
		mux.Handle("/", rooms.Unavailable(err))
	} else {
		mux.Handle("/", rooms.Handler(r, c.Log))
	}
	return peer.Serve(ctx, c.Listener, c.Users, mux)
}
