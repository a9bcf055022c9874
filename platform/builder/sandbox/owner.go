package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asOwner calls f as the owner of a room's user namespace, which is the first of the
// room's uids. What is in a user namespace counts towards the limits of its owner too:
// inotify instances, pending signals, message queues, locked memory, namespaces (the
// kernel's struct ucounts). If root created it, a build could use up what the host's root
// may have.
//
// Only the effective user of the calling thread changes, and it keeps its capabilities.
// The caller has locked the thread.
func asOwner(uid uint32, f func() error) (err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	// The kernel clears the parent death signal of a thread whose user changes.
	var signal int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0); err != nil {
		return fmt.Errorf("reading the parent death signal: %w", err)
	}
	parent := unix.Getppid()
	if err := setEUID(uid); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, setEUID(0), unix.Capset(&hdr, &caps[0]), unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(signal), 0, 0, 0))
		if signal != 0 && unix.Getppid() != parent { // it died meanwhile
			unix.Kill(unix.Getpid(), unix.Signal(signal))
		}
	}()
	// Another effective user than root has no effective capabilities, until it takes the
	// permitted ones.
	if err := unix.Capset(&hdr, &caps[0]); err != nil {
		return fmt.Errorf("keeping capabilities: %w", err)
	}
	return f()
}

// setEUID changes the effective user of the calling thread alone.
func setEUID(uid uint32) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return fmt.Errorf("effective user %d: %w", uid, errno)
	}
	return nil
}
