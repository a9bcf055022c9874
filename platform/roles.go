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

// Names of roles, in commands, in the configuration and in peer.Users.
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
	roleDriver   = "driver"
	roleHasher   = "hasher"
	roleACME     = "acme"
	roleSearch   = "search"
	roleLedger   = "ledger"
)

// role is one row of the table of roles.
type role struct {
	name  string
	does  string   // what the role does, for help texts
	stops string   // what it can no longer do if it cannot write to its disk
	user  int      // uid minus roles.uidBase; 0 is root
	dirs  []string // directories below the data directory, closed to other roles; the first is the role's home
	asks  []string // roles that it sends requests to; each of these decides which requests it accepts (peer.Allow)

	// confine is the policy that the kernel enforces on the role. prepare adds network
	// access if the configuration requires it.
	confine confine.Policy

	// memory is the limit of the role's data, in bytes. killed says how early the kernel
	// kills it when memory runs out: the holders of keys last, builds and the processes
	// that read strangers' bytes first (1000).
	memory int64
	killed int

	// By default a role runs on serve's host. If beside is set, the role runs on the
	// host of the role beside. If listen is set, the role can have a host of its own
	// (colophond enrol), and listen is the default of --listen there.
	listen string
	beside string
	flags  []string // flags of the role's command, besides those that every role's command has

	checks bool // the role checks tokens: its enrolment holds their hashes
	pushes bool // the role pushes images: its enrolment holds the attestor's token

	needed  func(*platform) bool                                       // reports whether this host starts the role; nil: it does if the role runs here
	prepare func(*platform, *zone.Process) error                       // sets the process's Settings and Listener; nil: serve does not start the role
	run     func(ctx context.Context, name string, in io.Reader) error // main function of the process; nil: the role has no command
}

// roles returns the table of roles. A role stands after the roles that it sends
// requests to: serve starts roles in this order and stops them in reverse order.
func roles() []role {
	return slices.Concat(keepers(), makers(), fronts(), helpers())
}

// keepers returns serve, and the roles that keep keys, logs, images and their indexes.
func keepers() []role {
	return []role{
		{
			name: roleLedger, does: "keeps the audit ledger: what the platform, gates and clusters decided", user: 12,
			stops: "decisions wait in the spools of who decided; with audit.required, releases, tags and changes of the distrust list stop",
			dirs:  []string{"audit"}, beside: roleTrust, checks: true,
			prepare: prepareLedger, run: inZone(runLedger),
			memory: 2 << 30, killed: 100,
		},
		{
			name: roleTrust, does: "holds the keys: issuer, CA, logs, timestamp authority, trust root", user: 1,
			stops: "nothing can be signed or logged; the logs and the trust root can be read",
			dirs:  []string{"trust", "log", "ct", "index", "archivelog", "archiveindex", "distrust"}, asks: []string{roleLedger}, listen: otherHosts,
			prepare: prepareTrust, run: inZone(runTrust),
			memory: 2 << 30, killed: 0,
		},
		{
			name: roleServe, does: "starts the other roles and reads no input from outside",
			asks:   []string{roleTrust, roleLedger},
			memory: 1 << 30,
		},
		{
			name: roleRegistry, does: "stores images and proofs, and archives the proofs", user: 4,
			stops: "images and proofs cannot be pushed; pulling works",
			dirs:  []string{"registry", "archive"}, asks: []string{roleLedger}, listen: otherHosts, checks: true,
			prepare: prepareRegistry, run: inZone(runRegistry),
			memory: 2 << 30, killed: 200,
		},
		{
			name: roleSearch, does: "says which entries the log and the archive have about something, and proves that there are no others", user: 11,
			stops: "new entries of the log, and newly archived proofs, cannot be found; entries can be proven",
			dirs:  []string{"search"}, asks: []string{roleTrust, roleRegistry}, beside: roleTrust, checks: true,
			needed: (*platform).needsSearch, prepare: prepareSearch, run: inZone(runSearch),
			memory: 2 << 30, killed: 500,
		},
	}
}

