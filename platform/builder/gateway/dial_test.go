package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// TestEndpoints: one host has one spelling, and what is no host is refused.
func TestEndpoints(t *testing.T) {
	for s, want := range map[string]endpoint{
		"a.test": {"a.test", 99}, "A.Test.:80": {"a.test", 80}, "9.9.9.9": {"9.9.9.9", 99}, "[2606:4700::1]": {"2606:4700::1", 99}, "2606:4700::1": {"2606:4700::1", 99},
		"[2606:4700:0::1]:443": {"2606:4700::1", 443}, "[::ffff:9.9.9.9]:1": {"9.9.9.9", 1}, "a.test:65535": {"a.test", 65535}, "_a.b-c": {"_a.b-c", 99},
	} {
		if got, err := parseEndpoint(s, 99); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"a.test:http": `port: got "http"`, "a.test:65536": "want a number", "a.test:-1": "want a number", "a.test:0": "port: got none", "": "want a name or an address", "-a.test": "want a name",
		"a b": "want a name", "a.test:": "want a number", "a/b": "want a name", "..": "want a name", "1.2.3.4.5/8": "want a name", strings.Repeat("a", 254): "want a name",
	} {
		if got, err := parseEndpoint(s, 99); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", s, got, err, want)
		}
	}
	if _, err := parseEndpoint("a.test", 0); err == nil || !strings.Contains(err.Error(), "want host:port") {
		t.Errorf("no port: got %v", err)
	}
	for _, test := range []struct {
		e            endpoint
		scheme, want string
	}{
		{endpoint{"a.test", 80}, "http", "a.test"}, {endpoint{"a.test", 443}, "https", "a.test"}, {endpoint{"a.test", 443}, "http", "a.test:443"}, {endpoint{"a.test", 80}, "https", "a.test:80"},
		{endpoint{"2606:4700::1", 80}, "http", "[2606:4700::1]"}, {endpoint{"2606:4700::1", 443}, "https", "[2606:4700::1]"}, {endpoint{"2606:4700::1", 8080}, "http", "[2606:4700::1]:8080"}, {endpoint{"a.test", 80}, "ftp", "a.test:80"},
	} {
		if got := test.e.authority(test.scheme); got != test.want {
			t.Errorf("%v: got %s, want %s", test.e, got, test.want)
		}
	}
	for pattern, hosts := range map[string]map[string]bool{
		"*.b.test": {"a.b.test": true, ".b.test": false, "b.test": false, "ab.test": false}, "b.test": {"b.test": true, "a.b.test": false},
	} {
		for host, want := range hosts {
			if got := matches(pattern, host); got != want {
				t.Errorf("%s for %s: got %v, want %v", host, pattern, got, want)
			}
		}
	}
}

// TestThePlatformItself: its addresses are refused at its port, its names at every port.
func TestThePlatformItself(t *testing.T) {
	p, err := newPolicy(Settings{Platform: []string{"https://198.51.100.9", "http://198.51.100.8:8080", "https://colophon.test"}, Network: Network{
		Ports: []uint16{80, 443, 8080}, Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}})
	if err != nil {
		t.Fatal(err)
	}
	for s, ok := range map[string]bool{
		"198.51.100.9:443": false, "198.51.100.9:80": true, "198.51.100.8:8080": false, "198.51.100.8:443": true, "198.51.100.7:443": true, "colophon.test:443": false, "colophon.test:80": false, "other.test:443": true,
		"[2606:4700::1]:443": true,
	} {
		e, err := parseEndpoint(s, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.admit(e); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "is the platform itself") {
			t.Errorf("%s: got %v, want it allowed: %v", s, err, ok)
		}
	}
	// An address of one link says nothing about where it leads.
	if err := p.check(netip.MustParseAddrPort("[2606:4700::1%eth0]:443")); err == nil || !strings.Contains(err.Error(), "is link-local") {
		t.Errorf("an address with a zone: got %v", err)
	}
}

