package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/userns"
)

// In a user namespace of a plain user (package userns) there are 65536 ids for all rooms,
// no loop devices, and no cgroups: the kernel gives these to root of the host. Rooms there
// have fewer ids, a directory of the host's file system in place of a file system of their own,
// and, of the limits, that of processes.

// nested reports whether root is root of a user namespace only.
var nested = sync.OnceValue(func() bool { return !userns.Initial() })

// nestedIDs is the layout of rooms below the ids of the roles (platform, roles.uidBase). It
// has user 10001 of many charts, and 65520 to 65535 with nobody and distroless' nonroot.
var nestedIDs = layout{first: 1, slots: 5, low: 12272, highFrom: 65520, high: 16}

// limitProcesses makes most the limit of the processes in the user namespaces that this process
// creates while f runs: the kernel counts the processes of a namespace, whatever their users are, for
// its owner, and the creator's limit is theirs (RLIMIT_NPROC, struct user_namespace).
func limitProcesses(most int64, f func() error) error {
	limiting.Lock()
	defer limiting.Unlock()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: min(uint64(most), old.Max), Max: old.Max}); err != nil {
		return fmt.Errorf("limiting processes: %w", err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NPROC, &old)
	return f()
}

var limiting sync.Mutex

// makeDirectory makes the room's state a directory below the room's directory.
func (d *disk) makeDirectory(uid uint32) error {
	path := filepath.Join(d.dir, "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chown(path, int(uid), int(uid)); err != nil {
		return err
	}
	var err error
	d.mount, _, err = openMount(path, false, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return err
}
