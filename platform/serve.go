// Package platform runs the roles of a platform: which of them a host runs, as whom
// and in what order, what each is told, and how roles of several hosts find each
// other. cmd/colophond is its command line. A role is a file, role_*.go, and a row of
// the table in roles.go. Nothing here is promised to other importers.
package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/zone"
)

// Config is what the command line says.
type Config struct {
	Data   string // directory that holds everything, for one platform at a time; required
	Listen string // HOST:PORT of the port. Plain HTTP is for loopback alone: other addresses need TLSCert
	URL    string // the platform's public origin; default: Listen as a URL. Certificates name it: it should not change

	TLSCert, TLSKey string // PEM files; both or neither

	Mirror    string // OCI layout that answers builds' pulls of the images it names; default: none
	Buildkitd string // program; default: the one beside this program, then the first in PATH. Without one there is no buildkit builder
	File      string // configuration file, JSON (docs/configuration.md); default: none

	Version string    // of this program, for provenance and pages
	Ready   io.Writer // gets one line when everything answers: "ready URL"
}

// platform is what the process knows that starts the roles of a host: where
// everything is, and who runs it. It opens no file of a role and answers no request.
type platform struct {
	config    Config // Mirror is absolute after open
	file      configFile
	host      string     // roleServe, or the role that this host was enrolled as
	enrolment *enrolment // of such a host
	url       string
	users     users
	visitors  []string // roles of other hosts that ask roles of this one
	outside   *root.Outside
	log       *slog.Logger

	// What open found.
	data      string // absolute
	buildkitd string
	cas       []byte       // of SSL_CERT_FILE
	port      net.Listener // nil if another host has it

	known   tokens   // hashes of the tokens
	push    string   // the attestor's token
	sockets []string // roles of this host that listen on a socket
}

// newPlatform reads the configuration of a host.
func newPlatform(c Config, host string) (p *platform, err error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return nil, errors.New("--tls-cert and --tls-key belong together")
	}
	p = &platform{config: c, host: host, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if p.file, err = readConfig(c.File); err != nil {
		return nil, err
	}
	if p.outside, err = readOutside(p.file); err != nil {
		return nil, err
	}
	p.users = newUsers(p.file.Roles.UIDBase)
	return p, nil
}

// Serve runs a platform until ctx is done: all of its roles but those that the
// configuration puts on other hosts.
func Serve(ctx context.Context, c Config) error {
	p, err := newPlatform(c, roleServe)
	if err != nil {
		return err
	}
	if p.url, err = origin(c.Listen, c.URL, c.TLSCert != ""); err != nil {
		return err
	}
	if !p.users.separate {
		p.log.Warn("all roles run as one user, so builds earn a lower SLSA level", "reason", p.users.why)
	}
	if err := p.findVisitors(); err != nil {
		return err
	}
	release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	if p.known, p.push, err = openTokens(p.data); err != nil {
		return err
	}
	return p.run(ctx, p.url, p.allReady)
}

// processes are the roles of this host, each behind those that it asks.
func (p *platform) processes() (list []zone.Process, err error) {
	for _, r := range roles() {
		if r.prepare == nil || r.needed != nil && !r.needed(p) || r.needed == nil && !p.runs(r.name) {
			continue
		}
		process := zone.Process{Name: r.name, Zone: p.zone(r), Users: p.users.byRole, Log: p.log}
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

// run keeps the roles running until ctx is done, and says where they are when
// ready returns nil.
func (p *platform) run(ctx context.Context, where string, ready func(context.Context) error) error {
	defer p.removeSockets()
	list, err := p.processes()
	if err != nil {
		return err
	}
	// Roles end before those that they ask, which stand before them.
	ended := make(chan string, len(list))
	for i := range list {
		alive, stop := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			list[i].Supervise(alive, func() {
				select {
				case ended <- list[i].Name:
				default: // nobody waits any more
				}
			})
		}()
		defer func() { stop(); <-done }()
	}
	if err := await(ctx, ready, ended); err != nil {
		return err
	}
	fmt.Fprintf(p.config.Ready, "ready %s\n", where)
	zone.FreeStartMemory()
	<-ctx.Done()
	p.log.Info("stopping")
	return nil
}

// await returns when ready does. It fails as soon as a role ends: a restart would
// not change the reason.
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
