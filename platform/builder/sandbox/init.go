package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
)

// argv0 is argv[0] of the process that Open starts: this binary again, as the first
// process of a room. That process sets up the room and then executes its program.
const argv0 = "colophon-room"

// File descriptors of that process.
const (
	fdOrder  = 3 // pipe: receives the order, as JSON, once limits and network are set up
	fdReport = 4 // pipe: sends an error's text; exec closes it
	fdSocket = 5 // the listening socket for the program
	fdMounts = 6 // and up: detached mounts, in the order of order.Mounts; then what order.Unpack and order.Pack say
)

// order is the parent's message to the first process.
type order struct {
	Mounts []mount
	Files  map[string][]byte
	Argv   []string
	Env    []string

	OpenFiles uint64 // of each process

	// Unpack fills StateTarget from the descriptor after the last mount before the program
	// is executed. If Pack is set, no program is executed: this directory of the state, whose
	// root is the descriptor after that one, is packed to it.
	Unpack bool
	Pack   string
}

type mount struct {
	Target string
	Dir    bool
}

// Init sets up the room and executes its program if this process is the first of a
// room; in all other processes it returns at once. Call it first in main.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != argv0 {
		return
	}
	// The program gets the namespaces of the thread that calls exec.
	runtime.LockOSThread()
	report := os.NewFile(fdReport, "report")
	unix.CloseOnExec(fdReport)
	if err := furnish(); err != nil {
		fmt.Fprint(report, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// readReport waits until the first process has executed the program, or returns the
// error that it reports.
func readReport(r io.Reader) error {
	msg, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return err
	}
	if len(msg) > 0 {
		return fmt.Errorf("setting up the room: %s", msg)
	}
	return nil
}

// furnish sets up the room and executes its program, or packs the room's state. It
// returns only if it fails, or has packed.
func furnish() error {
	var o order
	in := os.NewFile(fdOrder, "order")
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	in.Close()
	// The program inherits only its socket, which dup3 below puts in place. It gets
	// neither the mounts nor files that the parent may have left open.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	// The parent has moved this process to the room's cgroup by now, so the namespace
	// hides the cgroups above it.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	// Otherwise the room could read the keys in the platform's session keyring.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("session keyring: %w", err)
	}
	if err := makeRoot(o); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("room")); err != nil {
		return err
	}
	unix.Umask(0o022)
	if err := confineRoom(o.OpenFiles); err != nil {
		return err
	}
	// Set it again, because a change of credentials clears it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if done, err := moveState(o); done || err != nil {
		return err
	}
	// systemd's socket activation: the listener is fd 3, and LISTEN_FDS tells the
	// program so.
	if err := unix.Dup3(fdSocket, 3, 0); err != nil {
		return err
	}
	env := append(slices.Clone(o.Env), "LISTEN_PID=1", "LISTEN_FDS=1")
	return fmt.Errorf("exec %s: %w", o.Argv[0], unix.Exec(o.Argv[0], o.Argv, env))
}

// confineRoom sets limits and a system call filter that neither the program nor its
// children can remove.
func confineRoom(openFiles uint64) error {
	if err := lowerLimits(openFiles); err != nil {
		return err
	}
	// The cgroup limits the room's memory; the role's own limit does not apply to builds.
	// When the host's memory runs out, the kernel kills builds before any role.
	if err := errors.Join(confine.LimitData(0), confine.KillEarlier(confine.KilledFirst)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return confine.Room().Install()
}

// makeRoot builds the room's root directory on a tmpfs, from the mounts that the
// parent opened, and unmounts the host's root.
func makeRoot(o order) error {
	const root = "/tmp" // any directory that exists on every machine; only this namespace sees the mount
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("room", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=256m"); err != nil {
		return fmt.Errorf("root of the room: %w", err)
	}
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "etc", "root", "var/run"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		return err
	}
	// The kernel allows mounting proc and sysfs only while the host's are visible.
	if err := unix.Mount("proc", root+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting proc: %w (rooms cannot be opened in a container that masks parts of /proc)", err)
	}
	if err := unix.Mount("sysfs", root+"/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	for i, m := range o.Mounts {
		target := filepath.Join(root, m.Target)
		if err := makeTarget(target, m.Dir); err != nil {
			return err
		}
		if err := unix.MoveMount(fdMounts+i, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mounting %s: %w", m.Target, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, o.Files[name], 0o644); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(root, "dev", link)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(root+"/dev/pts", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("devpts", root+"/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("devpts: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	// This stacks the old root on the new one; the unmount below removes the old one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's root: %w", err)
	}
	return unix.Chdir("/")
}

func makeTarget(path string, dir bool) error {
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("mount target %s is used twice", path)
	} else if err != nil {
		return err
	}
	return f.Close()
}
