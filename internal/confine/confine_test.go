package confine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/test/needs"
)

// Confinement cannot be undone, so the tests confine subprocesses: this program,
// started again with a marker.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "confined":
		confined()
	case "peer":
		peer()
	default:
		os.Exit(m.Run())
	}
}

// errnoName returns the name of a call's error; "" if the call succeeded.
func errnoName(e error) string {
	if e == nil {
		return ""
	}
	if errno, ok := errors.AsType[syscall.Errno](e); ok {
		return unix.ErrnoName(errno)
	}
	return e.Error()
}

// call returns a function that makes a system call and returns its error.
func call(nr uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		r, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno == 0 {
			if nr == unix.SYS_SOCKET {
				unix.Close(int(r))
			}
			return nil
		}
		return errno
	}
}

func socket(domain, kind, protocol uintptr) func() error {
	return call(unix.SYS_SOCKET, domain, kind, protocol)
}

var nothing [64]byte

func start(path string, args ...string) error {
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// attempts are the calls that a confined process tries. They have no effect if they
// are allowed.
var attempts = map[string]func() error{
	"exec":            func() error { return syscall.Exec("/nonexistent", []string{"x"}, nil) },
	"start":           func() error { return start("/bin/true") },
	"fork":            call(unix.SYS_CLONE, uintptr(unix.SIGCHLD|unix.CLONE_NEWUSER|unix.CLONE_THREAD)), // invalid: EINVAL
	"unix":            socket(unix.AF_UNIX, unix.SOCK_STREAM, 0),
	"inet":            socket(unix.AF_INET, unix.SOCK_STREAM, 0),
	"inet6":           socket(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP),
	"sctp":            socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP),
	"mptcp":           socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP),
	"packet":          socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"inet-packet":     socket(unix.AF_INET, unix.SOCK_PACKET, 0x300),
	"vsock":           socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"alg":             socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"xdp":             socket(unix.AF_XDP, unix.SOCK_RAW, 0),
	"route":           socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
	"audit":           socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
	"filter":          socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
	"generic":         socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC),
	"alg-high-bits":   socket(1<<32|unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"unix-pair":       func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
	"bpf":             call(unix.SYS_BPF, 0, 0, 0),
	"clone3":          call(unix.SYS_CLONE3, 0, 0),
	"io_setup":        call(unix.SYS_IO_SETUP, 0, 0), // no events: EINVAL
	"io_uring":        call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&nothing))),
	"keyctl":          call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0), // the session keyring
	"userfaultfd":     call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1),
	"perf":            call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0),
	"kcmp":            call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 0, 0, 0),
	"process_vm":      call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getpid()), 0, 0, 0, 0, 0),
	"handle":          call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0),
	"settime":         call(unix.SYS_CLOCK_SETTIME, 0, 0),
	"syslog":          call(unix.SYS_SYSLOG, 10, 0, 0),
	"reboot":          call(unix.SYS_REBOOT, 0, 0, 0, 0),
	"tiocsti":         call(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0),
	"personality":     call(unix.SYS_PERSONALITY, 0xffffffff),
	"no-randomize":    call(unix.SYS_PERSONALITY, 0x0040000),
	"mount":           call(unix.SYS_MOUNT, 0, 0, 0, 0, 0),
	"unshare":         call(unix.SYS_UNSHARE, 0),
	"unshare-user":    call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER|1), // invalid: EINVAL
	"setns":           call(unix.SYS_SETNS, ^uintptr(0), 0),
	"chroot":          call(unix.SYS_CHROOT, 0),
	"traceme":         call(unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, 1, 0),
	"x32":             call(1<<30 | unix.SYS_GETPID),
	"newer":           call(newest + 1),
	"getpid":          call(unix.SYS_GETPID),
	"thread":          func() error { return eachThread(4, func() error { return nil }) },
	"child's filters": childFilters,
	"tiny":            func() error { return start(os.Getenv("TINY")) },
}

func childFilters() error {
	out, err := exec.Command("/bin/grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status").Output()
	if err == nil && string(out) != "NoNewPrivs:\t1\nSeccomp:\t2\n" {
		err = fmt.Errorf("got %q", out)
	}
	return err
}

