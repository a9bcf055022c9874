package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

// The test binary is also the program in the rooms (it is linked statically).
func TestMain(m *testing.M) {
	Init()
	switch os.Args[0] {
	case "/bin/tenant":
		tenant()
		return
	case "room-parent":
		orphan()
		return
	case "room-role":
		confinedRole()
		return
	case "room-without-loop":
		withoutLoop()
		return
	}
	os.Exit(m.Run())
}

// needRooms skips loudly where rooms cannot be opened, and fails where the
// environment says that they must.
func needRooms(t *testing.T) {
	t.Helper()
	if err := Supported(); err != nil {
		needs.Missing(t, "%v", err)
	}
}

func open(t *testing.T, l builder.Limits) *Room {
	t.Helper()
	return openIn(t, t.TempDir(), l)
}

func openIn(t *testing.T, dir string, l builder.Limits) *Room {
	t.Helper()
	r, err := Open(roomConfig(t, dir, l, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// roomConfig describes a room with the tenant.
func roomConfig(t *testing.T, dir string, l builder.Limits, state io.Reader) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Dir: dir, Limits: l,
		Binds: []Bind{{self, "/bin/tenant"}},
		Files: map[string][]byte{"/etc/hello": []byte("hello")},
		Argv:  []string{"/bin/tenant"}, Env: []string{"ONLY=this"}, Stderr: os.Stderr, State: state,
	}
}

// ask sends the tenant one line and reads its one-line answer.
func ask(t *testing.T, r *Room, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	c, err := r.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(await.Patience))
	fmt.Fprintln(c, line)
	s, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && s == "" {
		return "dead: " + err.Error()
	}
	return strings.TrimSpace(s)
}

func TestRoomHasOnlyWhatItWasGiven(t *testing.T) {
	needRooms(t)
	t.Setenv("SECRET_OF_THE_HOST", "x")
	r := open(t, builder.Limits{})
	var f facts
	if err := json.Unmarshal([]byte(ask(t, r, "facts")), &f); err != nil {
		t.Fatal(err)
	}
	first, size := r.Range()
	if f.UID != 0 || f.PID != 1 || f.UIDMap != fmt.Sprintf("0 %d %d %d %d %d", first, lowIDs, highFrom, first+lowIDs, highIDs) || size != lowIDs+highIDs {
		t.Errorf("uid %d, pid %d, map %q", f.UID, f.PID, f.UIDMap)
	}
	if want := []string{"ONLY=this", "LISTEN_PID=1", "LISTEN_FDS=1"}; !slices.Equal(f.Env, want) {
		t.Errorf("environment: got %q, want %q", f.Env, want)
	}
	if want := []string{"bin", "dev", "etc", "proc", "root", "run", "state", "sys", "tmp", "var"}; !slices.Equal(f.Root, want) {
		t.Errorf("root directory: got %q, want %q", f.Root, want)
	}
	if want := []string{"lo"}; !slices.Equal(f.Links, want) {
		t.Errorf("network devices: got %q, want %q", f.Links, want)
	}
	var pids []string
	for _, p := range f.Procs {
		if p[0] >= '0' && p[0] <= '9' {
			pids = append(pids, p)
		}
	}
	if !slices.Equal(pids, []string{"1"}) {
		t.Errorf("processes in sight: got %q, want only 1", pids)
	}
	if strings.Contains(f.Cgroup, "colophon") {
		t.Errorf("the room sees its place in the host's cgroups: %s", f.Cgroup)
	}
	if f.Host != "room" {
		t.Errorf("host name: got %q, want %q", f.Host, "room")
	}
	if got := ask(t, r, "read /etc/hello"); got != "hello" {
		t.Errorf("/etc/hello: got %q", got)
	}
	if got := ask(t, r, "read /proc/self/oom_score_adj"); got != "1000" {
		t.Errorf("when the host's memory runs out, the room is killed in this order: %q, want 1000, the first", got)
	}
	if got := ask(t, r, "write /state/x"); got != "<nil>" {
		t.Errorf("/state is not writable: %s", got)
	}
	// What the host owns cannot be written, and its secrets are not there.
	for _, path := range []string{"/bin/tenant", "/sys/kernel/uevent_seqnum", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if got := ask(t, r, "write "+path); got == "<nil>" {
			t.Errorf("%s could be written", path)
		}
	}
	for _, path := range []string{"/etc/shadow", "/root/.ssh", "/proc/1/root/etc/shadow", r.dir + "/lock"} {
		if got := ask(t, r, "read "+path); !strings.Contains(got, "no such file") {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestRoomReachesOnlyTheGateway(t *testing.T) {
	needRooms(t)
	r := open(t, builder.Limits{})
	go func() {
		for {
			c, err := r.Gateway.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "gateway")
			c.Close()
		}
	}()
	if got := ask(t, r, "dial "+GatewayAddress); got != "connected gateway" {
		t.Fatalf("gateway: %s", got)
	}
	// The host's services, by every address it has, and the usual metadata service.
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	targets := []string{"169.254.169.254:80", "1.1.1.1:443", "127.0.0.1:" + port}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			targets = append(targets, net.JoinHostPort(ip.IP.String(), port))
		}
	}
	for _, target := range targets {
		if got := ask(t, r, "dial "+target); strings.HasPrefix(got, "connected") {
			t.Errorf("%s can be reached from the room", target)
		}
	}
	// Abstract sockets belong to the network namespace.
	u, err := net.Listen("unix", "@colophon-sandbox-test")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if got := ask(t, r, "unix @colophon-sandbox-test"); got == "<nil>" {
		t.Error("an abstract socket of the host can be reached from the room")
	}
}

