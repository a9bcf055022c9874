package sandbox

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// openMounts opens detached copies of the mounts that the room gets, and adds their
// targets to the order. The parent does this, because the room's root has no
// permission to enter the platform's directories. A nil state is not mounted.
func openMounts(o *order, binds []Bind, state *disk) (files []*os.File, err error) {
	add := func(source, target string, recursive bool, flags uint64) error {
		f, dir, err := openMount(source, recursive, flags)
		if err != nil {
			return fmt.Errorf("mounting %s in the room: %w", source, err)
		}
		files = append(files, f)
		o.Mounts = append(o.Mounts, mount{Target: target, Dir: dir})
		return nil
	}
	if state != nil {
		fd, err := unix.FcntlInt(state.mount.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), StateTarget))
		o.Mounts = append(o.Mounts, mount{Target: StateTarget, Dir: true})
	}
	if err := add(cgroupRoot, cgroupRoot, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return files, err
	}
	for _, d := range devices {
		if err := add("/dev/"+d, "/dev/"+d, false, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return files, err
		}
	}
	seen := map[Bind]bool{}
	for _, b := range binds {
		// Two programs may need the same library.
		if seen[b] {
			continue
		}
		seen[b] = true
		if err := add(b.Source, b.Target, false, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
			return files, err
		}
	}
	return files, nil
}

func openMount(source string, recursive bool, attrs uint64) (*os.File, bool, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, false, err
	}
	open, set := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), uint(unix.AT_EMPTY_PATH)
	if recursive {
		open, set = open|unix.AT_RECURSIVE, set|unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, open)
	if err != nil {
		return nil, false, fmt.Errorf("open_tree: %w", err)
	}
	if err := unix.MountSetattr(fd, "", set, &unix.MountAttr{Attr_set: attrs}); err != nil {
		unix.Close(fd)
		return nil, false, fmt.Errorf("mount_setattr: %w", err)
	}
	return os.NewFile(uintptr(fd), source), info.IsDir(), nil
}

// Program returns the binds that a program of the host needs to run in a room at
// target: the program, its dynamic loader and its shared libraries.
func Program(source, target string) ([]Bind, error) {
	binds := []Bind{{source, target}}
	seen := map[string]bool{}
	queue := []string{source}
	for len(queue) > 0 {
		interp, libs, err := linkedWith(queue[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", queue[0], err)
		}
		queue = queue[1:]
		for _, lib := range append(libs, interp) {
			if lib == "" || seen[lib] {
				continue
			}
			seen[lib] = true
			path := lib
			if !filepath.IsAbs(lib) {
				if path = findLibrary(lib); path == "" {
					return nil, fmt.Errorf("%s needs the library %s, which was not found in %q", source, lib, libraryDirs)
				}
			}
			binds = append(binds, Bind{path, path})
			queue = append(queue, path)
		}
	}
	slices.SortFunc(binds[1:], func(a, b Bind) int { return strings.Compare(a.Target, b.Target) })
	return binds, nil
}

var libraryDirs = []string{"/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib"}

func findLibrary(name string) string {
	for _, d := range libraryDirs {
		path := filepath.Join(d, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// linkedWith returns the dynamic loader and the libraries that an ELF file names; both
// are empty if it is linked statically.
func linkedWith(path string) (interp string, libs []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return "", nil, err
			}
			interp = string(b[:max(0, len(b)-1)])
		}
	}
	if interp == "" && f.Section(".dynamic") == nil {
		return "", nil, nil // linked statically
	}
	libs, err = f.ImportedLibraries()
	return interp, libs, err
}
