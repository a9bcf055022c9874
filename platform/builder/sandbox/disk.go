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
	defaultDisk = 20 << 30 // bytes, where three quarters of what is free are more
	minDisk     = 32 << 20 // bytes; a daemon and an empty file system need some
	// hostReserve is left free on the file system that holds the rooms: images of
	// rooms are sparse, so together they may promise more than there is.
	hostReserve = 1 << 30 // bytes
	fullBelow   = 1 << 20 // bytes; a file system with less is full
)

// disk is all that a room can fill: a file system of its own. It is never
// attached to a directory of the host; the mount is handed to the room, and goes
// away with it however the room and its parent end. So does the loop device.
type disk struct {
	kind   string // "ext4" or "tmpfs"
	why    string // why a tmpfs: what the host lacks
	size   int64  // bytes
	dir    string // the room's directory
	device string // "7:3", the loop device's number; "" for a tmpfs
	mount  *os.File
	root   *os.File // the file system's root directory
}

// errNoLoop says that a host has no loop devices for us, as most containers.
var errNoLoop = errors.New("no loop device")

// newDisk makes the file system of the room in dir, for its first uid. Its image
// is a file in dir; where the host has no loop devices it is a tmpfs, which
// counts as the room's memory.
func newDisk(dir string, size int64, uid uint32) (_ *disk, err error) {
	free, err := freeBytes(dir)
	if err != nil {
		return nil, err
	}
	if free < hostReserve {
		return nil, fmt.Errorf("no space for a room: %d bytes are free at %s, want at least %d", free, dir, hostReserve)
	}
	if size == 0 {
		size = min(defaultDisk, free/4*3)
	}
	size = size / 4096 * 4096
	if size < minDisk {
		return nil, fmt.Errorf("the limit of disk: got %d bytes, a room needs at least %d", size, minDisk)
	}
	d := &disk{kind: "ext4", size: size, dir: dir}
	defer func() {
		if err != nil {
			d.erase()
		}
	}()
	err = d.mountImage(uid)
	if errors.Is(err, errNoLoop) {
		d.kind, d.why = "tmpfs", err.Error()
		err = d.mountTmpfs(uid)
	}
	if err != nil {
		return nil, fmt.Errorf("the room's file system (%s): %w", d.kind, err)
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
	// Nothing in a room outlives it: no journal, nothing reserved for root.
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
	// The file system holds the device from here on; when it goes, so does the device.
	defer loop.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(loop.Fd()), &st); err != nil {
		return err
	}
	d.device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	// Flushing to the host's disk would be for a file system that is read again.
	return d.mountNew("ext4", "source", loop.Name(), "nobarrier", "", "noinit_itable", "")
}

func (d *disk) mountTmpfs(uid uint32) error {
	id := strconv.FormatUint(uint64(uid), 10)
	return d.mountNew("tmpfs", "size", strconv.FormatInt(d.size, 10), "uid", id, "gid", id, "mode", "0700")
}

// mountNew makes a file system with options in pairs, as a mount that is
// attached nowhere.
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

// imageName is the image's file in the room's directory.
const imageName = "disk"

// attachLoop puts a file behind a loop device that lets go of it when nothing
// has the device open any more.
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
	return nil, errors.New("every free loop device was taken by another process first")
}

// findMkfs looks also where a user's PATH often does not.
func findMkfs() (string, error) {
	for _, name := range []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("mkfs.ext4 is not there (apt-get install e2fsprogs)")
}

// full says that the file system has no space, or no file, left.
func (d *disk) full() error {
	// Through the file's own lock: erase may close it meanwhile.
	conn, err := d.mount.SyscallConn()
	if err != nil {
		return nil
	}
	var st unix.Statfs_t
	if cerr := conn.Control(func(fd uintptr) { err = unix.Fstatfs(int(fd), &st) }); cerr != nil || err != nil {
		return nil // erased
	}
	if int64(st.Bavail)*st.Bsize < fullBelow {
		return fmt.Errorf("disk full: the limit is %d bytes", d.size)
	}
	if st.Files > 0 && st.Ffree == 0 {
		return fmt.Errorf("disk full: the limit is %d files", st.Files)
	}
	return nil
}

// crowded says that the host's own file system is about to be full and that of
// all rooms beside this one none takes more of it.
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
	return fmt.Errorf("disk full: the machine has %d bytes left for all builds, and this one has taken %d of its limit of %d", free, mine, d.size)
}

// erase ends the file system without writing back what nobody will read, and
// removes its image.
func (d *disk) erase() error {
	if d.root != nil {
		if d.kind == "ext4" {
			// Fails where the room still runs a program, which then fails in turn.
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
	// The last user of a mount is often a process that is ending.
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

// attached says that the loop device still has the image.
func (d *disk) attached() bool { return strings.HasPrefix(backingFile(d.device), d.image()) }

// backingFile is the file behind a loop device, by the device's number; "" where
// it has none.
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
		return 0, fmt.Errorf("the free space at %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// allocated is how much of a sparse file is on disk, in bytes.
func allocated(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}
