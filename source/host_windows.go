package source

import (
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// killAll makes the end of the command's context kill it and the processes below it.
func killAll(cmd *exec.Cmd) {
	cmd.Cancel = func() error {
		return exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(cmd.Process.Pid)).Run()
	}
}

// setTime sets the time of a file, directory or symlink, which it does not follow.
func setTime(path string, at time.Time) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(name, windows.FILE_WRITE_ATTRIBUTES, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil,
		windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	t := windows.NsecToFiletime(at.UnixNano())
	return windows.SetFileTime(h, nil, &t, &t)
}
