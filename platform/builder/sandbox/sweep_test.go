package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

func TestCloseLeavesNothing(t *testing.T) {
	needRooms(t)
	r := open(t, builder.Limits{Memory: 512 << 20})
	ask(t, r, "write /state/file")
	uid, _ := r.Range()
	if len(processesOf(uid)) == 0 {
		t.Fatal("no process of the room's user: the test sees nothing")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, uid, r.dir)
}

func nothingLeft(t *testing.T, uid uint32, dir string) {
	t.Helper()
	if p := processesOf(uid); len(p) > 0 {
		t.Errorf("processes left: %v", p)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left", dir)
	}
	left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/colophon/uid-%d", uid))
	more, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/colophon/uid-%d", uid))
	if left = append(left, more...); len(left) > 0 {
		t.Errorf("cgroups left: %v", left)
	}
	for _, d := range list("/sys/block") {
		if data, _ := os.ReadFile("/sys/block/" + d + "/loop/backing_file"); strings.HasPrefix(string(data), dir) {
			t.Errorf("%s still has %s", d, data)
		}
	}
	for _, name := range list("/proc") {
		if data, _ := os.ReadFile("/proc/" + name + "/mountinfo"); strings.Contains(string(data), dir) {
			t.Errorf("process %s has a mount of %s", name, dir)
		}
	}
}

func processesOf(uid uint32) (pids []string) {
	for _, p := range list("/proc") {
		info, err := os.Stat("/proc/" + p)
		stat, _ := os.ReadFile("/proc/" + p + "/stat")
		// Those that ended and were not waited for yet do not count.
		if err == nil && p[0] >= '0' && p[0] <= '9' && info.Sys().(*syscall.Stat_t).Uid == uid && !strings.Contains(string(stat), ") Z ") {
			pids = append(pids, p)
		}
	}
	return pids
}

// orphan opens a room, says where, and waits to be killed.
func orphan() {
	self, _ := os.Executable()
	r, err := Open(Config{Dir: os.Getenv("ROOMS"), Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"}, Limits: builder.Limits{Memory: 256 << 20}})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	uid, _ := r.Range()
	fmt.Println(uid, r.dir)
	select {}
}

func TestSweepAfterKill(t *testing.T) {
	needRooms(t)
	rooms := t.TempDir()
	live := open(t, builder.Limits{})
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"room-parent"}
	cmd.Env = append(os.Environ(), "ROOMS="+rooms)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var uid uint32
	var dir string
	if _, err := fmt.Fscan(out, &uid, &dir); err != nil {
		t.Fatal(err)
	}
	// While its parent lives a room is not swept.
	if err := Sweep(rooms); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("a room in use was swept: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	await.True(t, "no process of the room is left", func() bool { return len(processesOf(uid)) == 0 })
	if err := Sweep(rooms); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, uid, dir)
	if got := ask(t, live, "facts"); strings.HasPrefix(got, "dead") {
		t.Error("sweeping ended a room in use")
	}
}

// What a machine that lost its power leaves, beside what no crash of ours can.
func TestSweepAfterCrashOfTheMachine(t *testing.T) {
	needRooms(t)
	rooms := t.TempDir()
	const uid = uidBase + 100*slotSize // no test opens a hundred rooms
	dir := filepath.Join(rooms, fmt.Sprintf("room-%d-123", uid))
	for _, d := range []string{dir, filepath.Join(rooms, "room-garbage"), filepath.Join(rooms, "else")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"lock", imageName, "sock"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newCgroup(fmt.Sprintf("uid-%d", uid), "", builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("/bin/sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.add(sleeper.Process.Pid); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	if err := Sweep(rooms); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a process in a room's cgroup lives")
	}
	nothingLeft(t, uid, dir)
	if got := list(rooms); !slices.Equal(got, []string{"else"}) {
		t.Errorf("left: %v", got)
	}
	if err := Sweep(filepath.Join(rooms, "none")); err != nil {
		t.Error(err)
	}
}
