// Package confine removes rights from a process for good: new privileges,
// capabilities, core dumps, and system calls by a seccomp filter (seccomp(2),
// prctl(2), capabilities(7)). The platform's roles confine themselves with Role;
// the processes of a room run under the filter of Room.
package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Policy lists what a role may do besides computing and using files and Unix
// sockets. Everything else is refused.
type Policy struct {
	Exec  bool // start programs
	Inet  bool // create IPv4 and IPv6 sockets; inherited sockets work without it
	Rooms bool // open rooms: namespaces and mounts. Implies Exec and Inet, because rooms inherit the filter
	// Capabilities (unix.CAP_…) lists those that the process keeps; it loses all others.
	Capabilities []int
}

// Role confines this process to p; this cannot be undone. Call it in the first
// lines of a role, before the role reads any input. It works with and without
// root. If it fails the process must exit, because it may be only partly confined.
//
// Role returns an error in programs built with cgo, because it cannot reach the
// threads that C code starts.
func Role(p Policy) error {
	// seccomp and no_new_privs take effect from the calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := dropCapabilities(p.Capabilities); err != nil {
		return err
	}
	// This comes after the capabilities, because a change of credentials may set the
	// flag again. A process without root that opens rooms stays dumpable: it writes
	// the uid map of a room's user namespace, and may do so only while it owns its
	// own files in /proc.
	if !p.Rooms || os.Geteuid() == 0 {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
		}
	}
	return p.Filter().Install()
}

// Bound shrinks the capability bounding set of every thread to keep. Role does this
// too, but a process that changes its user loses the right to do it; such a process
// calls Bound before it changes its user.
func Bound(keep ...int) error {
	for c := 0; ; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // c is past the kernel's last capability
		} else if err != nil {
			return fmt.Errorf("reading the bounding set: %w", err)
		}
		if in == 0 || slices.Contains(keep, c) {
			continue
		}
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
			return fmt.Errorf("dropping %s from the bounding set: %w", capName(c), err)
		}
	}
}

// dropCapabilities removes all capabilities except keep from every set of every
// thread.
func dropCapabilities(keep []int) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	// A process without CAP_SETPCAP cannot shrink the bounding set. That is safe:
	// under no_new_privs no executed program gains capabilities from that set.
	if data[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := Bound(keep...); err != nil {
			return err
		}
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("clearing ambient capabilities: %w", err)
	}
	var mask [2]uint32
	for _, c := range keep {
		mask[c/32] |= 1 << (c % 32)
	}
	for i := range data {
		data[i].Permitted &= mask[i]
		data[i].Effective = data[i].Permitted
		data[i].Inheritable = 0
	}
	err := onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&data)
	if err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	return nil
}

func onAllThreads(trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0)
	if errno == syscall.ENOTSUP {
		return errors.New("this program was built with cgo, so not all of its threads can be confined (build it with CGO_ENABLED=0)")
	}
	if errno != 0 {
		return errno
	}
	return nil
}
