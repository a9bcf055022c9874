package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
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
	room.want(403, "127.0.0.1 is loopback", "GET", fmt.Sprintf("http://rebind.test:%d/", port(t, inner.URL)))
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
	room.want(403, "127.0.0.2 is loopback", "GET", up.URL)
	if e := room.end(); len(e) != 2 || e[1].URL != to+"/" || e[1].Denied == "" {
		t.Errorf("got %+v", e)
	}
}

// The platform is refused by every address form, though its address is allowed.
func TestThePlatformIsDenied(t *testing.T) {
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the platform was reached") }))
	defer platform.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "other") }))
	defer other.Close()
	p := port(t, platform.URL)
	room := start(t, Settings{
		Network: Network{
			Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, Ports: []uint16{p, port(t, other.URL), 80},
		},
		Platform: []string{platform.URL, "https://colophon.example"},
	})
	room.g.dialer.lookup = answers("127.0.0.1")
	for _, h := range []string{"127.0.0.1", "127.1.2.3", "localhost", "some.name.test", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[::1]"} {
		room.want(403, "the platform itself", "GET", fmt.Sprintf("http://%s:%d/", h, p))
	}
	room.want(403, "the platform itself", "GET", "http://COLOPHON.example./")
	room.want(200, "other", "GET", other.URL)
}

func TestHostsAndRanges(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	defer up.Close()
	p := port(t, up.URL)
	try := func(s Settings, reached map[string]bool) {
		t.Helper()
		s.Ports = []uint16{p}
		room := start(t, s)
		room.g.dialer.lookup = answers("127.0.0.1")
		for host, ok := range reached {
			status, _ := room.fetch("GET", fmt.Sprintf("http://%s:%d/", host, p))
			if (status == 200) != ok || !ok && status != 403 {
				t.Errorf("%+v: %s: got %d, want reached: %v", s, host, status, ok)
			}
		}
	}
	try(Settings{Network: Network{Allow: onLoopback, AllowHosts: []string{"a.test", "*.b.test"}}}, map[string]bool{
		"a.test": true, "A.TEST.": true, "x.a.test": false, "b.test": false, "x.b.test": true, "x.y.b.test": true, "xb.test": false, "127.0.0.1": false})
	try(Settings{Network: Network{Allow: onLoopback, DenyHosts: []string{"a.test", "*.b.test"}}}, map[string]bool{
		"a.test": false, "A.test.": false, "x.a.test": true, "b.test": true, "x.b.test": false, "127.0.0.1": true})
	try(Settings{Network: Network{Allow: onLoopback, AllowHosts: []string{"*.a.test"}, DenyHosts: []string{"x.a.test"}}}, map[string]bool{"x.a.test": false, "y.a.test": true})
	try(Settings{Network: Network{Allow: onLoopback, Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24")}}}, map[string]bool{"127.0.0.1": false, "a.test": false})
	for _, bad := range []Settings{{Network: Network{AllowHosts: []string{"a.*"}}}, {Network: Network{DenyHosts: []string{"A.test"}}},
		{Network: Network{DenyHosts: []string{""}}}, {Network: Network{DenyHosts: []string{"a.test:80"}}},
		{Platform: []string{"colophon.example"}}, {Session: builder.Session{Record: true}}, {Session: builder.Session{Sealed: true}}, {Roots: "/dev/null"}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// Both ends of every range are refused, and whatever the standard library knows
// not to be public.
func TestNotPublic(t *testing.T) {
	p := &policy{}
	refused := func(a netip.Addr) bool { return p.check(netip.AddrPortFrom(a, 80)) != nil }
	var edges []netip.Addr
	for _, r := range notPublic {
		last := r.prefix.Addr().AsSlice()
		for i := r.prefix.Bits(); i < 8*len(last); i++ {
			last[i/8] |= 0x80 >> (i % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{r.prefix.Addr(), end} {
			if !r.prefix.Contains(a) || !refused(a) {
				t.Errorf("%s, at an end of %s (%s), is not refused", a, r.prefix, r.why)
			}
		}
		edges = append(edges, r.prefix.Addr(), r.prefix.Addr().Prev(), end, end.Next())
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
	if !refused(netip.MustParseAddr("2001:db8::1%eth0")) {
		t.Error("an address with a zone is not refused")
	}
}

func TestDocumentationRangesArePublic(t *testing.T) {
	p := &policy{}
	for _, a := range []string{"203.0.113.7", "198.51.100.7", "8.8.8.8", "2606:4700::1111"} {
		if err := p.check(netip.AddrPortFrom(netip.MustParseAddr(a), 80)); err != nil {
			t.Error(err)
		}
	}
}