// eachThread runs f on n threads at once.
func eachThread(n int, f func() error) error {
	var all sync.WaitGroup
	barrier := make(chan struct{})
	errs := make([]error, n)
	for i := range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			all.Done()
			<-barrier
			errs[i] = f()
		})
	}
	all.Wait()
	all.Add(n)
	close(barrier)
	all.Wait()
	return errors.Join(errs...)
}

type request struct {
	Role *Policy // nil: the filter of a room, or none
	Room bool
	Try  []string
	Hold bool // then wait until stdin ends
	UID  int
}

type reply struct {
	Err   string
	Got   map[string]string
	State State
}

// confined confines its own process, makes the attempts it is told to, and reports
// their results.
func confined() {
	var req request
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&req); err != nil {
		panic(err)
	}
	// The attempts are also made on this thread, which exists before the confinement.
	type job func() error
	jobs, results := make(chan job), make(chan error)
	go func() {
		runtime.LockOSThread()
		for j := range jobs {
			results <- j()
		}
	}()
	jobs <- func() error { return nil }
	<-results

	var err error
	if req.Role != nil {
		err = Role(*req.Role)
	} else if req.Room {
		// no_new_privs belongs to a thread: the kernel copies it to the others, with the
		// filter, only from the thread that installs the filter.
		runtime.LockOSThread()
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			err = Room().Install()
		}
	}
	out := reply{Got: map[string]string{}}
	if err != nil {
		out.Err = err.Error()
	}
	for _, name := range req.Try {
		f := attempts[name]
		if f == nil {
			panic("no attempt " + name)
		}
		got := errnoName(f())
		jobs <- f
		if other := errnoName(<-results); other != got {
			got += ", on another thread " + other
		}
		out.Got[name] = got
	}
	if out.State, err = Describe(); err != nil {
		out.Err += err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(out)
	if req.Hold {
		io.Copy(io.Discard, in.Buffered())
		io.Copy(io.Discard, os.Stdin)
	}
	os.Exit(0)
}

func command(t *testing.T, name string, uid int) *exec.Cmd {
	t.Helper()
	if uid != os.Geteuid() && os.Geteuid() != 0 {
		needs.Missing(t, "needs root to become uid %d", uid)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{name}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	return cmd
}

func run(t *testing.T, req request) reply {
	t.Helper()
	in, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "confined", req.UID)
	cmd.Stdin = bytes.NewReader(in)
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("%+v: %v: %s", req, err, raw)
	}
	var out reply
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if out.Err != "" {
		t.Fatal(out.Err)
	}
	return out
}

const nobody = 65534

// alwaysRefused lists the attempts that every role and every room refuses.
var alwaysRefused = map[string]string{
	"bpf": "EPERM", "perf": "EPERM", "kcmp": "EPERM", "process_vm": "EPERM", "handle": "EPERM", "settime": "EPERM",
	"syslog": "EPERM", "reboot": "EPERM", "tiocsti": "EPERM", "no-randomize": "EPERM", "inet-packet": "EPERM",
	"clone3": "ENOSYS", "io_uring": "ENOSYS", "io_setup": "ENOSYS", "keyctl": "ENOSYS", "userfaultfd": "ENOSYS", "x32": "ENOSYS", "newer": "ENOSYS",
	"alg": "EAFNOSUPPORT", "alg-high-bits": "EAFNOSUPPORT", "vsock": "EAFNOSUPPORT", "packet": "EAFNOSUPPORT", "xdp": "EAFNOSUPPORT",
	"personality": "", "getpid": "", "unix": "", "unix-pair": "", "thread": "",
}

