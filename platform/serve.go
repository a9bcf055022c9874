// Package platform runs the roles of a platform. It decides which roles a host runs, as
// which users and in which order, gives each role its settings, and connects roles on
// several hosts. cmd/colophond is its command line. Each role has a file, role_*.go,
// and a row of the table in roles.go. The package promises nothing to other importers.
package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/release/credentials"
	"github.com/colophon-build/colophon/platform/zone"
)

// Config holds the settings of the command line.
type Config struct {
	Data   string // data directory of this platform, which keeps all its state there; one process at a time uses it; required
	Listen string // HOST:PORT to listen on. Plain HTTP is allowed on loopback only: other addresses require TLSCert or ACME
	URL    string // the platform's public origin; default: the URL of Listen. It should not change, because certificates name it

	TLSCert, TLSKey string // paths of PEM files; set both or neither

	Mirror    string // OCI layout; a build that pulls an image named there gets it from there; default: none
	Buildkitd string // path of a program; default: buildkitd beside this program, then the first in PATH. If there is none, the platform has no buildkit builder
	File      string // path of the configuration file, JSON (docs/configuration.md); default: none

	LogFormat string // of the log on standard error: "text", "json"
	LogLevel  string // least level of its lines: "debug", "info", "warn", "error"

	Version string    // version of this program, for provenance and pages
	Ready   io.Writer // Serve writes one line to it when all roles answer: "ready URL"
}

// platform is the state of the process that starts the roles of a host. The process
// opens no file of a role and serves no request.
type platform struct {
	config    Config // Mirror is absolute after open
	file      configFile
	host      string     // roleServe, or the role that this host was enrolled as
	enrolment *enrolment // nil if host is roleServe
	url       string
	users     users
	askers    *askers
	visitors  []string // roles of other hosts that send requests to roles of this host
	outside   *root.Outside
	logs      logs.Settings
	log       *slog.Logger

	// Set by open.
	data      string // absolute path
	buildkitd string
	scanner   string       // path of colophon-scan; set if the role attestor is on this host
	cas       []byte       // content of SSL_CERT_FILE
	port      net.Listener // nil if the role api is on another host

	news    *zone.Updates // of news, for the role api
	changes *changes      // nil on other hosts than serve's
	gate    *gateFiles    // for the role registry

	known   tokens   // hashes of the tokens
	push    string   // the attestor's token
	sockets []string // roles of this host that listen on a socket
}

// ConfigError means that the command line or a file that it names is wrong. Nothing was
// started, and trying again does not help. A file that could not be read is no ConfigError.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// configError returns err as a ConfigError, unless it is what the kernel said about a file: a disk may
// answer, or a directory may be mounted, a moment later.
func configError(err error) error {
	if _, passing := errors.AsType[syscall.Errno](err); passing {
		return err
	}
	return &ConfigError{err}
}

// newPlatform reads the configuration of a host.
func newPlatform(c Config, host string) (p *platform, err error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key must be given together")
	}
	how, err := logs.Parse(c.LogFormat, c.LogLevel)
	if err != nil {
		return nil, err
	}
	p = &platform{config: c, host: host, askers: new(askers), logs: how, log: logs.New(os.Stderr, how)}
	if p.file, err = readConfig(c.File); err != nil {
		return nil, err
	}
	if p.config.Mirror == "" {
		p.config.Mirror = p.file.Mirror
	}
	if p.outside, err = readOutside(p.file); err != nil {
		return nil, err
	}
	documents, err := p.checkGate()
	if err != nil {
		return nil, err
	}
	if p.gate, err = newGateFiles(p.gateHere(), documents, host != roleServe); err != nil {
		return nil, err
	}
	p.users = newUsers(p.file.Roles.UIDBase)
	if err := checkUIDs(p.file.Roles.UIDBase, p.file.Build.UIDBase, p.users.inside()); err != nil {
		return nil, err
	}
	if err := p.users.checkRooms(p.file.Build); err != nil {
		return nil, err
	}
	return p, nil
}

