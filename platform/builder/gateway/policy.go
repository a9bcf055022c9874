package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/reach"
)

// DeniedError means that the gateway denied a request. Target is the denied host; it
// may be empty.
type DeniedError struct{ Target, Reason string }

func (e *DeniedError) Error() string {
	if e.Target == "" {
		return "denied: " + e.Reason
	}
	return fmt.Sprintf("denied: %s: %s", e.Target, e.Reason)
}

// endpoint is the destination of a request. The host is an address, or a name in lower
// case without a final dot.
type endpoint struct {
	host string
	port uint16
}

func (e endpoint) String() string {
	return net.JoinHostPort(e.host, strconv.Itoa(int(e.port)))
}

// authority returns the endpoint as the authority of a URL.
func (e endpoint) authority(scheme string) string {
	if scheme == "http" && e.port == 80 || scheme == "https" && e.port == 443 {
		if strings.Contains(e.host, ":") {
			return "[" + e.host + "]"
		}
		return e.host
	}
	return e.String()
}

var hostName = lazyregexp.New(`^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$`)

// parseEndpoint reads HOST or HOST:PORT. It normalizes the host, so that the policy
// cannot be evaded with another spelling of the same host.
func parseEndpoint(s string, defaultPort uint16) (endpoint, error) {
	host, port := s, defaultPort
	if h, p, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return endpoint{}, fmt.Errorf("port: got %.20q, want a number", p)
		}
		host, port = h, uint16(n)
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	}
	if port == 0 {
		return endpoint{}, errors.New("port: got none, want host:port")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return endpoint{a.Unmap().String(), port}, nil
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !hostName.MatchString(host) {
		return endpoint{}, fmt.Errorf("host: got %.300q, want a name or an address", host)
	}
	return endpoint{host, port}, nil
}

// policy decides which hosts and addresses rooms may reach.
type policy struct {
	Settings
	platform []endpoint
}

// Check returns an error if a setting is malformed or could never have an effect.
func (n Network) Check() error {
	for _, list := range [][]string{n.AllowHosts, n.DenyHosts} {
		for _, h := range list {
			if e, err := parseEndpoint(strings.TrimPrefix(h, "*."), 1); err != nil || e.host != strings.TrimPrefix(h, "*.") {
				return fmt.Errorf("host: got %q, want a name in lower case such as example.com or *.example.com, or an address", h)
			}
		}
	}
	for _, r := range n.Allow {
		if a := r.Addr().Unmap(); !r.IsValid() || r.Addr().Is4In6() || loopback.Addr(a) || a.IsUnspecified() && r.IsSingleIP() {
			return fmt.Errorf("allow: got %q, want a range of IPv4 or IPv6, and not loopback, which builds never reach", r)
		}
	}
	return nil
}

func newPolicy(s Settings) (*policy, error) {
	p := &policy{Settings: s}
	if err := s.Network.Check(); err != nil {
		return nil, err
	}
	for _, origin := range s.Platform {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("origin of the platform: got %q, want an origin such as https://colophon.example.com", origin)
		}
		port := uint16(80)
		if u.Scheme == "https" {
			port = 443
		}
		e, err := parseEndpoint(u.Host, port)
		if err != nil {
			return nil, fmt.Errorf("origin of the platform %q: %w", origin, err)
		}
		p.platform = append(p.platform, e)
	}
	return p, nil
}

func matches(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return pattern == host
}

// admit returns an error if a room must not reach an endpoint. It decides by port and
// host without resolving the name; check decides by address.
func (p *policy) admit(e endpoint) error {
	if !slices.Contains(p.Ports, e.port) {
		return fmt.Errorf("port: got %d, want one of %d", e.port, p.Ports)
	}
	if err := p.listed(e); err != nil {
		return err
	}
	if e.host == MirrorHost {
		return errors.New("this name is reserved for the gateway itself")
	}
	for _, own := range p.platform {
		// The platform's name is denied on every port, because it leads to the
		// platform's host.
		if _, err := netip.ParseAddr(own.host); err != nil && own.host == e.host {
			return errors.New("this host is the platform itself, from which a build can only pull images")
		}
	}
	if a, err := netip.ParseAddr(e.host); err == nil {
		return p.check(netip.AddrPortFrom(a, e.port))
	}
	return nil
}

