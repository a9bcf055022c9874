// Package intact compares stored files with what their names promise, and counts the files
// that are damaged.
package intact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// Finding is one damaged file.
type Finding struct {
	File     string // its path
	What     string // what is wrong with it
	Repaired bool
}

// String returns the finding as one line.
func (f Finding) String() string {
	state := "DAMAGED"
	if f.Repaired {
		state = "repaired"
	}
	return fmt.Sprintf("%s %s: %s", state, f.File, f.What)
}

// Report counts what a check of many files did. Not safe for concurrent use.
type Report struct {
	Files    int   // files that were read
	Bytes    int64 // their size
	Repaired int
	Damaged  int           // files that could not be repaired
	Tell     func(Finding) // gets each finding; nil: they are only counted
}

// Read counts a file that was read.
func (r *Report) Read(bytes int64) {
	r.Files++
	r.Bytes += bytes
}

// Found reports a damaged file. repair repairs it; nil means that nothing can.
func (r *Report) Found(file, what string, repair func() error) {
	f := Finding{File: file, What: what}
	if repair != nil {
		if err := repair(); err != nil {
			f.What += "; it cannot be repaired: " + err.Error()
		} else {
			f.Repaired = true
		}
	}
	if f.Repaired {
		r.Repaired++
	} else {
		r.Damaged++
	}
	if r.Tell != nil {
		r.Tell(f)
	}
}

// Unreadable reports whether err is the disk's: the file is there, but cannot be read.
func Unreadable(err error) bool { return errors.Is(err, syscall.EIO) }

// Open opens a file if its content has the SHA-256 sum, in hex. ok is false if it has not, or
// if the disk cannot read it. The caller closes f, which is nil unless ok is true.
func Open(path, sum string) (f *os.File, ok bool, err error) {
	f, err = os.Open(path)
	if err != nil {
		return nil, false, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	ok = err == nil && hex.EncodeToString(h.Sum(nil)) == sum
	if ok {
		_, err = f.Seek(0, io.SeekStart)
	}
	if Unreadable(err) {
		ok, err = false, nil
	}
	if !ok || err != nil {
		f.Close()
		f = nil
	}
	return f, ok, err
}

var hexName = lazyregexp.New(`^[0-9a-f]{64}$`)

// Named compares all files below dir whose name is a SHA-256 in hex. repair repairs one of
// them; nil means that nothing can. dir may be missing.
func Named(ctx context.Context, r *Report, dir string, repair func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || !hexName.MatchString(e.Name()) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, ok, err := Open(path, e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
			return nil
		case err != nil:
			return err
		case ok:
			defer f.Close()
			info, err := f.Stat()
			if err == nil {
				r.Read(info.Size())
			}
			return err
		}
		var mend func() error
		if repair != nil {
			mend = func() error { return repair(path) }
		}
		r.Found(path, "its content does not have the SHA-256 in its name", mend)
		return nil
	})
}
