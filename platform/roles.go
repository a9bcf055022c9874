package platform

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/zone"
)

// Names of roles: on the command line, in the configuration, in peer.Users.
const (
	roleServe    = "serve"
	roleTrust    = "trust"
	roleRegistry = "registry"
	roleRooms    = "rooms"
	roleBuilder  = "builder"
	roleAttestor = "attestor"
	roleAPI      = "api"
	roleDoor     = peer.RoleDoor
	roleGateway  = "gateway"
)

// role is one row of the table of roles.
type role struct {
	name string
	does string   // for help texts
	user int      // added to roles.uidBase; 0 is root
	dirs []string // below the data directory, and closed to all others; the first is the role's home
	asks []string // the roles that it sends requests to. Each of them decides which of its requests this one may make (peer.Allow)

	// confine is what the kernel lets the role do; prepare may add the network
	// where the configuration needs it.
	confine confine.Policy

	// A role runs on serve's host. If listen is set it may run on a host of its own
	// (colophond enrol), where that is the default of --listen. If beside is set it
	// runs on the host of that role.
	listen string
	beside string
	flags  []string // of the command on a host of its own, apart from those that all have

	checks bool // checks tokens: an enrolment gives it their hashes
	pushes bool // pushes images: an enrolment gives it the attestor's token

	needed  func(*platform) bool                                       // whether this host starts it; nil: if it runs here
	prepare func(*platform, *zone.Process) error                       // completes the process; nil: serve does not start it
	run     func(ctx context.Context, name string, in io.Reader) error // is the process; nil: the role has no command of its own
}

// roles is the table of roles. Each stands behind those that it asks: serve starts
// them in this order, and ends them in the opposite one.
func roles() []role {
	return []role{
		{
			name: roleTrust, does: "holds the keys: issuer, CA, logs, timestamp authority, trust root", user: 1,
			dirs: []string{"trust", "log", "ct"}, listen: otherHosts,
			prepare: prepareTrust, run: inZone(runTrust),
		},
		{
			name: roleServe, does: "starts the others and reads nothing that comes from outside",
			asks: []string{roleTrust},
		},
		{
			name: roleRegistry, does: "keeps images and proofs", user: 4,
			dirs: []string{"registry"}, listen: otherHosts, checks: true,
			prepare: prepareRegistry, run: inZone(runRegistry),
		},
		{
			name: roleRooms, does: "opens the rooms that builds run in",
			dirs: []string{"rooms"}, beside: roleBuilder,
			confine: confine.Policy{Rooms: true, Capabilities: roomsCapabilities},
			needed:  (*platform).needsRooms, prepare: prepareRooms, run: inZone(runRooms),
		},
		{
			name: roleBuilder, does: "runs builds, in rooms", user: 3,
			dirs: []string{"builder"}, listen: otherHosts, flags: []string{"mirror", "buildkitd"},
			confine: confine.Policy{Rooms: true},
			prepare: prepareBuilder, run: inZone(runBuilder),
		},
		{
			name: roleAttestor, does: "fetches, measures, signs, publishes", user: 2,
			dirs: []string{"attestor"}, asks: []string{roleTrust, roleBuilder, roleRooms}, listen: otherHosts, flags: []string{"mirror"}, pushes: true,
			confine: confine.Policy{Exec: true, Inet: true},
			prepare: prepareAttestor, run: inZone(runAttestor),
		},
		{
			name: roleAPI, does: "answers on the platform's port", user: 5,
			asks: []string{roleTrust, roleRegistry, roleAttestor, roleBuilder}, listen: "127.0.0.1:8080", flags: []string{"tls-cert", "tls-key"}, checks: true,
			prepare: prepareFront, run: inZone(runFront),
		},
		{
			name: roleDoor, does: "lets roles of other hosts in", user: 7,
			needed: (*platform).hasVisitors, prepare: prepareDoor, run: inZone(runDoor),
		},
		{
			name: roleGateway, does: "is the way out of one room", user: 6, // rooms starts it
			dirs: []string{"gateway"}, beside: roleBuilder,
			confine: confine.Policy{Inet: true},
			run:     inZone(runGateway),
		},
	}
}

// otherHosts is where a role that roles of other hosts ask listens by default.
const otherHosts = ":7443"

// inZone makes run the process of a role.
func inZone[S any](run func(context.Context, zone.Child[S]) error) func(context.Context, string, io.Reader) error {
	return func(ctx context.Context, name string, in io.Reader) error { return zone.Run(ctx, name, in, run) }
}

// findRole returns the row of that name.
func findRole(name string) (role, error) {
	all := roles()
	i := slices.IndexFunc(all, func(r role) bool { return r.name == name })
	if i < 0 {
		return role{}, fmt.Errorf("there is no role %q", name)
	}
	return all[i], nil
}

// isAsked answers whether other roles send requests to this one.
func isAsked(name string) bool {
	return slices.ContainsFunc(roles(), func(r role) bool { return slices.Contains(r.asks, name) })
}

// socket is the path of a role's socket in the directory run.
func socket(run, role string) string { return filepath.Join(run, role+".sock") }

// Role is a role of the platform that is a command of its own.
type Role struct {
	Name   string
	Does   string   // "keeps images and proofs"
	Listen string   // default of Config.Listen on a host of its own (ServeHost); empty: serve alone starts it
	Flags  []string // of that command, apart from data, config and listen
}

// Roles lists the roles that RunRole takes.
func Roles() (list []Role) {
	for _, r := range roles() {
		if r.run != nil {
			list = append(list, Role{Name: r.name, Does: r.does, Listen: r.listen, Flags: r.flags})
		}
	}
	return list
}

// RunRole is the process of a role that serve or the role rooms started, which
// tells it on in what to do.
func RunRole(ctx context.Context, name string, in io.Reader) error {
	r, err := findRole(name)
	if err != nil {
		return err
	}
	return r.run(ctx, name, in)
}
