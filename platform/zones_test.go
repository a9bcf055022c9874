package platform

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform/builder"
)

// What the provenance says of the zones, the builder ids and their levels agree: a plain
// user's platform earns less than root's, whatever separates its roles.
func TestPlainUserEarnsLess(t *testing.T) {
	for _, c := range []struct {
		users   users
		zones   string
		id      string
		levels  [2]int // buildkit, golang
		comment string
	}{
		{users{separate: true}, attest.SeparateUsers, "/builders/buildkit/v1", [2]int{3, 2}, "root"},
		{users{separate: true, nested: true}, attest.SubordinateUsers, "/builders/buildkit/plain-user/v1", [2]int{2, 1}, "root of a user namespace"},
		{users{}, attest.OneUser, "/builders/buildkit/one-user/v1", [2]int{2, 1}, "a plain user without namespaces"},
		{users{nested: true}, attest.OneUser, "/builders/buildkit/one-user/v1", [2]int{2, 1}, "a plain user in somebody's namespace"},
	} {
		p := &platform{users: c.users, url: "http://p"}
		list := p.builders()
		if got := p.setup()["zones"]; got != c.zones {
			t.Errorf("%s: zones: got %q, want %q", c.comment, got, c.zones)
		}
		if list[0].Builder.ID != "http://p"+c.id || list[0].Builder.Level != c.levels[0] || list[1].Builder.Level != c.levels[1] {
			t.Errorf("%s: got builders %+v, want %s and levels %v", c.comment, list, c.id, c.levels)
		}
	}
}

// In a user namespace, newUsers does not mistake its root for root of the host.
func TestRootOfANamespaceIsNoRoot(t *testing.T) {
	if os.Getenv("COLOPHON_TEST_NESTED") != "" {
		if u := newUsers(0); u.zones() == attest.SeparateUsers || !u.nested {
			t.Errorf("root of a user namespace: got zones %q", u.zones())
		}
		return
	}
	if u := newUsers(0); os.Geteuid() == 0 && userns.Initial() && u.zones() != attest.SeparateUsers {
		t.Errorf("root of the host: got zones %q", u.zones())
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRootOfANamespaceIsNoRoot$", "-test.v")
	cmd.Env = append(os.Environ(), "COLOPHON_TEST_NESTED=1")
	one := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid())}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestRootOfANamespaceIsNoRoot") {
		t.Errorf("%v: %s", err, out)
	}
}

// A limit that a plain user's rooms cannot have is refused, not forgotten.
func TestPlainUsersRoomsHaveFewerLimits(t *testing.T) {
	plain, root := users{separate: true, nested: true}, users{separate: true}
	for name, l := range map[string]builder.Limits{"cpus": {CPUs: 1}, "memory": {Memory: 1 << 30}, "disk": {Disk: 1 << 30}, "io": {IO: 1 << 20}} {
		if err := plain.checkRooms(buildConfig{Limits: l}); err == nil || !strings.Contains(err.Error(), "build."+name) {
			t.Errorf("build.%s in a user namespace: got %v", name, err)
		}
		if err := root.checkRooms(buildConfig{Limits: l}); err != nil {
			t.Errorf("build.%s of root: %v", name, err)
		}
	}
	if err := plain.checkRooms(buildConfig{Limits: builder.Limits{PIDs: 100}}); err != nil {
		t.Errorf("build.pids in a user namespace: %v", err)
	}
	if err := root.checkRooms(buildConfig{Concurrent: 1000}); err == nil {
		t.Error("1000 builds at once: got no error")
	}
}
