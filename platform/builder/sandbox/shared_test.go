package sandbox

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// A shared limit is one that the kernel has once for the machine, or once for each user
// of it, so that a room could use up what others need.
type shared struct {
	name string
	take func() string // in a room: takes as much as it gets, and keeps it
	// used says, on the host, how much of it root cannot have any more; one room may
	// take most of it at a time.
	used func(t *testing.T) int64
	most int64
}

// kept keeps what a tenant took.
var kept []any

var sharedLimits = []shared{
	{"inotify instances", takeInotify, func(t *testing.T) int64 {
		var all []int
		for {
			fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err != nil {
				break
			}
			all = append(all, fd)
		}
		for _, fd := range all {
			unix.Close(fd)
		}
		return -int64(len(all))
	}, 20},
	{"pending signals", takeSignals, func(t *testing.T) int64 {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		_, rest, _ := strings.Cut(string(status), "SigQ:")
		fmt.Sscan(rest, &n)
		return n
	}, 200},
	{"message queues", takeQueues, func(t *testing.T) int64 {
		fd, err := openQueue("colophon-test", 10, 8192)
		if err != nil {
			return 1
		}
		unix.Close(fd)
		name, _ := unix.BytePtrFromString("colophon-test")
		unix.Syscall(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)), 0, 0)
		return 0
	}, 0},
	{"asynchronous input and output", takeAIO, func(t *testing.T) int64 { return number(t, "/proc/sys/fs/aio-nr") }, 1000},
	{"open files", takeFiles, func(t *testing.T) int64 { return number(t, "/proc/sys/fs/file-nr") }, maxOpenFiles + 3000},
	{"memory of TCP", takeTCP, func(t *testing.T) int64 {
		stat, err := os.ReadFile("/proc/net/sockstat")
		if err != nil {
			t.Fatal(err)
		}
		var pages int64
		_, rest, _ := strings.Cut(string(stat), "TCP:")
		_, rest, _ = strings.Cut(rest, "mem ")
		fmt.Sscan(rest, &pages)
		return pages * int64(os.Getpagesize())
	}, socketMemory + 16<<20},
	{"terminals", takeTerminals, func(t *testing.T) int64 {
		f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return 1
		}
		f.Close()
		return 0
	}, 0},
}

// TestHostKeepsItsShare looks at the limits from outside while a room takes all that it
// gets of each.
func TestHostKeepsItsShare(t *testing.T) {
	needRooms(t)
	for _, s := range sharedLimits {
		t.Run(s.name, func(t *testing.T) {
			r := open(t, builder.Limits{Memory: 2 << 30})
			before := s.used(t)
			said := ask(t, r, "take "+s.name)
			if !strings.HasPrefix(said, "took ") {
				t.Fatalf("the room could not try: %s", said)
			}
			t.Log(said)
			// Other processes of this machine take some too, for a while; the room keeps what it took.
			await.True(t, fmt.Sprintf("the room %s: the host's root has at most %d less", said, s.most), func() bool { return s.used(t)-before <= s.most })
		})
	}
}

// The kernel charges a namespace's use of limits to its owner's account too.
func TestRoomBelongsToItsOwnUser(t *testing.T) {
	needRooms(t)
	r := open(t, builder.Limits{})
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const getOwner = 0xb704 // NS_GET_OWNER_UID (ioctl_ns(2))
	var uid uint32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, ns.Fd(), getOwner, uintptr(unsafe.Pointer(&uid))); errno != 0 {
		t.Fatal(errno)
	}
	if first, _ := r.Range(); uid != first {
		t.Errorf("user %d owns the room's user namespace, want %d", uid, first)
	}
	// The thread that opened the room is root's again.
	for _, status := range glob(t, "/proc/self/task/*/status") {
		data, err := os.ReadFile(status)
		if err != nil {
			continue // it has ended
		}
		if !bytes.Contains(data, []byte("Uid:\t0\t0\t0\t0\n")) {
			t.Errorf("%s: %s", status, data)
		}
	}
}

// A room cannot leave processes behind when the process that opened it dies: changing a
// thread's user must not clear its parent death signal.
func TestOpeningKeepsTheDeathSignal(t *testing.T) {
	needRooms(t)
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var got [2]int32
	done := make(chan error)
	go func() {
		lockForever()
		err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGUSR1), 0, 0, 0)
		cmd := exec.Command("/bin/true")
		if err == nil {
			err = asOwner(uidBase, cmd.Start)
		}
		unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&got[0])), 0, 0, 0)
		unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		if err == nil {
			err = cmd.Wait()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got[0] != int32(unix.SIGUSR1) {
		t.Errorf("the thread's parent death signal is %d, want %d", got[0], unix.SIGUSR1)
	}
}

