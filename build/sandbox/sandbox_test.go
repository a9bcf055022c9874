package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/build"
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
	}
	os.Exit(m.Run())
}

// needRooms skips loudly where rooms cannot be opened, and fails where the
// environment says that they must.
func needRooms(t *testing.T) {
	t.Helper()
	if err := Supported(); err != nil {
		if os.Getenv("COLOPHON_REQUIRE_BUILD") == "1" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED: %v", err)
	}
}

func open(t *testing.T, l build.Limits) *Room {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(Config{
		Dir: t.TempDir(), Limits: l,
		Binds: []Bind{{self, "/bin/tenant"}},
		Files: map[string][]byte{"/etc/hello": []byte("hello")},
		Argv:  []string{"/bin/tenant"}, Env: []string{"ONLY=this"}, Stderr: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// ask sends the tenant one line and reads its one-line answer.
func ask(t *testing.T, r *Room, line string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := r.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintln(c, line)
	s, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && s == "" {
		return "dead: " + err.Error()
	}
	return strings.TrimSpace(s)
}

type facts struct {
	Env, Root, Procs, Links, Groups []string
	UID, PID                        int
	UIDMap, Host, Cgroup            string
}

// tenant is the program: it serves commands on the socket it was given.
func tenant() {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprintln(c, answer(strings.Fields(line)))
		c.Close()
	}
}

func answer(w []string) string {
	switch w[0] {
	case "facts":
		f := facts{Env: os.Environ(), UID: os.Getuid(), PID: os.Getpid()}
		f.Host, _ = os.Hostname()
		m, _ := os.ReadFile("/proc/self/uid_map")
		f.UIDMap = strings.Join(strings.Fields(string(m)), " ")
		cg, _ := os.ReadFile("/proc/self/cgroup")
		f.Cgroup = string(cg)
		f.Root = append(f.Root, list("/")...)
		f.Procs = list("/proc")
		ifs, _ := net.Interfaces()
		for _, i := range ifs {
			f.Links = append(f.Links, i.Name)
		}
		out, _ := json.Marshal(f)
		return string(out)
	case "dial":
		c, err := net.DialTimeout("tcp", w[1], 2*time.Second)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		b, _ := io.ReadAll(c)
		return "connected " + string(b)
	case "unix":
		_, err := net.Dial("unix", w[1])
		return fmt.Sprint(err)
	case "write":
		return fmt.Sprint(os.WriteFile(w[1], []byte("x"), 0o644))
	case "read":
		b, err := os.ReadFile(w[1])
		if err != nil {
			return err.Error()
		}
		return string(b)
	case "eat":
		var keep [][]byte
		for range 1024 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			keep = append(keep, b)
		}
		return fmt.Sprint("ate ", len(keep))
	case "fork":
		n := 0
		for range 100 {
			cmd := exec.Command("/bin/tenant")
			cmd.Args = []string{"/bin/tenant"} // waits on a socket that it does not have: ends, or not
			r, _, _ := os.Pipe()
			cmd.ExtraFiles = []*os.File{r}
			if err := cmd.Start(); err != nil {
				return fmt.Sprintf("stopped at %d: %v", n, err)
			}
			n++
		}
		return fmt.Sprint("forked ", n)
	}
	return "what? " + w[0]
}

func list(dir string) (names []string) {
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func TestRoomHasOnlyWhatItWasGiven(t *testing.T) {
	needRooms(t)
	t.Setenv("SECRET_OF_THE_HOST", "x")
	r := open(t, build.Limits{})
	var f facts
	if err := json.Unmarshal([]byte(ask(t, r, "facts")), &f); err != nil {
		t.Fatal(err)
	}
	first, size := r.Range()
	if f.UID != 0 || f.PID != 1 || f.UIDMap != fmt.Sprintf("0 %d %d", first, size) {
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
	r := open(t, build.Limits{})
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
	other := open(t, build.Limits{})
	r := open(t, build.Limits{Memory: 64 << 20})
	if got := ask(t, r, "eat"); !strings.HasPrefix(got, "dead") {
		t.Errorf("a tenant above its memory limit lives: %s", got)
	}
	if err := r.Exceeded(); err == nil || !strings.Contains(err.Error(), "67108864") {
		t.Errorf("the limit is not named: %v", err)
	}
	p := open(t, build.Limits{PIDs: 32})
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

func TestRoomsHaveDifferentUsers(t *testing.T) {
	needRooms(t)
	a, _ := open(t, build.Limits{}).Range()
	b, _ := open(t, build.Limits{}).Range()
	if a == b {
		t.Errorf("two rooms have the same uid range %d", a)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	needRooms(t)
	r := open(t, build.Limits{Memory: 512 << 20})
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
}

func processesOf(uid uint32) (pids []string) {
	for _, p := range list("/proc") {
		info, err := os.Stat("/proc/" + p)
		if err == nil && p[0] >= '0' && p[0] <= '9' && info.Sys().(*syscall.Stat_t).Uid == uid {
			pids = append(pids, p)
		}
	}
	return pids
}

// orphan opens a room, says where, and waits to be killed.
func orphan() {
	self, _ := os.Executable()
	r, err := Open(Config{Dir: os.Getenv("ROOMS"), Binds: []Bind{{self, "/bin/tenant"}}, Argv: []string{"/bin/tenant"}, Limits: build.Limits{Memory: 256 << 20}})
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
	live := open(t, build.Limits{})
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
	for range 200 {
		if len(processesOf(uid)) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := Sweep(rooms); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, uid, dir)
	if got := ask(t, live, "facts"); strings.HasPrefix(got, "dead") {
		t.Error("sweeping ended a room in use")
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
