// Package userns runs this program again as root of a user namespace
// (user_namespaces(7)), in which a plain user owns a range of ids: his subordinate ids
// (subuid(5)). There the program can give each of its processes a user of its own, as
// root does on the host. Outside, id 0 of the namespace is the plain user.
package userns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Size is the number of subordinate ids that the namespace gets, as ids 1 to Size. It is
// what useradd(8) gives to a user.
const Size = 1 << 16

// argv[0] of the processes that Check and Run start. The kernel gives the capabilities of
// root only to a process that executes a program after the ids are mapped, so a process
// waits for the maps and then executes itself again under the second name.
const (
	waiting  = "colophond-waits"
	probing  = "colophond-probe"
	inside   = "colophond-userns"
	fdMapped = 3       // pipe: a byte arrives when the ids are mapped
	quoted   = 1 << 10 // bytes of a program's output in an error
)

// entered reports whether Run started this process or its parent: see Inherit.
var entered bool

// Entered reports whether Run of this program started this process as root of the
// namespace, or the process that started it: see Inherit.
func Entered() bool { return entered }

// Inherit says that the process that started this one is Entered, and checked the paths that
// this one gets.
func Inherit() { entered = true }

// Initial reports whether this process is in the host's own user namespace, where id 0 is
// root of the host. The kernel gives that namespace a constant inode number
// (linux/nsfs.h, USER_NS_INIT_INO). Failure to read it counts as another namespace.
func Initial() bool {
	const initial = 0xEFFFFFFD
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino == initial
}

// Init takes over in the processes that Check and Run start; in all others it returns at
// once. Call it first in main.
func Init() {
	switch os.Args[0] {
	case waiting, probing:
		fmt.Fprintln(os.Stderr, "colophond:", wait())
		os.Exit(1)
	case inside:
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "colophond: as root of a user namespace:", err)
			os.Exit(1)
		}
		entered = true
	}
}

// wait waits for the maps and executes this program again, or tries what the program
// needs most. It returns only if it fails.
func wait() error {
	mapped := os.NewFile(fdMapped, "mapped")
	if _, err := io.ReadFull(mapped, make([]byte, 1)); err != nil {
		return errors.New("the process that started this one has ended")
	}
	mapped.Close()
	args := append([]string{inside}, os.Args[1:]...)
	return fmt.Errorf("executing this program again: %w", unix.Exec("/proc/self/exe", args, os.Environ()))
}

// settle prepares the namespaces of this process for a platform.
func settle() error {
	// The groups of the user, such as docker, are not for builds.
	if err := unix.Setgroups(nil); err != nil {
		return fmt.Errorf("dropping supplementary groups: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mounting: %w", err)
	}
	if len(os.Args) == 2 && os.Args[1] == probing {
		if err := writableRun(""); err != nil {
			return err
		}
		os.Exit(0)
	}
	state, err := stateDir()
	if err != nil {
		return err
	}
	if err := writableRun(state); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	// The kernel cleared it when this process gained capabilities.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() == 1 {
		return errors.New("the process that started this one has ended")
	}
	return nil
}

// writableRun puts a directory over /run, in this mount namespace alone, that shows all of
// the host's /run and in which root of the namespace may create entries. state becomes
// /run/colophon.
func writableRun(state string) error {
	const at = "/tmp"                          // any directory that exists
	shared, err := os.Open(cmp.Or(state, "/")) // before the mount, below which it may be
	if err != nil {
		return err
	}
	defer shared.Close()
	if err := unix.Mount("run", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return err
	}
	entries, err := os.ReadDir("/run")
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join("/run", e.Name()), filepath.Join(at, e.Name())
		switch {
		case e.Name() == "colophon" || e.Name() == "colophon-zone": // of a platform of the host's root
			continue
		case e.Type() == os.ModeSymlink:
			if err := CopyLink(from, to); err != nil {
				return err
			}
			continue
		case e.IsDir():
			err = os.Mkdir(to, 0o755)
		default:
			err = os.WriteFile(to, nil, 0o600)
		}
		if err == nil {
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it has gone meanwhile
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	own := filepath.Join(at, "colophon")
	if err := os.Mkdir(own, 0o700); err != nil {
		return err
	}
	if state != "" {
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", shared.Fd()), own, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", state, err)
		}
	}
	return unix.Mount(at, "/run", "", unix.MS_MOVE, "")
}

// CopyLink makes a symbolic link at to that leads where the one at from leads.
func CopyLink(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

// Run runs this program with the same arguments as root of a new user and mount
// namespace, and returns when it has ended. It passes SIGINT and SIGTERM on to it, and SIGHUP if
// reload returns nil. The kernel ends that process if this one dies.
func Run(ctx context.Context, reload func() error) error {
	maps, why := find()
	if why != nil {
		return why
	}
	// The kernel sends Pdeathsig when the thread that forked ends, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := command(waiting, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if err := maps.start(cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
				return &Ended{exit.ExitCode()}
			}
			return err
		case <-done:
			cmd.Process.Signal(syscall.SIGTERM)
			done = nil
		case <-hup:
			if err := reload(); err != nil {
				fmt.Fprintln(os.Stderr, "colophond: the configuration was not read again; the old one stays in use:", err)
				continue
			}
			cmd.Process.Signal(syscall.SIGHUP)
		}
	}
}

// Ended means that the process inside the namespace failed. It has printed why.
type Ended struct{ Code int }

func (e *Ended) Error() string { return fmt.Sprintf("exit code %d in a user namespace", e.Code) }

// stateDir creates the directory that the platforms of this user share. Locks in it keep
// two of them from giving the same ids to two rooms.
func stateDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "colophon", "run")
	return dir, os.MkdirAll(dir, 0o700)
}

// command prepares a process in new namespaces that waits for its ids.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = name
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start starts cmd and maps its ids.
func (m *idMaps) start(cmd *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	cmd.ExtraFiles = []*os.File{r}
	err = cmd.Start()
	r.Close()
	if err != nil {
		return fmt.Errorf("creating a user namespace: %w", err)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	err = errors.Join(run(m.newuidmap, pid, os.Getuid(), m.uid), run(m.newgidmap, pid, os.Getgid(), m.gid))
	if err == nil {
		_, err = w.Write([]byte{0})
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
	return err
}

// run maps 0 to id and 1 to Size to the range that starts at first.
func run(program, pid string, id int, first uint64) error {
	out, err := exec.Command(program, pid, "0", strconv.Itoa(id), "1", "1", strconv.FormatUint(first, 10), strconv.Itoa(Size)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(out[:min(len(out), quoted)])))
	}
	return nil
}

// Outside is the id that files of users outside of the namespace seem to have inside it
// (overflowuid, proc_sys_fs(5)).
const Outside = 65534
