//go:build unix

package source

import (
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killAll makes the end of the command's context kill its whole process group.
func killAll(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

// setTime sets the time of a file, directory or symlink, which it does not follow.
func setTime(path string, at time.Time) error {
	t := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
