package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	defaultDisk = 20 << 30 // bytes; less if 3/4 of the free space is less
	MinDisk     = 32 << 20 // bytes that a daemon and an empty file system need
	// hostReserve is the free space that rooms must leave on the host's file system.
	// Rooms' images are sparse, so the sum of their sizes may exceed the free space.
	hostReserve = 1 << 30 // bytes
	fullBelow   = 1 << 20 // bytes; a file system with less free space counts as full
)

// disk is a room's own file system; a room can write nowhere else. It is never
// mounted on a directory of the host. Only the room has the mount, so the kernel
// removes mount and loop device when the room ends, even if its parent crashes.
type disk struct {
	kind   string // "ext4", "tmpfs" or kindDirectory
	why    string // for a tmpfs: what the host lacks for ext4
	size   int64  // bytes
	dir    string // the room's directory on the host
	device string // the loop device's number, such as "7:3"; "" for a tmpfs
	mount  *os.File
	root   *os.File // the file system's root directory
}

// kindDirectory is the kind of a disk without a size of its own: see nested.go.
const kindDirectory = "directory"

// errNoLoop means that this host gives us no loop devices, like most containers.
var errNoLoop = errors.New("no loop device")

// newDisk creates a file system of size bytes for the room in dir; 0 means the
// default size. uid, the room's first, owns its root directory. The file system is
// in an image file in dir; if the host has no loop devices it is a tmpfs, which
// counts towards the room's memory limit.
func newDisk(dir string, size int64, uid uint32) (_ *disk, err error) {
	free, err := freeBytes(dir)
	if err != nil {
		return nil, err
	}
	if free < hostReserve {
		return nil, fmt.Errorf("no space for a room: got %d free bytes at %s, want at least %d", free, dir, hostReserve)
	}
	if size == 0 {
		size = min(defaultDisk, free/4*3)
	}
	size = size / 4096 * 4096
	if size < MinDisk {
		return nil, fmt.Errorf("disk limit: got %d bytes, want at least %d", size, MinDisk)
	}
	d := &disk{kind: "ext4", size: size, dir: dir}
	defer func() {
		if err != nil {
			d.erase()
		}
	}()
	if nested() {
		d.kind = kindDirectory
		err = d.makeDirectory(uid)
	} else {
		err = d.mountImage(uid)
	}
	if errors.Is(err, errNoLoop) {
		d.kind, d.why = "tmpfs", err.Error()
		err = d.mountTmpfs(uid)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the room's file system (%s): %w", d.kind, err)
	}
	fd, err := unix.Openat(int(d.mount.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d.root = os.NewFile(uintptr(fd), "/")
	if err := unix.Mkdirat(fd, "tmp", 0o700); err != nil {
		return nil, err
	}
	return d, unix.Fchownat(fd, "tmp", int(uid), int(uid), unix.AT_SYMLINK_NOFOLLOW)
}

func (d *disk) mountImage(uid uint32) error {
	mkfs, err := findMkfs()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLoop, err)
	}
	path := d.image()
	image, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := image.Truncate(d.size); err != nil {
		return err
	}
	// The file system is discarded with the room, so it needs no journal and no blocks
	// reserved for root.
	cmd := exec.Command(mkfs, "-q", "-F", "-m", "0", "-O", "^has_journal",
		"-E", fmt.Sprintf("lazy_itable_init=1,nodiscard,root_owner=%d:%d", uid, uid), path)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, strings.TrimSpace(string(out)))
	}
	loop, err := attachLoop(image)
	if err != nil {
		return err
	}
	// From here on the file system holds the device: the kernel detaches the device
	// when the file system is gone.
	defer loop.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
		return err
	}
	d.device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	// nobarrier: no need to flush to the host's disk, because the file system is
	// discarded with the room.
	return d.mountNew("ext4", "source", loop.Name(), "nobarrier", "", "noinit_itable", "")
}

func (d *disk) mountTmpfs(uid uint32) error {
	id := strconv.FormatUint(uint64(uid), 10)
	return d.mountNew("tmpfs", "size", strconv.FormatInt(d.size, 10), "uid", id, "gid", id, "mode", "0700")
}