// The room that took most of the machine's open files ends when half of them are open.
func TestCrowdedFiles(t *testing.T) {
	needRooms(t)
	small, large := open(t, builder.Limits{}), open(t, builder.Limits{})
	took := ask(t, large, "take open files")
	if !strings.HasPrefix(took, "took ") {
		t.Fatal(took)
	}
	const most = 8 * 4096 // the machine's, as it were
	both := func() ([]string, error) { return []string{small.cgroup.name, large.cgroup.name}, nil }
	if all, err := large.cgroup.allRooms(); err != nil || !slices.Contains(all, small.cgroup.name) || !slices.Contains(all, large.cgroup.name) {
		t.Errorf("the machine's rooms: got %q, %v", all, err)
	}
	for name, c := range map[string]struct {
		room *Room
		used int64
		ends bool
	}{
		"the one that took them": {large, most / 2, true},
		"another":                {small, most / 2, false},
		"enough for all":         {large, most/2 - 1, false},
	} {
		err := c.room.cgroup.crowded(c.used, most, both)
		if (err != nil) != c.ends {
			mine, _ := large.cgroup.kernelMemory(large.cgroup.name)
			other, _ := small.cgroup.kernelMemory(small.cgroup.name)
			t.Errorf("%s: got %v, want an error: %v; it %s, and exceeded: %v; kernel memory %d, of the other %d", name, err, c.ends, took, large.Exceeded(), mine, other)
		}
	}
	if err := large.cgroup.crowded(1<<40, 1<<41, both); err != nil {
		t.Errorf("the host itself opened them: got %v", err)
	}
	if used, most, err := machineFiles(); err != nil || used <= 0 || most < used {
		t.Errorf("of the machine: got %d of %d, %v", used, most, err)
	}
}

func TestFilesOfOneProcess(t *testing.T) {
	for _, c := range []struct{ machine, processes, want int64 }{
		{1<<63 - 1, 8192, maxOpenFiles}, // as systemd sets it
		{2466174, 8192, minOpenFiles},
		{2466174, 100, 12330},
		{2466174, 0, minOpenFiles},
		{10000, 8192, minOpenFiles},
	} {
		if got := filesOfOneProcess(c.machine, c.processes); got != c.want {
			t.Errorf("%d files, %d processes: got %d, want %d", c.machine, c.processes, got, c.want)
		}
	}
}

func takeInotify() string {
	n := 0
	for ; ; n++ {
		if _, err := unix.InotifyInit1(0); err != nil {
			return fmt.Sprintf("took %d: %v", n, err)
		}
	}
}

// takeSignals blocks a real-time signal and sends it to itself.
func takeSignals() string {
	lockForever()
	set := unix.Sigset_t{}
	set.Val[0] = 1 << (40 - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
		return err.Error()
	}
	var info [128]byte
	*(*int32)(unsafe.Pointer(&info[0])) = 40
	*(*int32)(unsafe.Pointer(&info[8])) = -1 // SI_QUEUE
	for n := range 200000 {
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()), 40, uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 {
			return fmt.Sprintf("took %d: %v", n, errno)
		}
	}
	return "took 200000"
}

func openQueue(name string, messages, size int64) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	attr := [8]int64{0, messages, size}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), unix.O_CREAT|unix.O_RDWR, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

func takeQueues() string {
	for n := 0; ; n++ {
		if _, err := openQueue(fmt.Sprint("q", n), 10, 1024); err != nil {
			return fmt.Sprintf("took %d: %v", n, err)
		}
	}
}

func takeAIO() string {
	var ctx uintptr
	_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 30000, uintptr(unsafe.Pointer(&ctx)), 0)
	if errno != 0 {
		return fmt.Sprintf("took none: %v", errno)
	}
	return "took 30000"
}

func takeFiles() string {
	for n := 0; ; n++ {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			return fmt.Sprintf("took %d: %v", n, err)
		}
	}
}

// takeTCP fills the buffers of connections over loopback that nobody reads.
func takeTCP() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	kept = append(kept, l)
	total := 0
	for range 100 {
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return fmt.Sprintf("took %d MiB: %v", total>>20, err)
		}
		in, err := l.Accept()
		if err != nil {
			return err.Error()
		}
		in.(*net.TCPConn).SetReadBuffer(8 << 20)
		kept = append(kept, out, in)
		out.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, _ := out.Write(make([]byte, 8<<20))
		total += n
	}
	return fmt.Sprintf("took %d MiB", total>>20)
}

func takeTerminals() string {
	for n := 0; ; n++ {
		if _, err := unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0); err != nil {
			return fmt.Sprintf("took %d: %v", n, err)
		}
	}
}