// Serve runs a platform until ctx is done: all roles except those that the
// configuration places on other hosts.
func Serve(ctx context.Context, c Config) error {
	hup, stop := awaitReload()
	defer stop()
	p, err := newPlatform(c, roleServe)
	if err != nil {
		return configError(err)
	}
	if p.url, err = origin(c.Listen, c.URL, p.usesTLS()); err != nil {
		return configError(err)
	}
	if err := errors.Join(p.checkACME(), p.checkIssuers(), p.checkOutside()); err != nil {
		return configError(err)
	}
	if p.users.plain() {
		return p.serveInside(ctx)
	}
	switch p.users.zones() {
	case attest.OneUser:
		p.log.Warn("all roles run as one user, so builds earn a lower SLSA level", "reason", p.users.why)
	case attest.SubordinateUsers:
		p.log.Warn("a plain user owns the users of all roles, so builds earn a lower SLSA level, and have no limits of memory, CPU and disk of their own")
	}
	release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	if err := p.keepsURL(p.data); err != nil {
		return err
	}
	if p.known, p.push, err = openTokens(p.data); err != nil {
		return err
	}
	return p.run(ctx, hup, p.url, p.allReady)
}

// serveInside runs the same command again as root of a user namespace that the plain user
// who started us owns, and waits for its end. Before, it checks what the process inside
// cannot: there, root of the host looks like every other user of the host.
func (p *platform) serveInside(ctx context.Context) error {
	check := func() error {
		fresh, err := newPlatform(p.config, p.host)
		if err != nil {
			return err
		}
		_, err = credentials.Read(fresh.file.Credentials)
		return err
	}
	if _, err := owned.Dir(p.config.Data); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	if _, err := credentials.Read(p.file.Credentials); err != nil {
		return err
	}
	return userns.Run(ctx, check)
}

// processes returns the processes of this host's roles, in the order of roles.
func (p *platform) processes() (list []zone.Process, err error) {
	for _, r := range roles() {
		if r.prepare == nil || r.needed != nil && !r.needed(p) || r.needed == nil && !p.runs(r.name) {
			continue
		}
		process := zone.Process{Name: r.name, Zone: p.zone(r), Users: p.users.byRole, Log: p.log, Logs: p.logs}
		if err := r.prepare(p, &process); err != nil {
			return nil, err
		}
		if process.Listener == nil {
			if process.Listener, err = p.listen(r.name); err != nil {
				return nil, err
			}
		}
		list = append(list, process)
	}
	return list, nil
}

// awaitReload returns a channel that gets SIGHUP. Call it before the configuration is read: SIGHUP without a handler
// ends the process, and one after the read may announce a newer file.
func awaitReload() (hup <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// run keeps the roles running until ctx is done, and reads the configuration again at hup. It prints "ready" and where after
// ready has returned nil.
func (p *platform) run(ctx context.Context, hup <-chan os.Signal, where string, ready func(context.Context) error) error {
	defer p.removeSockets()
	if self, err := findRole(roleServe); err != nil {
		return err
	} else if err := zone.LimitMemory(self.memory); err != nil {
		return err
	}
	told, err := p.openNews()
	if err != nil {
		return err
	}
	list, err := p.processes()
	if err != nil {
		return err
	}
	if err := p.openChanges(); err != nil {
		return err
	}
	defer p.changes.close()
	// The deferred calls stop roles in reverse order: a role before those that it sends
	// requests to.
	ended := make(chan string, len(list))
	anew := make([]chan zone.Next, len(list))
	for i := range list {
		alive, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		anew[i] = make(chan zone.Next)
		process := list[i]
		go func() {
			defer close(done)
			process.Supervise(alive, ctx.Done(), anew[i], func() {
				select {
				case ended <- process.Name:
				default: // await has returned
				}
			})
		}()
		defer func() { stop(); <-done }()
		if i == 0 { // the first one is the ledger, if it runs here
			if err := p.changes.start(ctx, p); err != nil {
				return err
			}
		}
	}
	if err := await(ctx, ready, ended); err != nil {
		return err
	}
	fmt.Fprintf(p.config.Ready, "ready %s\n", where)
	p.notify(stateReady)
	zone.FreeStartMemory()
	go p.watchNews(ctx, told)
	p.reloads(ctx, hup, list, anew)
	p.notify(stateStopping)
	p.log.Info("stopping")
	return nil
}

// await returns when ready returns. It fails as soon as a role ends, because a role
// that fails at start fails again after a restart.
func await(ctx context.Context, ready func(context.Context) error, ended <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ready(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("the platform did not start: %w", err)
		}
		return nil
	case name := <-ended:
		return fmt.Errorf("role %s ended at start; see its message above", name)
	}
}
