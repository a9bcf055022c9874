package platform

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/colophon-build/colophon/internal/peer"
)

// onHost returns a platform from the view of the given host.
func onHost(host string, hosts map[string]string) *platform {
	p := &platform{host: host, log: slog.New(slog.DiscardHandler), users: users{separate: true, byRole: peer.Users{}}}
	p.file.Roles.Hosts = hosts
	return p
}

// From the same configuration, every host knows which roles it runs and which connect to it.
func TestWhereRolesRun(t *testing.T) {
	hosts := map[string]string{"trust": "t:1", "builder": "b:1", "attestor": "a:1", "door": "d:1"}
	for _, test := range []struct {
		host           string
		runs, visitors []string
	}{
		{"serve", []string{"serve", "registry", "acme", "api"}, []string{"search"}},
		{"trust", []string{"ledger", "trust", "search"}, []string{"serve", "registry", "attestor", "api"}},
		{"builder", []string{"rooms", "builder", "gateway", "driver", "hasher"}, []string{"attestor", "api"}},
		{"attestor", []string{"attestor"}, []string{"api"}},
	} {
		p := onHost(test.host, hosts)
		if err := p.findVisitors(); err != nil {
			t.Errorf("%s: %v", test.host, err)
		}
		var runs []string
		for _, r := range roles() {
			if p.runs(r.name) {
				runs = append(runs, r.name)
			}
		}
		if !slices.Equal(runs, test.runs) || !slices.Equal(p.visitors, test.visitors) {
			t.Errorf("%s: runs %v and is visited by %v, want %v and %v", test.host, runs, p.visitors, test.runs, test.visitors)
		}
		for _, role := range p.visitors {
			if p.users.byRole[role] != peer.Elsewhere {
				t.Errorf("%s: %s is user %d here, want that it comes through the door", test.host, role, p.users.byRole[role])
			}
		}
	}
	// The search does without the archive if it cannot reach the registry.
	alone := onHost("serve", map[string]string{"trust": "t:1"})
	if err := alone.findVisitors(); err != nil || alone.hasVisitors() {
		t.Errorf("search on another host, and no door: got %v, %v", alone.visitors, err)
	}
	// A role on another host needs the door to connect to a role on serve's host.
	if err := onHost("serve", map[string]string{"api": "a:1"}).findVisitors(); err == nil {
		t.Error("without roles.door: got no error")
	}
	p := onHost("serve", map[string]string{"api": "a:1", "door": "d:1"})
	p.users.separate = false
	if err := p.findVisitors(); err == nil {
		t.Error("one user for all roles, over several hosts: got no error")
	}
}

// TestHostname: provenance names the host of the builder as its operator configured it.
func TestHostname(t *testing.T) {
	for _, c := range []struct{ address, want string }{{"build1.example.com:7443", "build1.example.com"}, {"[2001:db8::1]:7443", "2001:db8::1"}, {"", "ci.example.com"}} {
		p := onHost(roleServe, map[string]string{roleBuilder: c.address})
		p.url = "https://ci.example.com:8443"
		if got, err := p.hostname(roleBuilder); got != c.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", c.address, got, err, c.want)
		}
	}
}
