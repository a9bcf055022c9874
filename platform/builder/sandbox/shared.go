package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A room shares some limits of the kernel with the whole machine. No cgroup divides open
// files (fs.file-max), so a room has a limit for each process, and the room that took
// most ends when the machine gets short of them.

const (
	maxOpenFiles = 1 << 16  // open files of one process; fewer on a machine with a low fs.file-max
	minOpenFiles = 1 << 12  // what builds need
	socketMemory = 64 << 20 // bytes in the buffers of a room's TCP connections
	fileSize     = 184      // bytes of kernel memory of one open file, at least
)

// rlimits are other limits of each process in a room (getrlimit(2)). Those of signals,
// queues and locked memory count for each user of the room.
var rlimits = map[int]uint64{
	unix.RLIMIT_CORE:       0,
	unix.RLIMIT_MEMLOCK:    8 << 20,
	unix.RLIMIT_MSGQUEUE:   819200,
	unix.RLIMIT_NICE:       0,
	unix.RLIMIT_RTPRIO:     0,
	unix.RLIMIT_SIGPENDING: 4096,
}

// lowerLimits sets the limits of this process, which its children inherit. A limit that
// is lower already stays.
func lowerLimits(openFiles uint64) error {
	set := func(resource int, most uint64) error {
		var l unix.Rlimit
		if err := unix.Getrlimit(resource, &l); err != nil {
			return err
		}
		l.Max = min(l.Max, most)
		l.Cur = min(l.Cur, l.Max)
		if resource == unix.RLIMIT_NOFILE {
			l.Cur = l.Max
		}
		return unix.Setrlimit(resource, &l)
	}
	for resource, most := range rlimits {
		if err := set(resource, most); err != nil {
			return fmt.Errorf("resource limit %d: %w", resource, err)
		}
	}
	if err := set(unix.RLIMIT_NOFILE, openFiles); err != nil {
		return fmt.Errorf("limiting open files: %w", err)
	}
	return nil
}

// machineFiles returns how many files are open on this machine, and how many may be.
func machineFiles() (used, most int64, err error) {
	data, err := os.ReadFile("/proc/sys/fs/file-nr")
	if err == nil {
		var unused int64
		_, err = fmt.Sscan(string(data), &used, &unused, &most)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("open files of this machine: %w", err)
	}
	return used, most, nil
}

// filesOfOneProcess returns the limit of open files of each process in a room with at most
// processes processes: together they get half of the machine's, unless that is too
// little for a build.
func filesOfOneProcess(machine, processes int64) int64 {
	if processes <= 0 {
		processes = machine
	}
	return min(max(machine/2/max(processes, 1), minOpenFiles), maxOpenFiles)
}

// crowded returns an error if half of the files that the machine may have are open, and
// none of rooms has opened more than this one. Files in flight between processes have no owner
// (unix(7), SCM_RIGHTS), so it compares the kernel memory of the rooms, of which each
// file takes some.
func (c *cgroup) crowded(used, most int64, rooms func() ([]string, error)) error {
	if used < most/2 || c.none {
		return nil
	}
	mine, err := c.kernelMemory(c.name)
	if err != nil || mine < most/8*fileSize {
		return err
	}
	names, err := rooms()
	if err != nil {
		return err
	}
	for _, name := range names {
		if other, err := c.kernelMemory(name); err == nil && other > mine {
			return nil
		}
	}
	return fmt.Errorf("too many open files: %d of the machine's %d are open, and this build has opened most", used, most)
}

// allRooms returns the names of the machine's rooms.
func (c *cgroup) allRooms() (names []string, err error) {
	dirs, err := filepath.Glob(filepath.Join(filepath.Dir(c.file("memory", "", "")), "*", "cgroup.procs"))
	for _, d := range dirs {
		names = append(names, filepath.Base(filepath.Dir(d)))
	}
	return names, err
}

// kernelMemory returns how many bytes the kernel uses for the room with the given name.
func (c *cgroup) kernelMemory(name string) (int64, error) {
	of := cgroup{name: name}
	if unified() {
		return readKey(of.file("", "", "memory.stat"), "slab_unreclaimable"), nil
	}
	return readInt(of.file("memory", "memory.kmem.usage_in_bytes", ""))
}
