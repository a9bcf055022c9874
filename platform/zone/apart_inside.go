package zone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
)

// InitApart does the work of a process apart and does not return in one. A program that
// starts such processes calls it first in main.
func InitApart(tasks map[string]Task) {
	if os.Args[0] != apartArg0 {
		return
	}
	if err := runApart(tasks, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, ErrNoNamespaces) {
			os.Exit(noMounts)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

func runApart(tasks map[string]Task, in io.Reader, out io.Writer) error {
	orders, answers := json.NewDecoder(in), json.NewEncoder(out)
	var a Apart
	if err := orders.Decode(&a); err != nil {
		return err
	}
	task, ok := tasks[a.Task]
	if !ok {
		return fmt.Errorf("there is no task %q", a.Task)
	}
	if err := a.enter(); err != nil {
		return fmt.Errorf("confining the process for %s: %w", a.Task, err)
	}
	for {
		var order json.RawMessage
		if err := orders.Decode(&order); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(execute(task, order)); err != nil {
			return err
		}
	}
}

// execute executes an order. An order of Probe is null, and so is its answer.
func execute(task Task, order json.RawMessage) answer {
	if string(order) == "null" {
		return answer{Value: order}
	}
	value, err := task(context.Background(), order)
	if err != nil {
		return answer{Error: err.Error()}
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Value: raw}
}

// enter confines this process, irrevocably.
func (a Apart) enter() error {
	// Under memory pressure the kernel kills this process before any role.
	if err := confine.KillEarlier(confine.KilledFirst); err != nil {
		return err
	}
	if a.Namespaces {
		if err := a.mount(); err != nil {
			return err
		}
	}
	if err := os.Chdir(a.Dir); err != nil {
		return err
	}
	if err := a.Limits.apply(); err != nil {
		return err
	}
	return confine.Role(a.Confine)
}

func (l Limits) apply() error {
	debug.SetMemoryLimit(l.Memory / 8 * 7)
	for _, r := range []struct {
		name     string
		resource int
		most     int64
	}{
		{"memory", unix.RLIMIT_DATA, l.Memory},
		{"file size", unix.RLIMIT_FSIZE, l.FileSize},
		{"open files", unix.RLIMIT_NOFILE, l.Files},
		{"processes", unix.RLIMIT_NPROC, l.Processes},
	} {
		if r.most <= 0 {
			return fmt.Errorf("limit of %s: got %d, want a positive number", r.name, r.most)
		}
		if err := unix.Setrlimit(r.resource, &unix.Rlimit{Cur: uint64(r.most), Max: uint64(r.most)}); err != nil {
			return fmt.Errorf("limiting %s to %d: %w", r.name, r.most, err)
		}
	}
	return nil
}

// mount makes the disk read-only, and everything below Hide, /tmp and /proc invisible,
// except for Dir, which is writable, and Show, with all mounts below them.
func (a Apart) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%w: mounting: %w", ErrNoNamespaces, err)
	}
	// With the mounts below them: without those, they would look empty there. A directory comes
	// before what is in it, which would otherwise be covered.
	paths := append([]string{a.Dir}, a.Show...)
	slices.Sort(paths)
	paths = slices.Compact(paths)
	held := map[string]int{}
	for _, path := range paths {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer unix.Close(fd)
		held[path] = fd
	}
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, readOnly); err != nil {
		return fmt.Errorf("making the disk read-only: %w", err)
	}
	if err := Hide(append([]string{"/proc"}, a.Hide...), "size=1m"); err != nil {
		return err
	}
	if err := Hide([]string{"/tmp"}, fmt.Sprintf("size=%d,nr_inodes=%d", a.Limits.Scratch, 200_000)); err != nil {
		return err
	}
	for _, path := range paths {
		if path != a.Dir {
			if visible, err := sameFile(path, held[path]); err != nil {
				return err
			} else if visible {
				continue
			}
		}
		if err := show(path, held[path]); err != nil {
			return fmt.Errorf("showing %s: %w", path, err)
		}
		if path == a.Dir {
			continue
		}
		if err := unix.MountSetattr(unix.AT_FDCWD, path, unix.AT_RECURSIVE, readOnly); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// sameFile reports whether path is still the file or directory that fd is. Otherwise it is
// hidden, itself or by a directory above it.
func sameFile(path string, fd int) (bool, error) {
	var now, before unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return false, err
	}
	err := unix.Stat(path, &now)
	return err == nil && now.Dev == before.Dev && now.Ino == before.Ino, nil
}

// Hide mounts an empty tmpfs over each directory; a directory that does not exist, such
// as one below another hidden directory, is left out. options are those of the tmpfs.
func Hide(dirs []string, options string) error {
	for _, d := range dirs {
		if _, err := os.Stat(d); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := unix.Mount("none", d, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,"+options); err != nil {
			return fmt.Errorf("hiding %s: %w", d, err)
		}
	}
	return nil
}

// show mounts the tree fd at path, which may be below a hidden directory.
func show(path string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		var err error
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = os.MkdirAll(path, 0o700)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