// listed returns an error if the lists of hosts exclude the endpoint's.
func (p *policy) listed(e endpoint) error {
	hit := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(s string) bool { return matches(s, e.host) })
	}
	switch {
	case hit(p.DenyHosts):
		return errors.New("the platform's policy denies this host")
	case len(p.AllowHosts) > 0 && !hit(p.AllowHosts):
		return errors.New("the platform's policy does not list this host")
	}
	return nil
}

// check returns an error if a room must not reach an address. The addresses of this host
// come first: no setting makes them reachable, and neither those of the platform.
func (p *policy) check(target netip.AddrPort) error {
	a := target.Addr()
	if a.Zone() != "" {
		return fmt.Errorf("%s is link-local", a)
	}
	a = a.Unmap()
	if own, err := isHosts(a); err != nil {
		return err
	} else if own {
		return fmt.Errorf("%s is an address of the gateway's own host", a)
	}
	for _, e := range p.platform {
		if e.port == target.Port() && e.host == a.String() {
			return fmt.Errorf("%s is the platform itself", target)
		}
	}
	for _, d := range p.Deny {
		if d.Contains(a) {
			return fmt.Errorf("the platform's policy denies %s", d)
		}
	}
	for _, allowed := range p.Allow {
		if allowed.Contains(a) {
			return nil
		}
	}
	if why := reach.NotPublic(a); why != "" {
		return fmt.Errorf("%s is %s", a, why)
	}
	return outsideOwnNetworks(a)
}

// outsideOwnNetworks returns an error if an address is in a network of this host's
// interfaces, even if its range is public.
func outsideOwnNetworks(a netip.Addr) error {
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("reading the host's addresses: %w", err)
	}
	for _, o := range own {
		n, ok := o.(*net.IPNet)
		if ok && n.Contains(a.AsSlice()) {
			return fmt.Errorf("%s is in the host's own network %s", a, n)
		}
	}
	return nil
}

// dialer connects to the addresses that the policy allows.
type dialer struct {
	policy  *policy
	slots   chan struct{} // limits the connections at a time
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error) // to an address that policy has checked
}

// dial resolves a name once, checks its addresses, and connects to an address that it
// has checked. A DNS answer that changes after the check has no effect.
func (d *dialer) dial(ctx context.Context, _, target string) (net.Conn, error) {
	e, err := parseEndpoint(target, 0)
	if err != nil {
		return nil, &DeniedError{target, err.Error()}
	}
	if err := d.policy.admit(e); err != nil {
		return nil, &DeniedError{target, err.Error()}
	}
	if d.policy.Session.Sealed {
		return nil, &DeniedError{target, "the session is sealed"}
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(e.host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = d.lookup(ctx, "ip", e.host); err != nil {
		return nil, err
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("the limit of %d connections at a time is reached", cap(d.slots))
	}
	release := sync.OnceFunc(func() { <-d.slots })
	var last error
	for _, a := range addrs {
		to := netip.AddrPortFrom(a.Unmap(), e.port)
		if a.Zone() != "" {
			to = netip.AddrPortFrom(a, e.port)
		}
		if err := d.policy.check(to); err != nil {
			last = &DeniedError{target, err.Error()}
			continue
		}
		c, err := d.connect(ctx, "tcp", to.String())
		if err == nil {
			return &conn{Conn: c, release: release}, nil
		}
		last = err
	}
	release()
	if last == nil {
		last = fmt.Errorf("host %s has no address", e.host)
	}
	return nil, last
}

// conn frees its slot of the dialer when it is closed.
type conn struct {
	net.Conn
	release func()
}

func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}
