// Package dirlock lets one process at a time own a directory (flock(2)). The
// kernel gives the lock back when its holder dies, however it dies.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrHeld matches the error of Take and TakeFile while another holder has the
// lock. Wait, or leave the directory alone.
var ErrHeld = errors.New("in use by another process")

// Lock is held until Release, or until the process ends.
type Lock struct{ f *os.File }

// Take locks dir, which must exist, by its file "lock".
func Take(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), unix.LOCK_NB) }

// Wait is Take, but waits until the other holder releases the lock.
func Wait(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), 0) }

// TakeFile locks by the file at path what the file stands for, such as a range of uids.
func TakeFile(path string) (*Lock, error) { return lock(path, path, unix.LOCK_NB) }

// lock takes the lock by the file at path; what names the thing in errors.
func lock(what, path string, flags int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|flags)
		if !errors.Is(err, unix.EINTR) { // a signal came while we waited
			break
		}
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, fmt.Errorf("%s is %w", what, ErrHeld)
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	return &Lock{f}, nil
}

// Release lets the next one have it.
func (l *Lock) Release() error { return l.f.Close() }
