package platform

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/peer"
)

// home returns the host that a role runs on, and the address at which other hosts
// reach the role. A host's name is the role that it was enrolled as, or "serve".
func (p *platform) home(name string) (host, address string) {
	if r, err := findRole(name); err == nil && r.beside != "" {
		name = r.beside
	}
	hosts := p.file.Roles.Hosts
	if hosts[name] != "" || name == p.host {
		return name, hosts[name]
	}
	return roleServe, hosts[roleDoor]
}

// hostname returns the name or address of the host of a role, as the operator chose it: that of its address in the
// configuration, to which its certificate is bound, or that of the platform's URL.
func (p *platform) hostname(name string) (string, error) {
	if address := p.file.Roles.Hosts[name]; address != "" {
		host, _, err := net.SplitHostPort(address)
		return host, err
	}
	u, err := url.Parse(p.url)
	if err != nil {
		return "", err
	}
	return u.Hostname(), nil
}

// runs reports whether a role runs on this host.
func (p *platform) runs(name string) bool {
	host, _ := p.home(name)
	return host == p.host
}

// findVisitors sets p.visitors: the roles of other hosts that send requests to roles
// of this host. They connect through the door.
func (p *platform) findVisitors() error {
	for _, r := range roles() {
		// A builder on another host is always safer than one here, so it is exempt.
		if r.listen != "" && !p.runs(r.name) && r.name != roleBuilder && !p.users.separate {
			return fmt.Errorf("roles.%s: roles on several hosts need one user per role, which this host does not allow: %w", r.name, p.users.why)
		}
		if r.listen != "" && !p.runs(r.name) && r.name != roleBuilder && p.users.nested {
			return fmt.Errorf("roles.%s: roles on several hosts need one user per role, and this platform has only those of a user namespace; start it as root", r.name)
		}
		if r.asks == nil || p.runs(r.name) {
			continue
		}
		p.users.byRole[r.name] = peer.Elsewhere
		if slices.ContainsFunc(r.asks, p.runs) {
			p.visitors = append(p.visitors, r.name)
		}
	}
	if p.host == roleServe && p.file.Roles.Hosts[roleDoor] == "" {
		// Without the door the archive cannot be searched, and the ledger has no records of the registry: all else works.
		p.visitors = slices.DeleteFunc(p.visitors, func(name string) bool {
			return name == roleSearch || name == roleRegistry && (p.file.Registry.Gate == nil || !p.file.Audit.Required)
		})
	}
	if p.hasVisitors() && p.host == roleServe && p.file.Roles.Hosts[roleDoor] == "" {
		return fmt.Errorf("%v on other hosts connect to roles of this host: set roles.door to HOST:PORT of this host", p.visitors)
	}
	return nil
}

func (p *platform) hasVisitors() bool { return len(p.visitors) > 0 }

// endpoint returns where asker reaches role: at the socket in run if role is on this
// host, else behind the door of its host. run is the path in asker's zone.
func (p *platform) endpoint(run, asker, role string) (peer.Endpoint, error) {
	if p.runs(role) {
		return peer.At(socket(run, role)), nil
	}
	_, address := p.home(role)
	if address == "" {
		return peer.Endpoint{}, fmt.Errorf("%s connects to %s on serve's host: set roles.door to HOST:PORT of that host", asker, role)
	}
	e := peer.Endpoint{Address: address, Role: role}
	if p.enrolment != nil {
		e.Credentials = p.enrolment.Asker
		return e, nil
	}
	var err error
	e.Credentials, err = p.askers.certify(p.dir("enrolment"), asker)
	return e, err
}

// askers keeps the credentials with which roles of serve's host ask roles of other hosts: with other ones, a role would
// have other settings, and start anew. Safe for concurrent use. The zero value has none.
type askers struct {
	mu     sync.Mutex
	issued map[string]issued // by role
}

type issued struct {
	credentials *peer.Credentials
	at          time.Time
}

// certify returns the credentials of a role, and renews them when a twelfth of their life is over.
func (a *askers) certify(dir, role string) (*peer.Credentials, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if had, ok := a.issued[role]; ok && time.Since(had.at) < enrolmentLife/12 {
		return had.credentials, nil
	}
	c, err := certify(dir, []string{role}, nil)
	if err != nil {
		return nil, err
	}
	if a.issued == nil {
		a.issued = map[string]issued{}
	}
	a.issued[role] = issued{c, time.Now()}
	return c, nil
}

// ServeHost runs one role of a platform until ctx is done, on another host than the
// platform's serve. enrolmentFile is the path of a file that Enrol wrote.
func ServeHost(ctx context.Context, role, enrolmentFile string, c Config) error {
	hup, stop := awaitReload()
	defer stop()
	e, err := readEnrolment(enrolmentFile)
	if err != nil {
		return err
	}
	if e.Role != role {
		return fmt.Errorf("%s: expected an enrolment for the role %q, found one for %q", enrolmentFile, role, e.Role)
	}
	p, err := newPlatform(c, role)
	if err != nil {
		return err
	}
	p.enrolment, p.url, p.known, p.push = e, e.Platform, e.Known, e.Push
	if role == roleAPI {
		if _, err := origin(c.Listen, e.Platform, p.usesTLS()); err != nil {
			return err
		}
		if err := p.checkACME(); err != nil {
			return err
		}
	}
	if !p.users.separate {
		return fmt.Errorf("a role on a host of its own needs a separate user: %w", p.users.why)
	}
	release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	where := fmt.Sprintf("%s for %s at %s", role, e.Platform, p.port.Addr())
	return p.run(ctx, hup, where, func(ctx context.Context) error {
		if err := p.rolesReady(ctx); err != nil {
			return err
		}
		return p.frontReady(ctx)
	})
}