func TestNetworkHookRunsBeforeTheProgram(t *testing.T) {
	needRooms(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Dir: t.TempDir(), Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"}, Stderr: os.Stderr,
		Files: map[string][]byte{"/etc/hello": []byte("hello")},
	}
	cfg.Network = func(l net.Listener) (map[string][]byte, error) {
		return map[string][]byte{"/etc/ca.pem": []byte("of " + l.Addr().String())}, nil
	}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, want := ask(t, r, "read /etc/ca.pem"), "of "+GatewayAddress; got != want {
		t.Errorf("the gateway's file: got %q, want %q", got, want)
	}
	if got := ask(t, r, "read /etc/hello"); got != "hello" {
		t.Errorf("/etc/hello: got %q", got)
	}
	// What it cannot give, or may not, opens no room and leaves nothing.
	for _, bad := range []func(net.Listener) (map[string][]byte, error){
		func(net.Listener) (map[string][]byte, error) { return nil, errors.New("no key") },
		func(net.Listener) (map[string][]byte, error) {
			return map[string][]byte{"/etc/hello": nil}, nil
		},
	} {
		cfg.Dir, cfg.Network = t.TempDir(), bad
		if r, err := Open(cfg); err == nil {
			r.Close()
			t.Error("a room opened without its gateway")
		}
		if left := list(cfg.Dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestLimitsEndTheRoomAndNothingElse(t *testing.T) {
	needRooms(t)
	other := open(t, builder.Limits{})
	r := open(t, builder.Limits{Memory: 64 << 20})
	if got := ask(t, r, "eat"); !strings.HasPrefix(got, "dead") {
		t.Errorf("a tenant above its memory limit lives: %s", got)
	}
	if err := r.Exceeded(); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Errorf("the limit is not named: %v", err)
	}
	p := open(t, builder.Limits{PIDs: 32})
	if got := ask(t, p, "fork"); !strings.HasPrefix(got, "stopped") && !strings.HasPrefix(got, "dead") {
		t.Errorf("no limit of processes: %s", got)
	}
	if err := p.Exceeded(); err == nil || !strings.Contains(err.Error(), "32") {
		t.Errorf("the limit is not named: %v", err)
	}
	if got := ask(t, other, "read /etc/hello"); got != "hello" {
		t.Errorf("the room beside it: %s", got)
	}
}

func waitDone(t *testing.T, r *Room) {
	t.Helper()
	await.Value(t, "the end of the room", r.Done())
}

func TestFullDiskEndsTheRoomAndNothingElse(t *testing.T) {
	needRooms(t)
	other := open(t, builder.Limits{})
	for what, want := range map[string]string{
		"fill /state/x": "disk full: the limit is 67108864 bytes",
		"files /state":  "disk full: the limit is 16384 files",
	} {
		r := open(t, builder.Limits{Disk: 64 << 20})
		var kind, size, flags int64
		fmt.Sscanf(ask(t, r, "statfs /state"), "%x %d %x", &kind, &size, &flags)
		if kind != unix.EXT4_SUPER_MAGIC || size == 0 || size > 64 || flags&unix.ST_NOSUID == 0 || flags&unix.ST_NODEV == 0 {
			t.Errorf("file system %x of %d MiB with flags %x, want ext4 of at most 64, nosuid and nodev", kind, size, flags)
		}
		// It is stopped by its disk, or ended first.
		if got := ask(t, r, what); !strings.HasPrefix(got, "stopped") && !strings.HasPrefix(got, "dead") {
			t.Errorf("%s: %s", what, got)
		}
		waitDone(t, r)
		if err := r.Exceeded(); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", what, err, want)
		}
	}
	if got := ask(t, other, "write /state/x"); got != "<nil>" {
		t.Errorf("the room beside it: %s", got)
	}
	if err := other.Exceeded(); err != nil {
		t.Errorf("the room beside it: %v", err)
	}
	// Its other directories are small, and memory that it pays for.
	for _, dir := range []string{"/", "/tmp", "/run", "/dev", "/etc"} {
		if got := ask(t, other, "statfs "+dir); !strings.HasPrefix(got, "1021994 256 ") {
			t.Errorf("%s: got %s, want a tmpfs (1021994) of 256 MiB", dir, got)
		}
	}
	if _, err := Open(Config{Dir: t.TempDir(), Limits: builder.Limits{Disk: 1 << 20}}); err == nil || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("a disk that nothing fits on: got %v", err)
	}
}

