package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/release"
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
	options   serveOptions
	config    config
	data      string // absolute
	url       string
	host      string     // roleServe, or the role that this host was enrolled as
	enrolment *enrolment // of a host that was
	visitors  []string   // roles of other hosts that ask roles of this one
	zones     zones
	cas       []byte // of SSL_CERT_FILE
	log       *slog.Logger
}

func runServe(ctx context.Context, o serveOptions) (err error) {
	p := &platform{options: o, host: roleServe, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if p.config, err = readConfig(o.config); err != nil {
		return err
	}
	if p.url, err = origin(o.listen, o.url, o.tlsCert != ""); err != nil {
		return err
	}
	if p.zones = newZones(p.config.Roles.UIDBase); !p.zones.separate {
		p.log.Warn("all roles run as one user, so builds earn a lower SLSA level", "reason", p.zones.why)
	}
	if err := p.settle(); err != nil {
		return err
	}
	listener, release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	known, push, err := openTokens(p.data)
	if err != nil {
		return err
	}
	roles, err := p.roles(known, push, listener)
	if err != nil {
		return err
	}
	return p.run(ctx, roles, p.url, func(ctx context.Context) error { return p.allReady(ctx, listener) })
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
	if !p.runs(roleAPI) && p.host == roleServe {
		return nil, unlock, nil
	}
	if l, err = net.Listen("tcp", p.options.listen); err != nil {
		unlock()
		return nil, nil, err
	}
	return l, func() { l.Close(); unlock() }, nil
}

// run has roles run until ctx is done, and says where when ready returns nil.
func (p *platform) run(ctx context.Context, roles []role, where string, ready func(context.Context) error) error {
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
	fmt.Printf("ready %s\n", where)
	forgetStart()
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

// maxData leaves room for the longest name below it that a socket has while it is
// made (unix(7): 107 bytes).
const maxData = 107 - len("/run/.sock-1234567890/s")

// openData makes the data directory, for one platform at a time.
func (p *platform) openData() (unlock func(), err error) {
	if p.data, err = filepath.Abs(p.options.data); err != nil {
		return nil, err
	}
	if len(p.data) > maxData {
		return nil, fmt.Errorf("--data %s is %d bytes long, at most %d are taken: the kernel allows no longer names of sockets", p.data, len(p.data), maxData)
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
		if !p.runs(role) {
			continue
		}
		for _, name := range names {
			if err := own(p.dir(name), p.zones.users[role]); err != nil {
				return nil, err
			}
		}
	}
	if p.zones.separate {
		if std := p.config.Build.StdCache; std != "" && p.runs(roleBuilder) {
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

// roles of this host, each behind those that it asks. front is where others
// reach the last one.
func (p *platform) roles(known tokens, push string, front net.Listener) (list []role, err error) {
	outside, err := readOutside(p.config)
	if err != nil {
		return nil, err
	}
	if p.runs(roleTrust) {
		z := p.zone(roleTrust, confine.Policy{Inet: p.config.Fulcio != nil})
		list = append(list, role{name: roleTrust, zone: z, settings: trustSettings{
			URL: p.url, KeyDir: z.path("trust"), LogDir: z.path("log"), CTDir: z.path("ct"),
			Fulcio: p.config.Fulcio, Outside: outside, Builders: p.builders(),
		}})
	}
	if p.runs(roleRegistry) {
		z := p.zone(roleRegistry, confine.Policy{})
		list = append(list, role{name: roleRegistry, zone: z, settings: registrySettings{
			Dir: z.path("registry"), Tokens: known,
			PrivatePull: p.config.Registry.PrivatePull, Mutable: p.config.Registry.Mutable,
		}})
	}
	opens := !p.runs(roleBuilder) // another host's builder has rooms, or says that it has none
	localGit := p.host == roleServe && p.zones.separate && p.runs(roleAttestor)
	if p.runs(roleBuilder) {
		var build []role
		build, opens = p.buildRoles(localGit)
		list = append(list, build...)
	} else if localGit {
		list = append(list, p.roomsRole("", true))
	}
	if p.runs(roleAttestor) {
		r, err := p.attestorRole(push, outside == nil, opens, localGit)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if err := p.listen(list); err != nil {
		return nil, err
	}
	local := list
	if p.runs(roleAPI) {
		r, err := p.apiRole(known, front)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if len(p.visitors) > 0 {
		r, err := p.doorRole(local, front)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	for i := range list {
		list[i].users, list[i].log = p.zones.users, p.log
	}
	return list, nil
}

// attestorRole signs with the platform's own CA where ownCA is true.
func (p *platform) attestorRole(push string, ownCA, rooms, localGit bool) (r role, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return r, err
	}
	z := p.zone(roleAttestor, confine.Policy{Exec: true, Inet: true}, append(p.mirror(), zoneMount{Source: self, Name: "colophond"})...)
	s := attestorSettings{
		URL: p.url, Dir: z.path("attestor"), RegistryHost: u.Host, RegistryToken: push,
		Builders: p.builders(), OwnCA: ownCA, Mirror: z.path("mirror"), Setup: p.setup(),
	}
	if p.zones.separate {
		s.Docker = dockerConfig()
	}
	if localGit {
		s.Relay, s.LocalGit = z.path("colophond"), z.socket(roleRooms)
	}
	if s.Trust, err = p.endpoint(z.socket(roleTrust), roleAttestor, roleTrust); err != nil {
		return r, err
	}
	if s.Builder, err = p.endpoint(z.socket(roleBuilder), roleAttestor, roleBuilder); err != nil {
		return r, err
	}
	if rooms {
		if s.Rooms, err = p.endpoint(z.socket(roleRooms), roleAttestor, roleRooms); err != nil {
			return r, err
		}
	}
	return role{name: roleAttestor, zone: z, settings: s}, nil
}

func (p *platform) apiRole(known tokens, front net.Listener) (r role, err error) {
	elsewhere := slices.ContainsFunc(asks[roleAPI], func(role string) bool { return !p.runs(role) })
	z := p.zone(roleAPI, confine.Policy{Inet: elsewhere})
	s := apiSettings{URL: p.url, Tokens: known, Builders: p.builders(), Roles: map[string]peer.Endpoint{}}
	for _, other := range asks[roleAPI] {
		if s.Roles[other], err = p.endpoint(z.socket(other), roleAPI, other); err != nil {
			return r, err
		}
	}
	if p.options.tlsCert != "" {
		for file, data := range map[string]*[]byte{p.options.tlsCert: &s.TLSCert, p.options.tlsKey: &s.TLSKey} {
			if *data, err = os.ReadFile(file); err != nil {
				return r, err
			}
		}
		if _, err := tls.X509KeyPair(s.TLSCert, s.TLSKey); err != nil {
			return r, err
		}
	}
	return p.facing(role{name: roleAPI, zone: z, settings: s}, front)
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
		l, err := peer.Listen(p.socketPath(list[i].name), p.zones.group)
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

// network is what the rooms of this platform may reach.
func (p *platform) network() gateway.Settings {
	platform := []string{p.url}
	for _, address := range slices.Sorted(maps.Values(p.config.hosts())) {
		if address != "" {
			platform = append(platform, "https://"+address)
		}
	}
	if host, _, err := net.SplitHostPort(p.options.listen); err == nil && host != "" {
		platform = append(platform, "http://"+p.options.listen)
	}
	return gateway.Settings{Mirror: p.options.mirror, Platform: platform, Network: p.config.Build.Network}
}

// setup is what the platform knows of itself, for the provenance.
func (p *platform) setup() map[string]string {
	if p.zones.separate {
		return attest.Isolation{Zones: attest.SeparateUsers}.Parameters()
	}
	return attest.Isolation{Zones: attest.OneUser}.Parameters()
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
		{Name: "buildkit", Builder: trust.Builder{ID: p.url + "/builders/buildkit/" + segment + "v1", Level: levels["buildkit"]}, BuildType: attest.BuildTypeBuildKit},
		{Name: "golang", Builder: trust.Builder{ID: p.url + "/builders/golang/" + segment + "v1", Level: levels["golang"]}, BuildType: attest.BuildTypeGolang},
	}
}

func (p *platform) removeSockets() {
	for _, role := range []string{roleTrust, roleRegistry, roleRooms, roleBuilder, roleAttestor} {
		os.Remove(p.socketPath(role))
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

func (p *platform) allReady(ctx context.Context, front net.Listener) error {
	if err := p.rolesReady(ctx); err != nil {
		return err
	}
	trustServices, err := p.endpoint(p.socketPath(roleTrust), roleServe, roleTrust)
	if err != nil {
		return err
	}
	document, err := get(ctx, trustServices.Client(), "http://trust"+root.DocumentPath)
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
	return p.frontReady(ctx, front)
}

// frontReady returns when the API answers, where it is this host's.
func (p *platform) frontReady(ctx context.Context, front net.Listener) error {
	if !p.runs(roleAPI) {
		return nil
	}
	scheme := "http"
	if p.options.tlsCert != "" {
		scheme = "https"
	}
	// Only whether it answers: who it is was settled when the listener was handed over.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return health(ctx, client, scheme+"://"+front.Addr().String()+peer.PathHealth)
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
