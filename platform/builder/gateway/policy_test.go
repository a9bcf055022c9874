package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

func answers(addrs ...string) func(context.Context, string, string) ([]netip.Addr, error) {
	var mu sync.Mutex
	i := 0
	return func(context.Context, string, string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		a := netip.MustParseAddr(addrs[min(i, len(addrs)-1)])
		i++
		return []netip.Addr{a}, nil
	}
}

func TestPrivateAddressesAreDenied(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("a private service was reached") }))
	defer inner.Close()
	p := port(t, inner.URL)
	room := start(t, Settings{Network: Network{Ports: []uint16{p, 80}}})
	room.g.dialer.lookup = net.DefaultResolver.LookupNetIP
	hosts := []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254",
		"100.64.0.1", "[fd00::1]", "[fe80::1]", "224.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::1]", "[::7f00:1]", "255.255.255.255"}
	own, _ := net.InterfaceAddrs()
	for _, o := range own {
		if n := o.(*net.IPNet); n.IP.To4() != nil {
			hosts = append(hosts, n.IP.String())
		}
	}
	for _, h := range hosts {
		room.want(403, "denied", "GET", fmt.Sprintf("http://%s:%d/", h, p))
		if h == "localhost" { // a name is looked up when it is asked for something
			room.want(403, "denied", "GET", fmt.Sprintf("https://%s:%d/", h, p))
		} else if got := room.connect(fmt.Sprintf("%s:%d", h, p)); got != http.StatusForbidden {
			t.Errorf("CONNECT %s: got %d, want 403", h, got)
		}
	}
	for _, e := range room.end() {
		if e.Denied == "" {
			t.Errorf("%s is not recorded as denied", e.URL)
		}
	}
}

// A name that leads somewhere public when it is checked and to the platform's
// host when it is connected to: it is looked up once for each connection.
func TestRebinding(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("a private service was reached") }))
	defer inner.Close()
	room := start(t, Settings{Network: Network{Ports: []uint16{port(t, inner.URL)}}})
	asked := 0
	room.g.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		if asked++; asked > 1 {
			t.Error("one connection asked twice for a name")
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	room.want(403, "127.0.0.1 is an address of the gateway's own host", "GET", fmt.Sprintf("http://rebind.test:%d/", port(t, inner.URL)))
}

// Each hop of a redirect is a request of its own, and checked as one.
func TestRedirectsAreChecked(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("a private service was reached") }))
	defer inner.Close()
	to := strings.Replace(inner.URL, "127.0.0.1", "127.0.0.2", 1)
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to+"/", http.StatusFound) })
	s.Ports = append(s.Ports, port(t, inner.URL))
	room := start(t, s)
	room.CheckRedirect = nil
	room.want(403, "127.0.0.2 is an address of the gateway's own host", "GET", up.URL)
	if e := room.end(); len(e) != 2 || e[1].URL != to+"/" || e[1].Denied == "" {
		t.Errorf("got %+v", e)
	}
}

// The platform's host is refused by every form of its addresses, on every port, and
// whatever the settings allow.
func TestHostIsNeverAllowed(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a service of the host was reached as %s", r.Host)
	}))
	defer service.Close()
	p := port(t, service.URL)
	everything := Network{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, Ports: []uint16{p, 80}}
	room := start(t, Settings{Network: everything, Platform: []string{"https://colophon.example", "http://192.0.2.9"}})
	room.g.dialer.lookup = answers("127.0.0.1")
	hosts := []string{"127.0.0.1", "127.1.2.3", "localhost", "some.name.test", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[::1]"}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range own {
		if ip := o.(*net.IPNet).IP; !ip.IsLinkLocalUnicast() {
			hosts = append(hosts, strings.Split(net.JoinHostPort(ip.String(), "|"), ":|")[0])
		}
	}
	for _, h := range hosts {
		room.want(403, "an address of the gateway's own host", "GET", fmt.Sprintf("http://%s:%d/", h, p))
	}
	room.want(403, "the platform itself", "GET", "http://COLOPHON.example./")
	room.want(403, "the platform itself", "GET", "http://192.0.2.9/")
	for _, bad := range []string{"127.0.0.0/8", "127.0.0.1/32", "::1/128", "0.0.0.0/32", "::ffff:10.0.0.0/104"} {
		if err := (Network{Allow: []netip.Prefix{netip.MustParsePrefix(bad)}}).Check(); err == nil {
			t.Errorf("allow %s: got no error, want one, because it has no effect", bad)
		}
	}
	if err := everything.Check(); err != nil {
		t.Error(err)
	}
}

// A local route makes every address of a range the host's, though no interface has it.
func TestLocalRoutesAreTheHosts(t *testing.T) {
	needs.Root(t, "a network namespace")
	p := &policy{Settings: Settings{Network: Network{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}}}
	errs := make(chan error)
	go func() {
		// Never unlock the thread: it ends with this goroutine, and the namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		for _, args := range []string{"link set lo up", "route add local 9.9.9.0/24 dev lo", "-6 route add local 2606:4700::/64 dev lo", "route add 8.8.8.8 dev lo"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				errs <- fmt.Errorf("ip %s: %w: %s", args, err, out)
				return
			}
		}
		var all error
		for address, own := range map[string]bool{"9.9.9.9": true, "2606:4700::7": true, "127.9.9.9": true, "8.8.8.8": false, "1.1.1.1": false, "2606:4700:1::1": false} {
			if err := p.check(netip.AddrPortFrom(netip.MustParseAddr(address), 80)); (err != nil) != own {
				all = errors.Join(all, fmt.Errorf("%s: got %v, want it refused: %v", address, err, own))
			}
		}
		errs <- all
	}()
	if err := <-errs; err != nil {
		t.Error(err)
	}
}