// Images promise more than the machine may have: the room that took most ends.
func TestFullMachineEndsTheLargestRoom(t *testing.T) {
	needRooms(t)
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, fmt.Sprintf("size=%d", hostReserve+256<<20)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	small, large := openIn(t, dir, builder.Limits{Disk: 1 << 30}), openIn(t, dir, builder.Limits{Disk: 1 << 30})
	if got := ask(t, small, "fill /state/x 16"); got != "wrote 16" {
		t.Fatal(got)
	}
	ask(t, large, "fill /state/x 300")
	// The kernel writes to the image when it likes; this is now.
	if conn, err := large.disk.root.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.Syncfs(int(fd)) })
	}
	waitDone(t, large)
	if err := large.Exceeded(); err == nil || !strings.Contains(err.Error(), "the machine has") {
		t.Errorf("got %v", err)
	}
	if got := ask(t, small, "write /state/y"); got != "<nil>" {
		t.Errorf("the room beside it: %s", got)
	}
	if free, err := freeBytes(dir); err == nil && free < hostReserve {
		if _, err := newDisk(dir, 0, 0); err == nil {
			t.Error("a room opened on a full machine")
		}
	}
}

// A host without loop devices, as seen by a process that cannot reach them.
func TestWithoutLoopDevicesTheDiskIsMemory(t *testing.T) {
	needRooms(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"room-without-loop"}
	cmd.Env = append(os.Environ(), "ROOMS="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"filesystem: tmpfs, counted as memory: no loop device", "statfs: 1021994 64 ", "fill: stopped", "exceeded: disk full: the limit is 67108864 bytes"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got\n%swant %q", out, want)
		}
	}
}

