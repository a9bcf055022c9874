package platform

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/rooms"
	"github.com/colophon-build/colophon/platform/builder/worker"
	"github.com/colophon-build/colophon/platform/zone"
)

// driverProcess starts the process that drives the BuildKit of one room. A hostile
// build may control that BuildKit and attack the driver. So the driver has
// namespaces of its own and no network, sees the directories in hide as empty, and
// knows the name of no other session: from there an attacker reaches this build alone.
func driverProcess(rooms string, wall time.Duration, hide []string) worker.Apart {
	return func(ctx context.Context, dir string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"driver", rooms, wall.String(), dir}, hide...)...)
		cmd.Args[0] = "colophond"
		cmd.Stderr = os.Stderr
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL,
			Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC |
				syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
			// The sockets must still recognise it as the builder.
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		return cmd
	}
}

// Drive is the main function of the process that driverProcess starts. args are
// ROOMS WALLTIME DIR HIDE...
func Drive(ctx context.Context, args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("driver: got %d arguments, want ROOMS WALLTIME DIR HIDE...", len(args))
	}
	wall, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	dir, err := hideAllBut(args[2], args[3:])
	if err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	if err := confine.Role(confine.Policy{}); err != nil {
		return fmt.Errorf("driver: %w", err)
	}
	b := buildkit.New(buildkit.Config{Rooms: rooms.Client{At: peer.At(args[0])}, WallTime: wall})
	defer b.Wait()
	return worker.Child(ctx, b, dir, os.Stdin, os.Stdout)
}

// hideAllBut mounts an empty tmpfs over /tmp, /proc and the directories in hide. dir,
// which may be below one of them, stays visible at the returned path.
func hideAllBut(dir string, hide []string) (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	shown := filepath.Join(os.TempDir(), "build")
	// The old /tmp holds files of other builds, and dir may be below it.
	held, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	defer unix.Close(held)
	if err := zone.Hide(append([]string{os.TempDir(), "/proc"}, hide...), "size=64m"); err != nil {
		return "", err
	}
	if err := os.Mkdir(shown, 0o700); err != nil {
		return "", err
	}
	return shown, unix.MoveMount(held, "", unix.AT_FDCWD, shown, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
