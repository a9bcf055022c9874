package localgit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/source"
)

// Git parses files of the repository's owner, and whoever gave the files to him may attack
// it. So it runs as that user in a jail: in namespaces of its own, without network,
// capabilities and privileges, where the disk consists of the repository and the system's
// programs, all read-only. Links out of the repository lead nowhere there.

// jailCommand is the subcommand of this program that becomes the jail.
const jailCommand = "read-repository"

// systemDirs are the directories of programs and libraries that a jail sees.
var systemDirs = []string{"bin", "gnu", "lib", "lib32", "lib64", "nix", "opt", "sbin", "usr"}

const jailTimeout = 20 * time.Minute // longer than git's own time limits

// serve runs git's upload-pack for the repository on conn. It returns what git and the
// jail wrote to standard error; that may quote any file of the repository.
func (r *repository) serve(ctx context.Context, protocol string, conn *os.File) (said string, err error) {
	tree, err := openTree(int(r.dir.Fd()), "", unix.AT_EMPTY_PATH, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return "", fmt.Errorf("mounting the repository: %w", err)
	}
	defer tree.Close()
	ctx, cancel := context.WithTimeout(ctx, jailTimeout)
	defer cancel()
	// The kernel sends Pdeathsig when the thread that forked ends, so keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", jailCommand, strconv.Itoa(r.uid), strconv.Itoa(r.gid))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GIT_PROTOCOL=" + protocol}
	errs := &printable.Head{Max: 4096}
	// git gets the connection itself: a copy of its bytes would not end when git does.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = conn, conn, errs
	cmd.ExtraFiles = []*os.File{tree}
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	err = cmd.Run()
	return errs.String(), err
}

// Jail is the main function of the process that Handler starts to read a repository.
// args are UID GID; standard input and output are the connection, and file 3 is the
// mount of the repository.
func Jail(ctx context.Context, args []string) error {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := jailRoot(3); err != nil {
		return fmt.Errorf("making the jail: %w", err)
	}
	if err := confine.Bound(); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("changing to user %d: %w", uid, err)
	}
	// The kernel clears this signal when credentials change.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if err := confine.Role(confine.Policy{Exec: true}); err != nil {
		return err
	}
	return source.ServeLocal(ctx, "/repository", os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout)
}

// jailRoot replaces the root directory of this mount namespace.
func jailRoot(repository int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	const root = "/tmp" // any directory that exists
	if err := unix.Mount("jail", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return err
	}
	for _, name := range systemDirs {
		from, to := "/"+name, filepath.Join(root, name)
		info, err := os.Lstat(from)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case info.Mode().Type() == fs.ModeSymlink:
			if err := userns.CopyLink(from, to); err != nil {
				return err
			}
			continue
		}
		if err := show(from, to, unix.AT_RECURSIVE, readOnly); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "dev"), 0o755), os.Mkdir(filepath.Join(root, "repository"), 0o755), os.Mkdir(filepath.Join(root, "tmp"), 0o755),
		os.Chmod(filepath.Join(root, "tmp"), 0o1777), os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o644)); err != nil {
		return err
	}
	if err := show("/dev/null", filepath.Join(root, "dev/null"), 0, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return err
	}
	if err := unix.MoveMount(repository, "", unix.AT_FDCWD, filepath.Join(root, "repository"), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("repository: %w", err)
	}
	unix.Close(repository)
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/"))
}

// show mounts from at to, with attributes.
func show(from, to string, recursive uint, attrs uint64) error {
	tree, err := openTree(unix.AT_FDCWD, from, recursive, attrs)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", from, err)
	}
	return nil
}

// openTree returns a detached copy of a mount, with attributes.
func openTree(dir int, path string, flags uint, attrs uint64) (*os.File, error) {
	fd, err := unix.OpenTree(dir, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("open_tree: %w", err)
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attrs}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mount_setattr: %w", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
