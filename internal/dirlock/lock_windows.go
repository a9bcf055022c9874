package dirlock

import (
	"math"
	"os"

	"golang.org/x/sys/windows"
)

const (
	noFollow = 0 // the directories that the CLI locks are the user's own
	errBusy  = windows.ERROR_LOCK_VIOLATION
)

func lockFile(f *os.File, wait bool) error {
	flags := uint32(windows.LOCKFILE_EXCLUSIVE_LOCK)
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	// One byte far behind the end: others may read the file, which flock(2) lets them, too.
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: math.MaxInt32})
}