func TestRolesByWhatTheyTry(t *testing.T) {
	closed := map[string]string{
		"mount": "EPERM", "unshare": "EPERM", "unshare-user": "EPERM", "setns": "EPERM", "chroot": "EPERM", "traceme": "EPERM", "fork": "EPERM",
	}
	noExec := map[string]string{"exec": "EPERM", "start": "EPERM"}
	exec := map[string]string{"exec": "ENOENT", "start": "", "child's filters": ""}
	noInet := map[string]string{
		"inet": "EAFNOSUPPORT", "inet6": "EAFNOSUPPORT", "route": "EAFNOSUPPORT", "audit": "EAFNOSUPPORT", "sctp": "EAFNOSUPPORT",
	}
	inet := map[string]string{"inet": "", "inet6": "", "route": "", "audit": "EPROTONOSUPPORT", "filter": "EPROTONOSUPPORT", "generic": "EPROTONOSUPPORT", "sctp": "EPROTONOSUPPORT", "mptcp": "EPROTONOSUPPORT"}
	rooms := map[string]string{"filter": "", "unshare": "", "unshare-user": "EINVAL", "setns": "EBADF", "mount": "EFAULT"}
	tests := []struct {
		name   string
		policy Policy
		want   []map[string]string
		state  State
	}{
		{"keys", Policy{}, []map[string]string{closed, noExec, noInet}, State{}},
		{"network", Policy{Inet: true}, []map[string]string{closed, noExec, inet}, State{Inet: true}},
		{"git", Policy{Exec: true}, []map[string]string{closed, exec, noInet}, State{Exec: true}},
		{"git and network", Policy{Exec: true, Inet: true}, []map[string]string{closed, exec, inet}, State{Exec: true, Inet: true}},
		{"rooms", Policy{Rooms: true, Capabilities: []int{unix.CAP_SYS_ADMIN}}, []map[string]string{exec, inet, rooms}, State{Exec: true, Inet: true, Namespaces: true}},
	}
	for _, tt := range tests {
		for _, uid := range []int{0, nobody} {
			t.Run(fmt.Sprintf("%s as %d", tt.name, uid), func(t *testing.T) {
				t.Parallel()
				want := map[string]string{}
				for _, m := range append(tt.want, alwaysRefused) {
					maps.Copy(want, m)
				}
				req := request{Role: &tt.policy, UID: uid}
				for name := range want {
					req.Try = append(req.Try, name)
				}
				slices.Sort(req.Try)
				got := run(t, req)
				for _, name := range req.Try {
					if got.Got[name] != want[name] {
						t.Errorf("%s: got %q, want %q", name, got.Got[name], want[name])
					}
				}
				s := got.State
				st := tt.state
				st.UID, st.GID, st.NoNewPrivileges, st.Seccomp = uid, uid, true, true
				st.Dumpable = tt.policy.Rooms && uid != 0
				st.Capabilities = []string{}
				if uid == 0 {
					for _, c := range tt.policy.Capabilities {
						st.Capabilities = append(st.Capabilities, capName(c))
					}
					st.Bounding = st.Capabilities
				} else {
					st.Bounding = s.Bounding // cannot be shrunk without root
				}
				if fmt.Sprint(s) != fmt.Sprint(st) {
					t.Errorf("state: got %+v, want %+v", s, st)
				}
			})
		}
	}
}

func TestRoomFilterByWhatIsTried(t *testing.T) {
	want := map[string]string{
		"exec": "ENOENT", "start": "", "inet": "", "inet6": "", "route": "", "filter": "", "audit": "EPROTONOSUPPORT", "generic": "EPROTONOSUPPORT", "sctp": "EPROTONOSUPPORT",
		"unshare": "", "unshare-user": "EPERM", "fork": "EPERM", "setns": "EBADF", "mount": "EFAULT",
	}
	maps.Copy(want, alwaysRefused)
	req := request{Room: true}
	for name := range want {
		req.Try = append(req.Try, name)
	}
	got := run(t, req)
	for name, w := range want {
		if got.Got[name] != w {
			t.Errorf("%s: got %q, want %q", name, got.Got[name], w)
		}
	}
}

