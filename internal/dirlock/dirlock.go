// Package dirlock locks directories and files with flock(2), on Windows with LockFileEx, so that
// one process at a time uses them. When the holder dies, for whatever reason, the kernel
// releases the lock.
package dirlock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrHeld matches the error of Take and TakeFile if another process, or another Lock of
// this process, holds the lock. Try again later, or do not use the directory.
var ErrHeld = errors.New("in use by another process")

// Lock is held until Release, or until the process ends.
type Lock struct{ f *os.File }

// Take locks dir, which must exist, through its file "lock".
func Take(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), false) }

// Wait is like Take but waits until another holder releases the lock.
func Wait(dir string) (*Lock, error) { return lock(dir, filepath.Join(dir, "lock"), true) }

// TakeFile locks the file at path and creates it if needed. The file can stand for
// anything, such as a range of uids.
func TakeFile(path string) (*Lock, error) { return lock(path, path, false) }

// WaitBeside locks a file that belongs to somebody else, such as one that is signed, and waits
// until another holder releases the lock, or until ctx is done: then the error matches ErrHeld
// and that of ctx. Whoever may read the file can hold its lock. WaitBeside does not change the
// file, and creates none: use it for what is written beside the file. The file must not be
// replaced meanwhile.
func WaitBeside(ctx context.Context, path string) (*Lock, error) {
	// NFS demands a file that is open for writing; local file systems do not.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	for {
		err := lockFile(f, false)
		if err == nil {
			return &Lock{f}, nil
		}
		if !errors.Is(err, errBusy) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%s is %w: %w", path, ErrHeld, context.Cause(ctx))
		}
	}
}

// pause is the time between two tries of WaitBeside.
const pause = 50 * time.Millisecond

// lock locks the file at path; what is the name of the locked thing in errors. It waits for
// another holder, or else returns ErrHeld.
func lock(what, path string, wait bool) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	if err := lockFile(f, wait); err != nil {
		f.Close()
		if errors.Is(err, errBusy) {
			return nil, fmt.Errorf("%s is %w", what, ErrHeld)
		}
		return nil, fmt.Errorf("locking %s: %w", what, err)
	}
	return &Lock{f}, nil
}

// Release releases the lock.
func (l *Lock) Release() error { return l.f.Close() }