// TestDial: only addresses that were checked are connected to, and each connection takes
// one slot until it is closed.
func TestDial(t *testing.T) {
	refused := errors.New("connection refused")
	var connected []string
	dialer := func(s Settings, addrs ...string) *dialer {
		connected = nil
		s.Ports = []uint16{80}
		p, err := newPolicy(s)
		if err != nil {
			t.Fatal(err)
		}
		return &dialer{policy: p, slots: make(chan struct{}, 1),
			lookup: func(context.Context, string, string) (list []netip.Addr, err error) {
				if len(addrs) == 1 && addrs[0] == "fails" {
					return nil, errors.New("no such host")
				}
				for _, a := range addrs {
					list = append(list, netip.MustParseAddr(a))
				}
				return list, nil
			},
			connect: func(_ context.Context, _, address string) (net.Conn, error) {
				if connected = append(connected, address); strings.HasPrefix(address, "9.9.9.1:") {
					return nil, refused
				}
				c, _ := net.Pipe()
				return c, nil
			}}
	}
	for name, test := range map[string]struct {
		s         Settings
		target    string
		addrs     []string
		want      string // words of the error
		denied    bool
		connected string
	}{
		"public":               {Settings{}, "a.test:80", []string{"9.9.9.9"}, "", false, "9.9.9.9:80"},
		"mapped":               {Settings{}, "a.test:80", []string{"::ffff:9.9.9.9"}, "", false, "9.9.9.9:80"},
		"second address":       {Settings{}, "a.test:80", []string{"9.9.9.1", "9.9.9.2", "9.9.9.3"}, "", false, "9.9.9.1:80 9.9.9.2:80"},
		"private, then public": {Settings{}, "a.test:80", []string{"10.0.0.1", "9.9.9.9"}, "", false, "9.9.9.9:80"},
		"mapped with a zone":   {Settings{}, "a.test:80", []string{"::ffff:9.9.9.9%eth0"}, "is link-local", true, ""},
		"refused":              {Settings{}, "a.test:80", []string{"9.9.9.1"}, "connection refused", false, "9.9.9.1:80"},
		"no address":           {Settings{}, "a.test:80", nil, "host a.test has no address", false, ""},
		"unknown":              {Settings{}, "a.test:80", []string{"fails"}, "no such host", false, ""},
		"no host":              {Settings{}, "a b:80", nil, "want a name or an address", true, ""},
		"no port":              {Settings{}, "a.test", nil, "port: got none", true, ""},
		"another port":         {Settings{}, "a.test:81", nil, "port: got 81", true, ""},
		"denied host":          {Settings{Network: Network{DenyHosts: []string{"a.test"}}}, "a.test:80", nil, "denies this host", true, ""},
		"sealed":               {Settings{Session: builder.Session{Sealed: true}}, "a.test:80", nil, "the session is sealed", true, ""},
		"address":              {Settings{}, "9.9.9.9:80", []string{"fails"}, "", false, "9.9.9.9:80"},
	} {
		d := dialer(test.s, test.addrs...)
		c, err := d.dial(t.Context(), "tcp", test.target)
		_, denied := errors.AsType[*DeniedError](err)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || denied != test.denied || strings.Join(connected, " ") != test.connected {
			t.Errorf("%s: got %v and connected to %v, want %q and %s", name, err, connected, test.want, test.connected)
		}
		if err != nil {
			if len(d.slots) != 0 {
				t.Errorf("%s: what failed keeps its slot", name)
			}
			continue
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.dial(canceled, "tcp", "9.9.9.9:80"); err == nil || !strings.Contains(err.Error(), "the limit of 1 connections") {
			t.Errorf("%s: a second connection: got %v, want the limit", name, err)
		}
		c.Close()
		c.Close() // frees one slot only
		if len(d.slots) != 0 {
			t.Errorf("%s: what was closed keeps its slot", name)
		}
	}
}

// TestRoutesOfTheHost: what the kernel's routes say about an address that is public.
func TestRoutesOfTheHost(t *testing.T) {
	needs.Root(t, "a network namespace")
	errs := make(chan error)
	go func() {
		// Never unlock the thread: it ends with this goroutine, and the namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		for _, args := range []string{"link set lo up", "link add ga type veth peer name gb", "addr add 7.7.7.1/24 dev ga", "link set ga up", "link set gb up",
			"route add prohibit 7.7.8.0/24", "route add unreachable 7.7.9.0/24"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				errs <- errors.New("ip " + args + ": " + string(out))
				return
			}
		}
		var all error
		for address, want := range map[string]string{
			"7.7.7.7": "in the host's own network 7.7.7.1/24", "7.7.8.1": "asking the kernel for its route to 7.7.8.1", "7.7.9.1": "", "7.7.7.1": "the gateway's own host",
		} {
			err := (&policy{}).check(netip.AddrPortFrom(netip.MustParseAddr(address), 80))
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				all = errors.Join(all, errors.New(address+": want "+want), err)
			}
		}
		errs <- all
	}()
	if err := <-errs; err != nil {
		t.Error(err)
	}
}
