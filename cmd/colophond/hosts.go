package main

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/peer"
)

// remote are the roles that may run on hosts of their own.
var remote = []string{roleTrust, roleRegistry, roleAttestor, roleBuilder, roleAPI}

// asks are the roles that ask others something, and whom. What each may ask for
// is said where it is answered (peer.Allow).
var asks = map[string][]string{
	roleServe:    {roleTrust},
	roleAttestor: {roleTrust, roleBuilder, roleRooms},
	roleAPI:      {roleTrust, roleRegistry, roleAttestor, roleBuilder},
}

// hosts are the addresses of the roles that run on hosts of their own, and of
// the door of serve's.
func (c config) hosts() map[string]string {
	r := c.Roles
	return map[string]string{
		roleTrust: r.Trust, roleRegistry: r.Registry, roleAttestor: r.Attestor, roleBuilder: r.Builder, roleAPI: r.API, roleDoor: r.Door,
	}
}

// home is the host of a role, which is called as the role that it was enrolled
// as or "serve", and the address of its door.
func (p *platform) home(role string) (host, address string) {
	if role == roleRooms || role == roleGateway {
		role = roleBuilder
	}
	hosts := p.config.hosts()
	if hosts[role] != "" || role == p.host {
		return role, hosts[role]
	}
	return roleServe, hosts[roleDoor]
}

// runs answers whether a role runs on this host.
func (p *platform) runs(role string) bool {
	host, _ := p.home(role)
	return host == p.host
}

// settle finds out who comes in from other hosts.
func (p *platform) settle() error {
	for _, role := range remote {
		if !p.runs(role) && role != roleBuilder && !p.zones.separate {
			return fmt.Errorf("roles.%s: a platform over several hosts needs users of their own for its roles: %s", role, p.zones.why)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(asks)) {
		if p.runs(role) {
			continue
		}
		p.zones.users[role] = peer.Elsewhere
		if slices.ContainsFunc(asks[role], p.runs) {
			p.visitors = append(p.visitors, role)
		}
	}
	if len(p.visitors) > 0 && p.host == roleServe && p.config.Roles.Door == "" {
		return fmt.Errorf("%v run on other hosts and ask roles of this one: roles.door must say where", p.visitors)
	}
	return nil
}

// endpoint is where a role finds another one, at socket if it runs here.
func (p *platform) endpoint(socket, asker, role string) (peer.Endpoint, error) {
	if p.runs(role) {
		return peer.At(socket), nil
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
	e.Credentials, err = enrol(p.dir("enrolment"), []string{asker}, nil)
	return e, err
}

// doorRole lets in who comes from other hosts.
func (p *platform) doorRole(list []role, front net.Listener) (_ role, err error) {
	z := p.zone(roleDoor, confine.Policy{})
	settings := doorSettings{From: p.visitors, To: map[string]string{}}
	var here []string
	for _, r := range list {
		settings.To[r.name] = z.socket(r.name)
		here = append(here, r.name)
	}
	if p.enrolment != nil {
		settings.Credentials = p.enrolment.Door
		return p.facing(role{name: roleDoor, zone: z, settings: settings}, front)
	}
	host, _, err := net.SplitHostPort(p.config.Roles.Door)
	if err != nil {
		return role{}, fmt.Errorf("roles.door: %w", err)
	}
	if settings.Credentials, err = enrol(p.dir("enrolment"), here, []string{host}); err != nil {
		return role{}, err
	}
	l, err := net.Listen("tcp", p.config.Roles.Door)
	if err != nil {
		return role{}, fmt.Errorf("roles.door: %w", err)
	}
	defer l.Close() // the copy stays
	return p.facing(role{name: roleDoor, zone: z, settings: settings}, l)
}

// facing gives a role the listener that others reach over the network.
func (p *platform) facing(r role, l net.Listener) (_ role, err error) {
	r.listener, err = l.(*net.TCPListener).File()
	return r, err
}

// socketPath of a role on this host.
func (p *platform) socketPath(role string) string { return filepath.Join(p.dir("run"), role+".sock") }