func withoutLoop() {
	if err := unix.Mount("/dev/null", "/dev/loop-control", "", unix.MS_BIND, ""); err != nil {
		panic(err)
	}
	self, _ := os.Executable()
	r, err := Open(Config{Dir: os.Getenv("ROOMS"), Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"}, Limits: builder.Limits{Disk: 64 << 20, Memory: 512 << 20}})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println("filesystem:", r.Describe()["filesystem"])
	for _, q := range []string{"statfs /state", "fill /state/x"} {
		c, err := r.Dial(context.Background())
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(c, q)
		a, _ := io.ReadAll(c)
		if len(a) == 0 {
			a = []byte("stopped, with the room\n")
		}
		fmt.Printf("%s: %s", strings.Fields(q)[0], a)
	}
	select {
	case <-r.Done():
	case <-time.After(await.Patience):
	}
	fmt.Println("exceeded:", r.Exceeded())
}

func TestRoomCannotWidenItself(t *testing.T) {
	needRooms(t)
	r := open(t, builder.Limits{})
	if got, want := ask(t, r, "limits"), "0 true [1 2]"; got != want {
		t.Errorf("core dumps, open files, no_new_privs and seccomp: got %s, want %s", got, want)
	}
	if got := ask(t, r, "mknod /state/loop0"); got != unix.EPERM.Error() {
		t.Errorf("a device node: %s", got)
	}
	if got := ask(t, r, "read /dev/loop0"); !strings.Contains(got, "no such file") {
		t.Errorf("a device of the host: %s", got)
	}
	if got := ask(t, r, "unshare"); got != unix.EPERM.Error() {
		t.Errorf("a user namespace of its own: %s", got)
	}
	for _, family := range []int{unix.AF_ALG, unix.AF_VSOCK, unix.AF_PACKET, unix.AF_XDP} {
		if got := ask(t, r, fmt.Sprint("socket ", family)); got != unix.EAFNOSUPPORT.Error() {
			t.Errorf("a socket of family %d: %s", family, got)
		}
	}
	d := r.Describe()
	if !strings.HasPrefix(d["seccomp"], "sha256:") || d["filesystem"] != "ext4" || d["limits.disk"] == "" {
		t.Errorf("description: %v", d)
	}
}

func TestInputAndOutputAreLimitedByDevice(t *testing.T) {
	needRooms(t)
	r := open(t, builder.Limits{IO: 1 << 20, Disk: 64 << 20})
	files := deviceLimits
	want := r.disk.device + " 1048576\n"
	if unified() {
		files, want = []string{r.cgroup.file("", "", "io.max")}, r.disk.device+" rbps=1048576 wbps=1048576"
	}
	for _, path := range files {
		if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: got %q %v, want %q", path, data, err, want)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if data, _ := os.ReadFile(path); strings.Contains(string(data), r.disk.device+" ") {
			t.Errorf("%s: the device is limited after its room: %q", path, data)
		}
	}
	if unified() {
		return
	}
	// What a room leaves that was never closed.
	if err := throttleDevice(r.disk.device, 12345); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if data, _ := os.ReadFile(path); strings.Contains(string(data), "12345") {
			t.Errorf("%s: a limit outlived its room: %q", path, data)
		}
	}
}

func TestRoomsHaveDifferentUsers(t *testing.T) {
	needRooms(t)
	a, _ := open(t, builder.Limits{}).Range()
	b, _ := open(t, builder.Limits{}).Range()
	if a == b {
		t.Errorf("two rooms have the same uid range %d", a)
	}
}

func TestProgramFindsItsLibraries(t *testing.T) {
	binds, err := Program("/bin/sh", "/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if len(binds) < 3 || !strings.Contains(fmt.Sprint(binds), "libc.so") {
		t.Errorf("got %v, want a loader and libc", binds)
	}
	self, _ := os.Executable()
	if binds, err = Program(self, "/x"); err != nil || len(binds) != 1 {
		t.Errorf("a static program: got %v, %v", binds, err)
	}
}
