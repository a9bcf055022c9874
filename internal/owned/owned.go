// Package owned checks that no other user of the host can replace a file or directory
// that we are about to trust, like StrictModes of sshd (sshd_config(5)).
//
// A path is safe if root or our own user owns every directory, link and file on it, and
// nobody else may write any of the directories. An exception is a directory like /tmp:
// its sticky bit keeps others from renaming what they do not own.
package owned

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/userns"
)

const maxLinks = 40 // as the kernel: path_resolution(7)

// Dir creates the directory path, and directories above it, with mode 0700 where they
// are missing, so that a power cut does not take them. It returns the path without symbolic
// links, which is safe to use from now
// on. It returns an error if the path is not safe. The directory itself may also belong
// to one of users.
func Dir(path string, users ...int) (string, error) {
	return checkDir(resolve(path, true, users))
}

// CheckDir returns an error if Dir would find the path unsafe. It creates nothing.
func CheckDir(path string) error {
	resolved, info, err := resolve(path, false, nil)
	if errors.Is(err, fs.ErrNotExist) { // what is missing would be ours, and all above it is safe
		return nil
	}
	_, err = checkDir(resolved, info, err)
	return err
}

// checkDir returns what resolve returned, if it is a directory that nobody else may write.
func checkDir(resolved string, info fs.FileInfo, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", resolved)
	}
	if info.Mode()&fs.ModeSticky != 0 && writable(resolved, info) {
		return "", errWritable(resolved, info)
	}
	return resolved, nil
}

// ReadFile reads a regular file. It returns an error if the path is not safe; the error
// matches fs.ErrNotExist if there is no file.
func ReadFile(path string) ([]byte, error) {
	resolved, info, err := resolve(path, false, nil)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", resolved)
	}
	return os.ReadFile(resolved)
}

// ReadSecret is like ReadFile, and returns an error if other users than root and our own may
// read the file. A kubelet gives the file of a Secret to root, and lets the group of the pod read it.
func ReadSecret(path string) ([]byte, error) {
	resolved, info, err := resolve(path, false, nil)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !onlyWe(resolved, info, os.Geteuid()) {
		return nil, fmt.Errorf("other users may read %s: its mode is %04o; run chmod 600 %s, and replace the secrets in it if anybody else uses this machine", resolved, mode, resolved)
	}
	return ReadFile(resolved)
}

// onlyWe reports whether nobody but root and the user uid may read a file: root owns it, and only the group with
// the number of uid, which has no other member, may read it. The group of root may have others.
func onlyWe(path string, info fs.FileInfo, uid int) bool {
	st := info.Sys().(*syscall.Stat_t)
	return info.Mode().Perm()&0o037 == 0 && st.Uid == 0 && uid != 0 && int(st.Gid) == uid && !listed(path)
}

// resolve walks path from the root directory and checks each step before it takes the
// next. A step that was checked cannot change any more: nobody else may rename or remove
// it. create makes missing directories.
func resolve(path string, create bool, users []int) (string, fs.FileInfo, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", nil, err
	}
	at, rest, links := "/", strings.Split(strings.Trim(path, "/"), "/"), 0
	info, err := check(at, nil)
	for err == nil && len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if create {
			err = os.Mkdir(next, 0o700)
			if err == nil {
				err = durable.SyncDir(at) // a power cut must not take what is put there
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				break
			}
		}
		last := []int(nil)
		if len(rest) == 0 {
			last = users
		}
		if info, err = check(next, last); err != nil || info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%s: more than %d symbolic links", path, maxLinks)
		}
		var target string
		if target, err = os.Readlink(next); err != nil {
			break
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		if target = strings.Trim(filepath.Clean(target), "/"); target != "" && target != "." {
			rest = append(strings.Split(target, "/"), rest...)
		}
		info, err = check(at, nil) // if the link leads to at, and nothing follows
	}
	return at, info, err
}

// check reports whether one step of a path is safe: its owner is root, our user or one of
// users, and nobody else may write it. As root of a user namespace we cannot tell root of
// the host from other users of the host; whoever started us there has checked the path.
func check(path string, users []int) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid != 0 && uid != os.Geteuid() && !slices.Contains(users, uid) && !(userns.Entered() && uid == userns.Outside) {
		return nil, fmt.Errorf("%s belongs to user %d, who could replace what is in it: it must belong to root or to user %d, as which colophond runs", path, uid, os.Geteuid())
	}
	if info.Mode().Type() != fs.ModeSymlink && writable(path, info) && (!info.IsDir() || info.Mode()&fs.ModeSticky == 0) {
		return nil, errWritable(path, info)
	}
	return info, nil
}

// writable reports whether other users than the owner may write a file or directory. The
// owner's own group, which has the owner's number and no other member, does not count.
func writable(path string, info fs.FileInfo) bool {
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case info.Mode().Perm()&0o002 != 0:
		return true
	case info.Mode().Perm()&0o020 == 0:
		return false
	}
	return st.Gid != st.Uid || listed(path)
}

// listed reports whether a file has an access control list: the group's bits of its mode are then the most that
// the list grants to anybody (acl(5)).
func listed(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

func errWritable(path string, info fs.FileInfo) error {
	return fmt.Errorf("other users may write %s: its mode is %04o; if you trust what is in it, run chmod go-w %s", path, info.Mode().Perm(), path)
}

// Give sets the mode of the directory dir to 0700 and makes uid, and the group of the same
// number, the owner of dir and of all that is in it. Only what root owns is given; it is an
// error if anybody else but uid owns a part. dir must be safe (Dir). It belongs to uid
// last, so that uid can change nothing before, and so that the next start finishes what a
// crash interrupted.
func Give(dir string, uid int) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := errors.Join(unix.Fchmod(fd, 0o700), unix.Fstat(fd, &st)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("%s: %w", dir, err)
	}
	if int(st.Uid) == uid {
		return unix.Close(fd)
	}
	return give(fd, dir, uid)
}

// give owns and closes fd, which is open at path.
func give(fd int, path string, uid int) error {
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Uid != 0 && int(st.Uid) != uid {
		return fmt.Errorf("%s belongs to user %d, expected root or user %d; if you trust what is in it, stop the platform and run chown -R root %s", path, st.Uid, uid, path)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		names, err := f.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			// Not by path: nobody can exchange the directory below an open descriptor.
			how := unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
			child, err := unix.Openat(fd, name, how, 0)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", path, name, err)
			}
			if err := unix.Fstat(child, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				unix.Close(child)
				if child, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
					return fmt.Errorf("%s/%s: %w", path, name, err)
				}
			}
			if err := give(child, filepath.Join(path, name), uid); err != nil {
				return err
			}
		}
	}
	return unix.Fchownat(fd, "", uid, uid, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
}
