package platform

import (
	"context"
	"fmt"
	"slices"

	"github.com/colophon-build/colophon/internal/peer"
)

// home returns where a role runs: its host, which is named as the role that it was
// enrolled as or "serve", and the address at which other hosts reach it there.
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

// runs answers whether a role runs on this host.
func (p *platform) runs(name string) bool {
	host, _ := p.home(name)
	return host == p.host
}

// findVisitors sets p.visitors: the roles of other hosts that ask roles of this one.
// They come in through the door.
func (p *platform) findVisitors() error {
	for _, r := range roles() {
		// A builder on another host is safer than one here, whatever users there are.
		if r.listen != "" && !p.runs(r.name) && r.name != roleBuilder && !p.users.separate {
			return fmt.Errorf("roles.%s: a platform over several hosts needs users of their own for its roles: %w", r.name, p.users.why)
		}
		if r.asks == nil || p.runs(r.name) {
			continue
		}
		p.users.byRole[r.name] = peer.Elsewhere
		if slices.ContainsFunc(r.asks, p.runs) {
			p.visitors = append(p.visitors, r.name)
		}
	}
	if p.hasVisitors() && p.host == roleServe && p.file.Roles.Hosts[roleDoor] == "" {
		return fmt.Errorf("%v run on other hosts and ask roles of this one: roles.door must say where", p.visitors)
	}
	return nil
}

func (p *platform) hasVisitors() bool { return len(p.visitors) > 0 }

// endpoint is where the role asker reaches another one: if that runs here, at its
// socket in run, the directory as asker sees it.
func (p *platform) endpoint(run, asker, role string) (peer.Endpoint, error) {
	if p.runs(role) {
		return peer.At(socket(run, role)), nil
	}
	_, address := p.home(role)
	if address == "" {
		return peer.Endpoint{}, fmt.Errorf("%s asks %s, which runs beside serve: roles.door must say where", asker, role)
	}
	e := peer.Endpoint{Address: address, Role: role}
	if p.enrolment != nil {
		e.Credentials = p.enrolment.Asker
		return e, nil
	}
	var err error
	e.Credentials, err = certify(p.dir("enrolment"), []string{asker}, nil)
	return e, err
}

// ServeHost runs one role of a platform whose serve is on another host, until ctx is
// done. enrolmentFile is what Enrol made.
func ServeHost(ctx context.Context, role, enrolmentFile string, c Config) error {
	e, err := readEnrolment(enrolmentFile)
	if err != nil {
		return err
	}
	if e.Role != role {
		return fmt.Errorf("%s: got the role %q, want %q", enrolmentFile, e.Role, role)
	}
	if role == roleAPI {
		if _, err := origin(c.Listen, e.Platform, c.TLSCert != ""); err != nil {
			return err
		}
	}
	p, err := newPlatform(c, role)
	if err != nil {
		return err
	}
	p.enrolment, p.url, p.known, p.push = e, e.Platform, e.Known, e.Push
	if !p.users.separate {
		return fmt.Errorf("a host of a role needs users of their own for its processes: %w", p.users.why)
	}
	if err := p.findVisitors(); err != nil {
		return err
	}
	release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	where := fmt.Sprintf("%s for %s at %s", role, e.Platform, p.port.Addr())
	return p.run(ctx, where, func(ctx context.Context) error {
		if err := p.rolesReady(ctx); err != nil {
			return err
		}
		return p.frontReady(ctx)
	})
}
