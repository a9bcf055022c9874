package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// A role that has Capabilities and nothing else opens rooms; with one less it
// does not.
func TestConfinedRoleOpensRooms(t *testing.T) {
	needRooms(t)
	const opened = "opened and closed\n"
	try := func(without string, within time.Duration) string {
		// A role that may not kill its room waits for ever, and leaves it behind.
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		dir := t.TempDir()
		defer Sweep(dir)
		cmd := exec.CommandContext(ctx, "/proc/self/exe")
		cmd.Args = []string{"room-role"}
		cmd.Env = append(os.Environ(), "ROOMS="+dir, "WITHOUT="+without)
		cmd.WaitDelay = 100 * time.Millisecond
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if got := try("", await.Patience); got != opened {
		t.Errorf("got %s", got)
	}
	for _, c := range Capabilities() {
		if got := try(fmt.Sprint(c), 10*time.Second); strings.HasSuffix(got, opened) {
			t.Errorf("capability %d is not needed", c)
		}
	}
}

// When a role that has only Capabilities is killed, so are its rooms: their parent death
// signal needs the right to signal the room's user.
func TestKilledRoleLeavesNoRoom(t *testing.T) {
	needRooms(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"room-role"}
	dir := t.TempDir()
	defer Sweep(dir)
	cmd.Env = append(os.Environ(), "ROOMS="+dir, "HOLD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var pid int
	if _, err := fmt.Fscanf(out, "holding %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	await.True(t, "the process of the room ends with its role", func() bool { return unix.Kill(pid, 0) != nil })
}

func confinedRole() {
	caps := slices.DeleteFunc(Capabilities(), func(c int) bool { return fmt.Sprint(c) == os.Getenv("WITHOUT") })
	err := confine.Role(confine.Policy{Rooms: true, Capabilities: caps})
	if err == nil {
		err = openAndClose()
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("opened and closed")
}

func openAndClose() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, err := Open(Config{
		Dir: os.Getenv("ROOMS"), Limits: builder.Limits{CPUs: 1, Memory: 256 << 20, PIDs: 64, Disk: 64 << 20, IO: 1 << 30},
		Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"}, Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	if os.Getenv("HOLD") != "" {
		fmt.Printf("holding %d\n", r.cmd.Process.Pid)
		select {}
	}
	if err := r.Close(); err != nil {
		return err
	}
	return Sweep(os.Getenv("ROOMS"))
}
