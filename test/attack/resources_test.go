package attack

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// platform/builder/sandbox: TestHostKeepsItsShare tries more limits, from a room without
// BuildKit.
var _ = register(attack{
	name: "kernel-resources", tries: "use up limits that the kernel has once for each user of the machine: inotify instances, pending signals, asynchronous input and output, message queues",
	guard: "the room's own user owns its user namespace: platform/builder/sandbox asOwner; io_setup is refused: internal/confine absent",
	cuts: []cut{
		{"platform/builder/sandbox/owner.go", `if err := setEUID(uid); err != nil {`, `if err := setEUID(0); err != nil {`},
		{"platform/builder/sandbox/shared.go", `	unix.RLIMIT_SIGPENDING: 4096,
`, ``},
		{"internal/confine/rules.go", `	unix.SYS_IO_SETUP, // takes from fs.aio-max-nr, which all users of the machine share
`, ``},
	},
	from: []string{"step", "room"},
	probe: func(i *intruder) {
		runtime.LockOSThread()
		n := 0
		var err error
		for ; err == nil && n < 10000; n++ {
			_, err = unix.InotifyInit1(0)
		}
		i.not("inotify instances: %d, then %v", n, err)
		var ctx uintptr
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 32000, uintptr(unsafe.Pointer(&ctx)), 0)
		i.not("io_setup: %v", errno)
		set := unix.Sigset_t{}
		set.Val[0] = 1 << (40 - 1)
		i.not("blocking a signal: %v", unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil))
		var info [128]byte
		*(*int32)(unsafe.Pointer(&info[0])), *(*int32)(unsafe.Pointer(&info[8])) = 40, -1 // SI_QUEUE
		for n, errno = 0, 0; errno == 0 && n < 60000; n++ {
			_, _, errno = unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()), 40, uintptr(unsafe.Pointer(&info)), 0, 0)
		}
		i.not("pending signals: %d, then %v", n, errno)
		for n = 0; n < 1000; n++ {
			if err = openQueue(fmt.Sprint("q", n), 10, 1024); err != nil {
				break
			}
		}
		i.not("message queues: %d, then %v", n, err)
		i.outside("kernel-resources")
	},
})

func openQueue(name string, messages, size int64) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	attr := [8]int64{0, messages, size}
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), unix.O_CREAT|unix.O_RDWR, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
	if errno != 0 {
		return errno
	}
	runtime.KeepAlive(fd) // it stays open
	return nil
}

// kernelResources says which limits the host's root cannot use any more.
func kernelResources() string {
	var gone []string
	var fds []int
	for len(fds) < 64 {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			gone = append(gone, fmt.Sprintf("the host's root gets only %d inotify instances: %v", len(fds), err))
			break
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	var pending, events int
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		_, rest, _ := strings.Cut(string(status), "SigQ:")
		fmt.Sscan(rest, &pending)
	}
	if pending > 20000 {
		gone = append(gone, fmt.Sprintf("%d signals are queued on account of the host's root", pending))
	}
	if data, err := os.ReadFile("/proc/sys/fs/aio-nr"); err == nil {
		fmt.Sscan(string(data), &events)
	}
	if events >= 32000 {
		gone = append(gone, fmt.Sprintf("%d events of asynchronous input and output are taken", events))
	}
	return strings.Join(gone, "; ")
}