// Without a filter the same attempts must succeed, or the other tests prove nothing.
func TestAttemptsPassUnconfined(t *testing.T) {
	req := request{Try: []string{"exec", "start", "fork", "unix", "inet", "inet6", "route", "audit", "mount", "unshare", "unshare-user", "setns", "kcmp", "process_vm", "no-randomize", "traceme", "clone3", "chroot", "keyctl"}}
	got := run(t, req)
	for _, name := range req.Try {
		if g := got.Got[name]; g == "EPERM" || g == "ENOSYS" || g == "EAFNOSUPPORT" || g == "EPROTONOSUPPORT" {
			t.Errorf("%s: got %s without any filter, so its refusal proves nothing", name, g)
		}
	}
	if s := got.State; s.Seccomp || s.NoNewPrivileges || !s.Dumpable || !s.Exec || !s.Inet || !s.Namespaces || len(s.Capabilities) == 0 {
		t.Errorf("state of an unconfined root process: %+v", s)
	}
}

// peer is another process of the same user.
func peer() {
	pid := os.Args[1]
	n, _ := strconv.Atoi(pid)
	_, err := os.ReadFile("/proc/" + pid + "/environ")
	fmt.Println(errnoName(err))
	_, err = os.Open("/proc/" + pid + "/mem")
	fmt.Println(errnoName(err))
	_, err = os.ReadDir("/proc/" + pid + "/fd")
	fmt.Println(errnoName(err))
	runtime.LockOSThread()
	fmt.Println(errnoName(unix.PtraceSeize(n)))
}

func TestPeersOfTheSameUserSeeNothing(t *testing.T) {
	for _, tt := range []struct {
		role *Policy
		want string
	}{
		{nil, "\n\n\n\n"}, // control: a process without a role can be read
		{&Policy{}, "EACCES\nEACCES\nEACCES\nEPERM\n"},
		{&Policy{Exec: true, Inet: true}, "EACCES\nEACCES\nEACCES\nEPERM\n"},
	} {
		cmd := command(t, "confined", nobody)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		json.NewEncoder(in).Encode(request{Role: tt.role, Hold: true})
		var r reply
		if err := json.NewDecoder(out).Decode(&r); err != nil || r.Err != "" {
			t.Fatal(err, r.Err)
		}
		p := command(t, "peer", nobody)
		p.Args = append(p.Args, strconv.Itoa(cmd.Process.Pid))
		got, err := p.Output()
		if err != nil {
			t.Error(err)
		}
		if string(got) != tt.want {
			t.Errorf("role %+v: got %q, want %q", tt.role, got, tt.want)
		}
		in.Close()
		cmd.Wait()
	}
}

// elf is a minimal program. It exits with status 42 through the 32-bit system call
// interface (int 0x80), which 64-bit programs can use too.
func elf(bits int) []byte {
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80, 0xf4} // mov eax, 1; mov ebx, 42; int 0x80; hlt
	var b bytes.Buffer
	le := func(v ...any) {
		for _, x := range v {
			binary.Write(&b, binary.LittleEndian, x)
		}
	}
	const base = 0x400000
	if bits == 32 {
		b.Write([]byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		le(uint16(2), uint16(3), uint32(1), uint32(base+84), uint32(52), uint32(0), uint32(0), uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0))
		le(uint32(1), uint32(0), uint32(base), uint32(base), uint32(84+len(code)), uint32(84+len(code)), uint32(5), uint32(4096))
	} else {
		b.Write([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		le(uint16(2), uint16(62), uint32(1), uint64(base+120), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
		le(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), uint64(120+len(code)), uint64(120+len(code)), uint64(4096))
	}
	b.Write(code)
	return b.Bytes()
}

func TestForeignDoorIsShut(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("NOT HERE: only amd64 has one that is open by default")
	}
	for _, bits := range []int{32, 64} {
		path := filepath.Join(t.TempDir(), "tiny")
		if err := os.WriteFile(path, elf(bits), 0o755); err != nil {
			t.Fatal(err)
		}
		err := exec.Command(path).Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 42 {
			t.Skipf("NOT HERE: this kernel has no 32-bit door: %v", err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{"confined"}
		cmd.Env = []string{"TINY=" + path}
		in, _ := json.Marshal(request{Room: true, Try: []string{"tiny"}})
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), "bad system call") {
			t.Errorf("a program of %d bits entered by int 0x80: %s", bits, out)
		}
	}
}
