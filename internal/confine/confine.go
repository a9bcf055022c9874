// Package confine takes from a process what it does not need, for good: new
// privileges, capabilities, core dumps, and system calls by a seccomp filter
// (seccomp(2), prctl(2), capabilities(7)). Roles of the platform confine
// themselves with Role; rooms get the filter of Room.
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

// Policy is what a role does beside computing, files and Unix sockets. What it
// does not name is refused.
type Policy struct {
	Exec  bool // starts programs
	Inet  bool // makes IPv4 and IPv6 sockets; those it was handed work without
	Rooms bool // opens rooms: namespaces and mounts. Implies Exec and Inet, since rooms inherit the filter
	// Capabilities (unix.CAP_…) are all that is kept of what the process has.
	Capabilities []int
}

// Role confines this process to p. Call it in the first lines of a role, before
// anything from outside is read; it cannot be undone. It works as root and
// without. Where it fails the process must end: it may be confined in part.
//
// Programs built with cgo are refused: their threads cannot all be reached.
func Role(p Policy) error {
	// seccomp and no_new_privs begin at the thread they are asked on.
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
	// After the capabilities: a change of credentials may set it again. Without
	// root the maps of a room's user namespace can only be written by a process
	// whose /proc files are its own.
	if !p.Rooms || os.Geteuid() == 0 {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("shutting ptrace out: %w", err)
		}
	}
	return p.Filter().Install()
}

// Bound shrinks the capability bounding set of every thread to keep. Role does
// it too; a process that becomes another user first can only do it before.
func Bound(keep ...int) error {
	for c := 0; ; c++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // past the kernel's last
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

// dropCapabilities keeps at most keep, in every set of every thread.
func dropCapabilities(keep []int) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	// Without the right to shrink the bounding set no_new_privs makes it moot:
	// no program that is executed gains from it.
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
		return errors.New("this program was built with cgo, whose threads cannot all be reached (build it with CGO_ENABLED=0)")
	}
	if errno != 0 {
		return errno
	}
	return nil
}
