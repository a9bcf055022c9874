// Package durable writes files that survive a crash. A crash at any moment leaves either
// the old or the new content; once a function has returned nil, it leaves the new.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces the content of path by data. It writes and fsyncs a temporary file in
// the same directory, renames it to path, and fsyncs the directory.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is like WriteFile but never replaces a file: if path exists, it returns an
// error matching fs.ErrExist.
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	// link(2), unlike rename(2), refuses an existing target.
	if err := os.Link(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func writeTemp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+temporary+"*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Name(), nil
}

// Sweep removes the temporary files that a crash left in dir, which may be missing. Nobody
// may write there meanwhile.
func Sweep(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if name := f.Name(); f.Type().IsRegular() && name[0] == '.' && strings.Contains(name, temporary) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// temporary is part of the names of temporary files, which begin with a dot.
const temporary = ".tmp-"

// MkdirAll creates a directory and its parents. Those that it creates are on the disk when it returns: a
// file in a directory that a power cut takes is gone, however well it was synced.
func MkdirAll(dir string, perm fs.FileMode) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil {
		return os.MkdirAll(dir, perm) // somebody else created it, or the error
	}
	return SyncDir(parent)
}

// SyncDir fsyncs dir, so that its entries survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