// mountNew mounts a new file system without attaching it to a directory. options are
// pairs of key and value; an empty value makes the key a flag.
func (d *disk) mountNew(kind string, options ...string) error {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for i := 0; i < len(options); i += 2 {
		key, value := options[i], options[i+1]
		if value == "" {
			err = unix.FsconfigSetFlag(fs, key)
		} else {
			err = unix.FsconfigSetString(fs, key, value)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", key, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	d.mount = os.NewFile(uintptr(fd), kind)
	return nil
}

func (d *disk) image() string { return filepath.Join(d.dir, imageName) }

// imageName is the name of the image file in the room's directory.
const imageName = "disk"

// attachLoop attaches a file to a loop device. The kernel detaches it when the device
// is closed by all its users.
func attachLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLoop, err)
	}
	defer control.Close()
	var cfg unix.LoopConfig
	cfg.Fd = uint32(image.Fd())
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	// Another process may take the free device first.
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("%w: LOOP_CTL_GET_FREE: %w", errNoLoop, err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoLoop, err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &cfg)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("LOOP_CONFIGURE: %w", err)
		}
	}
	return nil, errors.New("no loop device: other processes took every free one first; try again")
}

// findMkfs finds mkfs.ext4, in PATH or in the sbin directories.
func findMkfs() (string, error) {
	for _, name := range []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("mkfs.ext4 is not installed (apt-get install e2fsprogs)")
}

// full returns an error if the file system has no space or no inode left.
func (d *disk) full() error {
	// SyscallConn locks the file, because erase may close it at the same time.
	conn, err := d.mount.SyscallConn()
	if err != nil {
		return nil
	}
	var st unix.Statfs_t
	if cerr := conn.Control(func(fd uintptr) { err = unix.Fstatfs(int(fd), &st) }); cerr != nil || err != nil {
		return nil // erased
	}
	if free := int64(st.Bavail) * st.Bsize; d.kind == kindDirectory && free < hostReserve {
		return fmt.Errorf("disk full: the machine has %d bytes left, and builds end below %d", free, hostReserve)
	} else if free < fullBelow {
		return fmt.Errorf("disk full: the limit is %d bytes", d.size)
	}
	if st.Files > 0 && st.Ffree == 0 {
		return fmt.Errorf("disk full: the limit is %d files", st.Files)
	}
	return nil
}

// crowded returns an error if the host's file system is almost full and no other room
// takes more of it than this one.
func (d *disk) crowded() error {
	if d.kind != "ext4" {
		return nil
	}
	free, err := freeBytes(d.dir)
	if err != nil || free >= hostReserve {
		return nil
	}
	mine := allocated(d.image())
	images, _ := filepath.Glob(filepath.Join(filepath.Dir(d.dir), "room-*", imageName))
	for _, other := range images {
		if allocated(other) > mine {
			return nil
		}
	}
	return fmt.Errorf("disk full: the machine has %d bytes left for all builds, and this build uses %d of its limit of %d", free, mine, d.size)
}

// erase shuts the file system down without writing buffered data back, and waits
// until the loop device has released the image. The caller removes the image with
// the room's directory.
func (d *disk) erase() error {
	if d.root != nil {
		if d.kind == "ext4" {
			// A program that still runs in the room gets IO errors from here on.
			how := uint32(goingNoLogFlush)
			unix.Syscall(unix.SYS_IOCTL, d.root.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how)))
		}
		d.root.Close()
	}
	if d.mount != nil {
		d.mount.Close()
	}
	if d.device == "" {
		return nil
	}
	// A process that is ending may hold the mount for a moment longer.
	deadline := time.Now().Add(10 * time.Second)
	for d.attached() {
		if time.Now().After(deadline) {
			return fmt.Errorf("the loop device %s still holds %s", d.device, d.image())
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h).
const (
	ext4Shutdown    = 0x8004587d
	goingNoLogFlush = 2
)

// attached reports whether the loop device still holds the image.
func (d *disk) attached() bool { return strings.HasPrefix(backingFile(d.device), d.image()) }

// backingFile returns the file that is attached to a loop device, given by its number;
// "" if there is none.
func backingFile(device string) string {
	data, err := os.ReadFile(filepath.Join("/sys/dev/block", device, "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("reading the free space at %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Spare returns how many bytes of the file system of dir are free besides those that rooms
// must leave.
func Spare(dir string) (int64, error) {
	free, err := freeBytes(dir)
	return free - hostReserve, err
}

// allocated returns how many bytes a sparse file occupies on disk.
func allocated(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}
