package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/build/gateway"
	"github.com/colophon-build/colophon/build/sandbox"
	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/registry"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/internal/trustroot"
	"github.com/colophon-build/colophon/release"
	"github.com/colophon-build/colophon/trust"
)

type serveOptions struct {
	data, listen, url, mirror, config string
	tlsCert, tlsKey                   string
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --data DIR",
		Short: "run the whole platform",
		Long: `Serve runs the platform: OIDC issuer, certificate authority, CT log, transparency
log, timestamp authority, trust root, registry and API on one port. Each role is
a process; they meet at Unix sockets. Started as root, each role has a user,
directories, capabilities and a seccomp filter of its own; started as anybody
else all roles are one user, builds earn a lower SLSA level, and serve says so.

Keys are made at the first start and never replaced. When everything answers,
one line with the URL goes to standard output, and DIR/client.json is what
"colophon login" takes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "directory that holds everything (required)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address to listen on")
	f.StringVar(&o.url, "url", "", "the platform's public origin (default: from --listen); certificates name it, so it should not change")
	f.StringVar(&o.mirror, "mirror", "", "OCI layout that answers builds' pulls of the images it names")
	f.StringVar(&o.config, "config", "", "configuration file, JSON (docs/configuration.md)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM certificate chain; needed on any address but loopback")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM key of --tls-cert")
	cmd.MarkFlagRequired("data")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	return cmd
}

// platform is what serve knows: where everything is, and who runs it. It opens
// no file of a role and answers no request.
type platform struct {
	options serveOptions
	config  config
	data    string // absolute
	url     string
	zones   zones
	cas     []byte // of SSL_CERT_FILE
	log     *slog.Logger
}

func runServe(ctx context.Context, o serveOptions) error {
	p := &platform{options: o, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	var err error
	if p.config, err = readConfig(o.config); err != nil {
		return err
	}
	if p.url, err = origin(o.listen, o.url, o.tlsCert != ""); err != nil {
		return err
	}
	if p.zones = newZones(p.config.Roles.UIDBase); !p.zones.separate {
		p.log.Warn("all roles run as one user, so builds earn a lower SLSA level", "reason", p.zones.why)
	}
	listener, release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	roles, err := p.roles(listener)
	if err != nil {
		return err
	}
	return p.run(ctx, roles, func(ctx context.Context) error { return p.allReady(ctx, listener.Addr()) })
}

// open takes what a host has one of: the data directory and the port.
func (p *platform) open() (l net.Listener, release func(), err error) {
	if err := p.checkMirror(); err != nil { // the rooms would only go without
		return nil, nil, fmt.Errorf("--mirror: %w", err)
	}
	unlock, err := p.openData()
	if err != nil {
		return nil, nil, err
	}
	if l, err = net.Listen("tcp", p.options.listen); err != nil {
		unlock()
		return nil, nil, err
	}
	return l, func() { l.Close(); unlock() }, nil
}

// run has roles run until ctx is done, and says so when ready returns nil.
func (p *platform) run(ctx context.Context, roles []role, ready func(context.Context) error) error {
	defer p.removeSockets()
	// Roles end before those that they ask, which stand before them.
	ended := make(chan string, len(roles))
	for i := range roles {
		alive, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			roles[i].supervise(alive, func() {
				select {
				case ended <- roles[i].name:
				default: // nobody waits any more
				}
			})
		}()
		defer func() { stop(); <-done }()
	}
	if err := await(ctx, ready, ended); err != nil {
		return err
	}
	fmt.Printf("ready %s\n", p.url)
	time.AfterFunc(idle, debug.FreeOSMemory)
	<-ctx.Done()
	p.log.Info("stopping")
	return nil
}

// dirs of each role below the data directory. The first is its home.
var dirs = map[string][]string{
	roleTrust:    {"trust", "log", "ct"},
	roleAttestor: {"attestor"},
	roleBuilder:  {"builder"},
	roleRegistry: {"registry"},
	roleRooms:    {"rooms"},
	roleGateway:  {"gateway"},
}

// openData makes the data directory, for one platform at a time.
func (p *platform) openData() (unlock func(), err error) {
	if p.data, err = filepath.Abs(p.options.data); err != nil {
		return nil, err
	}
	for _, d := range []string{p.data, p.dir("run")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(p.dir("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another colophond", p.data)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if file := os.Getenv("SSL_CERT_FILE"); file != "" && p.zones.separate {
		if p.cas, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("SSL_CERT_FILE: %w", err)
		}
	}
	for role, names := range dirs {
		for _, name := range names {
			if err := own(p.dir(name), p.zones.users[role]); err != nil {
				return nil, err
			}
		}
	}
	if p.zones.separate {
		if std := p.config.Build.StdCache; std != "" {
			if err := own(std, p.zones.users[roleBuilder]); err != nil {
				return nil, err
			}
		}
		// Roles may walk to the sockets, and to nothing else here.
		if err := errors.Join(os.Chown(p.dir("run"), 0, p.zones.group), os.Chmod(p.dir("run"), 0o710), os.MkdirAll(zoneRoot, 0o755)); err != nil {
			return nil, err
		}
	}
	return func() { f.Close() }, nil
}

func (p *platform) dir(name string) string { return filepath.Join(p.data, name) }

// checkMirror: those who read the mirror must be able to.
func (p *platform) checkMirror() (err error) {
	if p.options.mirror == "" {
		return nil
	}
	if p.options.mirror, err = filepath.Abs(p.options.mirror); err != nil {
		return err
	}
	if _, err := gateway.OpenMirror(p.options.mirror); err != nil {
		return err
	}
	return filepath.WalkDir(p.options.mirror, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && p.zones.separate && info.Mode()&0o004 == 0 {
			err = fmt.Errorf("%s: the gateway's user may not read it (chmod -R a+rX %s)", path, p.options.mirror)
		}
		return err
	})
}

// zone of a role: its own directories, the sockets, and what else it reads.
func (p *platform) zone(role string, c confine.Policy, reads ...zoneMount) zone {
	z := zone{Separate: p.zones.separate, UID: p.zones.users[role], Group: p.zones.group, Confine: c, CAs: p.cas}
	for _, name := range dirs[role] {
		z.Mounts = append(z.Mounts, zoneMount{Source: p.dir(name), Name: name, Write: true})
	}
	z.Mounts = append(append(z.Mounts, zoneMount{Source: p.dir("run"), Name: "run"}), reads...)
	return z
}

// roles that this platform runs, each behind those that it asks.
func (p *platform) roles(front net.Listener) ([]role, error) {
	u, err := url.Parse(p.url)
	if err != nil {
		return nil, err
	}
	outside, err := readOutside(p.config)
	if err != nil {
		return nil, err
	}
	tokens, err := openTokens(p.data)
	if err != nil {
		return nil, err
	}
	push := newToken()
	tokens.allow(push, registry.Push)
	var tlsPair [2][]byte
	if p.options.tlsCert != "" {
		for i, file := range []string{p.options.tlsCert, p.options.tlsKey} {
			if tlsPair[i], err = os.ReadFile(file); err != nil {
				return nil, err
			}
		}
		if _, err := tls.X509KeyPair(tlsPair[0], tlsPair[1]); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	trustZone := p.zone(roleTrust, confine.Policy{Inet: p.config.Fulcio != nil})
	registryZone := p.zone(roleRegistry, confine.Policy{})
	attestorZone := p.zone(roleAttestor, confine.Policy{Exec: true, Inet: true}, append(p.mirror(), zoneMount{Source: self, Name: "colophond"})...)
	apiZone := p.zone(roleAPI, confine.Policy{})
	attestor := attestorSettings{
		URL: p.url, Dir: attestorZone.path("attestor"), RegistryHost: u.Host, RegistryToken: push,
		Trust: peer.At(attestorZone.socket(roleTrust)), Builders: p.builders(), OwnCA: outside == nil,
		Mirror: attestorZone.path("mirror"), Setup: p.setup(),
	}
	if p.zones.separate {
		attestor.Docker = dockerConfig()
		attestor.Relay, attestor.LocalGit = attestorZone.path("colophond"), attestorZone.socket(roleRooms)
	}
	build, rooms := p.buildRoles(true)
	switch door := p.config.Roles.Builder; {
	case door != "":
		credentials, err := enrol(p.dir("enrolment"), []string{roleAttestor}, nil)
		if err != nil {
			return nil, err
		}
		attestor.Builder = peer.Endpoint{Address: door, Role: roleBuilder, Credentials: credentials}
		attestor.Rooms = peer.Endpoint{Address: door, Role: roleRooms, Credentials: credentials}
		if build = nil; p.zones.separate {
			build = []role{p.roomsRole("", true)}
		}
	default:
		attestor.Builder = peer.At(attestorZone.socket(roleBuilder))
		if rooms {
			attestor.Rooms = peer.At(attestorZone.socket(roleRooms))
		}
	}
	list := append([]role{
		{name: roleTrust, zone: trustZone, settings: trustSettings{
			URL: p.url, KeyDir: trustZone.path("trust"), LogDir: trustZone.path("log"), CTDir: trustZone.path("ct"),
			Fulcio: p.config.Fulcio, Outside: outside, Builders: p.builders(),
		}},
		{name: roleRegistry, zone: registryZone, settings: registrySettings{
			Dir: registryZone.path("registry"), Tokens: tokens.known,
			PrivatePull: p.config.Registry.PrivatePull, Mutable: p.config.Registry.Mutable,
		}},
	}, build...)
	list = append(list, role{name: roleAttestor, zone: attestorZone, settings: attestor})
	if err := p.listen(list); err != nil {
		return nil, err
	}
	api := apiSettings{URL: p.url, Tokens: tokens.known, Builders: p.builders(), TLSCert: tlsPair[0], TLSKey: tlsPair[1], Sockets: map[string]string{}}
	for _, r := range list {
		api.Sockets[r.name] = apiZone.socket(r.name)
	}
	return p.withFront(list, role{name: roleAPI, zone: apiZone, settings: api}, front)
}

// buildRoles are what a build needs on its host, and whether that opens rooms.
func (p *platform) buildRoles(localGit bool) (list []role, rooms bool) {
	z := p.zone(roleBuilder, confine.Policy{Rooms: true})
	if std := p.config.Build.StdCache; std != "" {
		z.Mounts = append(z.Mounts, zoneMount{Source: std, Name: "std", Write: true})
	}
	settings := builderSettings{Dir: z.path("builder"), Std: z.path("std"), Build: p.config.Build}
	if err := sandbox.Supported(); err != nil {
		settings.NoRooms = err.Error()
	} else {
		rooms, settings.RoomsSocket = true, z.socket(roleRooms)
		list = append(list, p.roomsRole(findBuildkitd(), localGit))
	}
	return append(list, role{name: roleBuilder, zone: z, settings: settings}), rooms
}

// roomsRole needs root. Without a path of buildkitd it opens no rooms.
func (p *platform) roomsRole(buildkitd string, localGit bool) role {
	return role{name: roleRooms, zone: p.zone(roleRooms, confine.Policy{Rooms: true, Capabilities: roomsCapabilities}), settings: roomsSettings{
		Buildkitd: buildkitd, LocalGit: localGit, Dir: p.dir("rooms"), Build: p.config.Build, Setup: p.setup(),
		Network: p.network(), Gateway: p.zone(roleGateway, confine.Policy{Inet: true}, p.mirror()...),
	}}
}

func (p *platform) mirror() []zoneMount {
	if p.options.mirror == "" {
		return nil
	}
	return []zoneMount{{Source: p.options.mirror, Name: "mirror"}}
}

// listen opens the sockets of roles.
func (p *platform) listen(list []role) error {
	for i := range list {
		l, err := peer.Listen(filepath.Join(p.dir("run"), list[i].name+".sock"), p.zones.group)
		if err != nil {
			return err
		}
		if list[i].listener, err = l.File(); err != nil {
			return err
		}
		l.Close() // the copy stays
	}
	return nil
}

// withFront adds the role that others reach over the network.
func (p *platform) withFront(list []role, last role, front net.Listener) (_ []role, err error) {
	if last.listener, err = front.(*net.TCPListener).File(); err != nil {
		return nil, err
	}
	list = append(list, last)
	for i := range list {
		list[i].users, list[i].log = p.zones.users, p.log
	}
	return list, nil
}

// network is what the rooms of this platform may reach.
func (p *platform) network() gateway.Settings {
	n, platform := p.config.Build.Network, []string{p.url}
	if host, _, err := net.SplitHostPort(p.options.listen); err == nil && host != "" {
		platform = append(platform, "http://"+p.options.listen)
	}
	return gateway.Settings{
		Mirror: p.options.mirror, Platform: platform,
		Ports: n.Ports, Allow: n.Allow, Deny: n.Deny, AllowHosts: n.AllowHosts, DenyHosts: n.DenyHosts, StoreSize: n.StoreSize,
	}
}

// setup is what the platform knows of itself, for the provenance.
func (p *platform) setup() map[string]string {
	if p.zones.separate {
		return map[string]string{"zones": "separate users"}
	}
	return map[string]string{"zones": "one user"}
}

// builders are this platform's, and the SLSA Build level that each can earn.
// Where roles share a user, a build that gets out of its room has the signing
// keys, so the name of the builder says it. golang compiles with less around it.
func (p *platform) builders() []release.BuilderInfo {
	segment, levels := "", map[string]int{"buildkit": 3, "golang": 2}
	if !p.zones.separate {
		segment, levels = "one-user/", map[string]int{"buildkit": 2, "golang": 1}
	}
	return []release.BuilderInfo{
		{Name: "buildkit", ID: p.url + "/builders/buildkit/" + segment + "v1", BuildType: attest.BuildTypeBuildKit, Level: levels["buildkit"]},
		{Name: "golang", ID: p.url + "/builders/golang/" + segment + "v1", BuildType: attest.BuildTypeGolang, Level: levels["golang"]},
	}
}

func (p *platform) removeSockets() {
	for _, role := range []string{roleTrust, roleRegistry, roleRooms, roleBuilder, roleAttestor} {
		os.Remove(filepath.Join(p.dir("run"), role+".sock"))
	}
}

// await returns when ready does. A role that ends before has something to say
// that a restart does not change.
func await(ctx context.Context, ready func(context.Context) error, ended <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ready(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("platform did not come up: %w", err)
		}
		return nil
	case name := <-ended:
		return fmt.Errorf("role %s ended at start; its message is above", name)
	}
}

// rolesReady returns when what is behind every socket answers.
func (p *platform) rolesReady(ctx context.Context) error {
	sockets, err := filepath.Glob(filepath.Join(p.dir("run"), "*.sock"))
	for _, socket := range sockets {
		if err := health(ctx, peer.At(socket).Client(), "http://role"+peer.PathHealth); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(socket), err)
		}
	}
	return err
}

func (p *platform) allReady(ctx context.Context, front net.Addr) error {
	if err := p.rolesReady(ctx); err != nil {
		return err
	}
	document, err := get(ctx, peer.At(filepath.Join(p.dir("run"), roleTrust+".sock")).Client(), "http://trust"+trustroot.DocumentPath)
	if err != nil {
		return err
	}
	believed, err := trust.Parse(document)
	if err != nil {
		return fmt.Errorf("own trust document: %w", err)
	}
	if err := writeClients(p.data, p.url, believed.Fingerprint); err != nil {
		return err
	}
	scheme := "http"
	if p.options.tlsCert != "" {
		scheme = "https"
	}
	// Only whether it answers: who it is was settled when the listener was handed over.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	return health(ctx, client, scheme+"://"+front.String()+peer.PathHealth)
}

func health(ctx context.Context, c *http.Client, url string) error {
	defer c.CloseIdleConnections()
	_, err := get(ctx, c, url)
	return err
}

// get reads a small document.
func get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, limits.TrustRoot)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

// dockerConfig is the registry credentials of the user that started serve, if
// it has any. The attestor's own user could not read them.
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