// makers returns the roles that make releases.
func makers() []role {
	return []role{
		{
			name: roleRooms, does: "opens the rooms in which Dockerfiles are built, and starts a driver for each build",
			stops: "Dockerfiles cannot be built",
			dirs:  []string{"rooms", "builds", "sums", "caches"}, beside: roleBuilder,
			confine: confine.Policy{Rooms: true, Capabilities: roomsCapabilities()},
			needed:  (*platform).needsRooms, prepare: prepareRooms, run: inZone(runRooms),
			memory: 1 << 30, killed: 300,
		},
		{
			name: roleBuilder, does: "builds Go programs, in rooms of its own", user: 3,
			stops: "Go programs cannot be built without a Dockerfile",
			dirs:  []string{"builder"}, listen: otherHosts, flags: []string{"mirror", "buildkitd"},
			confine: confine.Policy{Rooms: true},
			prepare: prepareBuilder, run: inZone(runBuilder),
			memory: 2 << 30, killed: 400,
		},
		{
			name: roleAttestor, does: "fetches, measures, signs and publishes releases", user: 2,
			stops: "releases fail; records of earlier ones can be read",
			dirs:  []string{"attestor"}, asks: []string{roleTrust, roleBuilder, roleRooms, roleLedger}, listen: otherHosts, flags: []string{"mirror"}, pushes: true,
			confine: confine.Policy{Rooms: true}, // for the namespaces of the processes that read repositories and images
			prepare: prepareAttestor, run: inZone(runAttestor),
			memory: 4 << 30, killed: 100,
		},
	}
}

// fronts returns the roles that answer other hosts.
func fronts() []role {
	return []role{
		{
			name: roleACME, does: "gets the certificate of the port from an authority", user: 9,
			stops: "the certificate of the port cannot be renewed",
			dirs:  []string{"acme"}, beside: roleAPI,
			confine: confine.Policy{Inet: true},
			needed:  (*platform).usesACME, prepare: prepareACME, run: inZone(runACME),
			memory: 1 << 30, killed: 300,
		},
		{
			name: roleAPI, does: "serves the platform's port", user: 5,
			asks: []string{roleTrust, roleRegistry, roleAttestor, roleBuilder, roleRooms, roleACME, roleSearch, roleLedger}, listen: "127.0.0.1:8080", flags: []string{"tls-cert", "tls-key"}, checks: true,
			prepare: prepareFront, run: inZone(runFront),
			memory: 2 << 30, killed: 300,
		},
		{
			name: roleDoor, does: "accepts connections from roles of other hosts", user: 7,
			needed: (*platform).hasVisitors, prepare: prepareDoor, run: inZone(runDoor),
			memory: 1 << 30, killed: 200,
		},
	}
}

// helpers returns the roles that rooms starts for one room or one task.
func helpers() []role {
	return []role{
		{
			name: roleGateway, does: "connects one room to the network and records it", user: 6, // rooms starts it
			dirs: []string{"gateway"}, beside: roleBuilder,
			confine: confine.Policy{Inet: true},
			run:     inZone(runGateway),
			memory:  1 << 30, killed: 100, // after rooms
		},
		{
			name: roleDriver, does: "drives the BuildKit of one room", user: 8, // rooms starts it
			beside: roleBuilder,
			run:    inZone(runDriver),
			memory: 1 << 30, killed: 600, // after rooms
		},
		{
			name: roleHasher, does: "computes the digests in go.sum of stored modules", user: 10, // rooms starts it
			beside: roleBuilder,
			run:    inZone(runHasher),
			memory: 1 << 30, killed: 700, // after rooms
		},
	}
}

// otherHosts is the default --listen of a role that serves roles of other hosts.
const otherHosts = ":7443"

// inZone returns the role.run that enters the zone and then calls run.
func inZone[S any](run func(context.Context, zone.Child[S]) error) func(context.Context, string, io.Reader) error {
	return func(ctx context.Context, name string, in io.Reader) error { return zone.Run(ctx, name, in, run) }
}

// findRole returns the row of the role name.
func findRole(name string) (role, error) {
	all := roles()
	i := slices.IndexFunc(all, func(r role) bool { return r.name == name })
	if i < 0 {
		return role{}, fmt.Errorf("there is no role %q", name)
	}
	return all[i], nil
}

// isAsked reports whether other roles send requests to the role name.
func isAsked(name string) bool {
	return slices.ContainsFunc(roles(), func(r role) bool { return slices.Contains(r.asks, name) })
}

// socket returns the path of a role's socket in the directory run.
func socket(run, role string) string { return filepath.Join(run, role+".sock") }

// Role is a role of the platform that has a command of its own.
type Role struct {
	Name   string
	Does   string   // what it does, such as "stores images and proofs"
	Listen string   // default of Config.Listen for ServeHost; empty if the role cannot have a host of its own
	Flags  []string // flags of the command, besides data, config and listen
}

// Roles returns the roles that RunRole accepts.
func Roles() (list []Role) {
	for _, r := range roles() {
		if r.run != nil {
			list = append(list, Role{Name: r.name, Does: r.does, Listen: r.listen, Flags: r.flags})
		}
	}
	return list
}

// RunRole is the main function of a role's process. The process that started it, serve
// or the role rooms, writes the role's zone and settings to in.
func RunRole(ctx context.Context, name string, in io.Reader) error {
	r, err := findRole(name)
	if err != nil {
		return err
	}
	return r.run(ctx, name, in)
}
