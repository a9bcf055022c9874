package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/test/needs"
)

// The rooms of a plain user have ids below those of the roles, and those that images use.
func TestNestedIDs(t *testing.T) {
	const roles = 64700 // roles.uidBase of package platform
	first, size, err := nestedIDs.uids(0)
	if err != nil || first == 0 || first+size > roles || first+size > userns.Size {
		t.Errorf("got ids %d to %d, %v, want them between 1 and %d", first, first+size-1, err, roles-1)
	}
	if _, _, err := nestedIDs.uids(hostIDs.first); err == nil {
		t.Error("ids that a plain user does not have: got no error")
	}
	for _, id := range []uint32{0, 42, 100, 1000, 10001, 65532, 65534} {
		if id >= nestedIDs.low && (id < nestedIDs.highFrom || id >= nestedIDs.highFrom+nestedIDs.high) {
			t.Errorf("a room has no id %d", id)
		}
	}
}

// One number limits the processes of a namespace, whatever users they have. The kernel
// exempts root of the host, so another user creates the namespace.
func TestLimitProcesses(t *testing.T) {
	const most = 20
	switch os.Getenv("COLOPHON_TEST_PROCESSES") {
	case "inside":
		started := 0
		for i := range 3 * most {
			cmd := exec.Command("sleep", "100")
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uint32(i), Gid: 0, NoSetGroups: true}}
			if cmd.Start() == nil {
				started++
			}
		}
		fmt.Println("started:", started, "of", 3*most)
		return
	case "owner":
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimitProcesses$")
		cmd.Env = append(os.Environ(), "COLOPHON_TEST_PROCESSES=inside", "GOMAXPROCS=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := limitProcesses(most, func() error { return waitForIDs(cmd) }); err != nil {
			t.Fatal(err)
		}
		return
	}
	needs.Root(t, "becoming another user")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimitProcesses$")
	cmd.Env = append(os.Environ(), "COLOPHON_TEST_PROCESSES=owner")
	// The same user must not have other processes, so it is one of the rooms'.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(hostIDs.first) + 90<<21, Size: 1000}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(hostIDs.first) + 90<<21, Size: 1000}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	out, err := cmd.CombinedOutput()
	var started, of int
	if _, serr := fmt.Sscanf(strings.TrimSpace(string(out)), "started: %d of %d", &started, &of); err != nil || serr != nil || started == 0 || started >= most {
		t.Errorf("got %v, %s, want some processes and fewer than %d", err, out, most)
	}
}

// waitForIDs runs cmd in a user namespace with 100 ids.
func waitForIDs(cmd *exec.Cmd) error {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100, Size: 100}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	return cmd.Run()
}
