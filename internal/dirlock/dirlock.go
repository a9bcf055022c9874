// Package dirlock locks directories with flock(2), so that one process at a time uses a
// directory. When the holder dies, for whatever reason, the kernel releases the lock.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrHeld matches the error of Take and TakeFile if another process, or another Lock of
// this process, holds the lock. Try again later, or do not use the directory.
var ErrHeld = errors.New("in use by another process")

// Lock is held until Release, or until the process ends.
type Lock struct{ f *os.File }

// Take locks dir, which must exist, through its file "lock".
func Take(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), unix.LOCK_NB) }

// Wait is like Take but waits until another holder releases the lock.
func Wait(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), 0) }

// TakeFile locks the file at path and creates it if needed. The file can stand for
// anything, such as a range of uids.
func TakeFile(path string) (*Lock, error) { return lock(path, path, unix.LOCK_NB) }

// lock locks the file at path; what is the name of the locked thing in errors.
func lock(what, path string, flags int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|flags)
		if !errors.Is(err, unix.EINTR) { // EINTR: a signal interrupted the wait
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

// Release releases the lock.
func (l *Lock) Release() error { return l.f.Close() }