func TestHostsAndRanges(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	defer up.Close()
	p := port(t, up.URL)
	try := func(n Network, reached map[string]bool) {
		t.Helper()
		n.Ports = []uint16{p}
		room := start(t, Settings{Network: n})
		room.g.dialer.connect = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", up.Listener.Addr().String())
		}
		for host, ok := range reached {
			status, _ := room.fetch("GET", fmt.Sprintf("http://%s:%d/", host, p))
			if (status == 200) != ok || !ok && status != 403 {
				t.Errorf("%+v: %s: got %d, want reached: %v", n, host, status, ok)
			}
		}
	}
	try(Network{AllowHosts: []string{"a.test", "*.b.test"}}, map[string]bool{
		"a.test": true, "A.TEST.": true, "x.a.test": false, "b.test": false, "x.b.test": true, "x.y.b.test": true, "xb.test": false, "9.9.9.9": false})
	try(Network{DenyHosts: []string{"a.test", "*.b.test"}}, map[string]bool{
		"a.test": false, "A.test.": false, "x.a.test": true, "b.test": true, "x.b.test": false, "9.9.9.9": true})
	try(Network{AllowHosts: []string{"*.a.test"}, DenyHosts: []string{"x.a.test"}}, map[string]bool{"x.a.test": false, "y.a.test": true})
	try(Network{Deny: []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24")}}, map[string]bool{"9.9.9.9": false, "a.test": false, "9.9.8.8": true})
	private := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	try(Network{}, map[string]bool{"10.77.0.1": false})
	try(Network{Allow: private}, map[string]bool{"10.77.0.1": true, "10.78.0.1": false, "[::ffff:10.77.0.1]": true})
	try(Network{Allow: private, Deny: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")}}, map[string]bool{"10.77.0.1": true, "10.77.1.1": false})
	for _, bad := range []Settings{{Network: Network{AllowHosts: []string{"a.*"}}}, {Network: Network{DenyHosts: []string{"A.test"}}},
		{Network: Network{DenyHosts: []string{""}}}, {Network: Network{DenyHosts: []string{"a.test:80"}}},
		{Platform: []string{"colophon.example"}}, {Session: builder.Session{Record: true}}, {Session: builder.Session{Sealed: true}}, {Roots: "/dev/null"}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// Both ends of every special range are refused, and everything outside of the public
// IPv6 addresses, and whatever the standard library knows not to be public.
func TestNotPublic(t *testing.T) {
	p := &policy{}
	refused := func(a netip.Addr) bool { return p.check(netip.AddrPortFrom(a, 80)) != nil }
	var edges []netip.Addr
	for prefix, name := range reach.SpecialRanges() {
		last := prefix.Addr().AsSlice()
		for i := prefix.Bits(); i < 8*len(last); i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{prefix.Addr(), end} {
			if !prefix.Contains(a) || !refused(a) && a.Unmap() == a {
				t.Errorf("%s, at an end of %s (%s), is not refused", a, prefix, name)
			}
		}
		edges = append(edges, prefix.Addr(), prefix.Addr().Prev(), end, end.Next())
	}
	for _, s := range []string{"ff01::1", "ff02::1", "ff12::1", "224.0.0.1", "239.255.255.255", "::ffff:10.0.0.1", "::ffff:127.0.0.1"} {
		edges = append(edges, netip.MustParseAddr(s))
	}
	for _, a := range edges {
		u := a.Unmap()
		known := u.IsUnspecified() || u.IsLoopback() || u.IsPrivate() || u.IsLinkLocalUnicast() || u.IsMulticast()
		if a.IsValid() && known && !refused(a) {
			t.Errorf("%s is not refused", a)
		}
	}
	for _, s := range []string{
		// Got through when private ranges were listed.
		"168.63.129.16", "198.18.0.1", "198.19.255.255", "192.88.99.1", "::ffff:0:127.0.0.1", "100::1", "100:0:0:1::1", "5f00::1", "3fff::1", "2001:db8::1", "2001:20::1",
		"192.0.0.9", "192.31.196.1", "2620:4f:8000::1", "161.26.0.10", "166.9.1.1",
		// Outside of 2000::/3.
		"::ffff:0:0:1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:2::1", "200::1", "1fff:ffff::1", "4000::1", "8000::1", "fec0::1", "fbff::1",
		"2001:db8::1%eth0", "2606:4700::1111%eth0",
	} {
		if !refused(netip.MustParseAddr(s)) {
			t.Errorf("%s is not refused", s)
		}
	}
	for _, s := range []string{"8.8.8.8", "9.9.9.9", "100.128.0.1", "172.32.0.1", "192.0.1.1", "198.51.100.1", "203.0.113.1", "198.20.0.1", "223.255.255.255", "168.63.129.17", "::ffff:8.8.8.8", "2000::1", "2606:4700::1111", "2001:200::1", "2001:4860:4860::8888", "3ffe::1", "3fff:1000::1"} {
		if err := p.check(netip.AddrPortFrom(netip.MustParseAddr(s), 80)); err != nil {
			t.Error(err)
		}
	}
}
