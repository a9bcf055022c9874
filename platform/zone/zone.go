// Package zone runs each process of a platform apart from the others: as a user of
// its own, in a mount namespace that shows it its own directories alone, confined
// to the system calls it needs, and supervised. It knows no roles.
package zone

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
)

// Root is where a process finds its mounts, whatever the path of the data
// directory is: its user need not be able to walk there. It exists on the host,
// and is empty there.
const Root = "/run/colophon-zone"

// Zone is where one process lives: its user, what it sees of the disk, and which
// system calls it may make.
type Zone struct {
	// Separate says that the process has a user and a mount namespace of its own.
	// Otherwise it is confined, and sees the host's disk as our user.
	Separate bool           `json:"separate"`
	UID      int            `json:"uid"`   // 0 stays root, and keeps the host's disk as it is
	Group    int            `json:"group"` // the only supplementary group
	Mounts   []Mount        `json:"mounts,omitempty"`
	CAs      []byte         `json:"cas,omitempty"` // PEM: the contents of SSL_CERT_FILE, which the process's user may not be able to read
	Confine  confine.Policy `json:"confine"`
}

// Mount shows a directory or file of the host as Root/Name.
type Mount struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	Write  bool   `json:"write,omitempty"` // the first one with Write is the process's home
}

// Separable says why processes cannot have zones of their own here; nil if they can.
func Separable() error {
	if os.Geteuid() != 0 {
		return errors.New("colophond was not started as root")
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		failed <- unix.Unshare(unix.CLONE_NEWNS)
	}()
	if err := <-failed; err != nil {
		return fmt.Errorf("root may not make mount namespaces here: %w", err)
	}
	return nil
}

// Path is where the process finds the mount of that name; empty if it has none.
func (z Zone) Path(name string) string {
	for _, m := range z.Mounts {
		if m.Name != name {
			continue
		}
		if z.Separate {
			return filepath.Join(Root, name)
		}
		return m.Source
	}
	return ""
}

const casFile = Root + "/ca.pem"

// CAFile is where the process finds CAs; empty if it has none.
func (z Zone) CAFile() string {
	if z.CAs == nil {
		return ""
	}
	return casFile
}

// enter moves this process into the zone, for good. A process does it first: all
// that it has read before is the order of its parent.
func (z Zone) enter() error {
	if z.Separate {
		if err := z.mount(); err != nil {
			return fmt.Errorf("mounting the role's part of the disk: %w", err)
		}
		if z.UID != 0 {
			if err := confine.Bound(); err != nil {
				return err
			}
			if err := errors.Join(syscall.Setgroups([]int{z.Group}), syscall.Setgid(z.UID), syscall.Setuid(z.UID)); err != nil {
				return fmt.Errorf("becoming user %d: %w", z.UID, err)
			}
		}
		if z.Confine.Rooms { // writes the maps of user namespaces below /proc/self, which would be root's now
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
				return err
			}
		}
		// Changes of credentials clear it.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return err
		}
		if os.Getppid() == 1 {
			return errors.New("serve has ended")
		}
	}
	return confine.Role(z.Confine)
}

// mount makes everything in this process's mount namespace read-only but its own
// directories, and gives it a /tmp of its own. The process got the namespace when
// it was started (see Process.Command).
func (z Zone) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if z.UID == 0 { // opens rooms, in which it mounts what it likes
		return nil
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return fmt.Errorf("making the disk read-only: %w", err)
	}
	// User namespaces are written there; nothing else of it is ours to write.
	if err := unix.MountSetattr(unix.AT_FDCWD, "/proc", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("zone", Root, "tmpfs", safe, "mode=0755,size=8m"); err != nil {
		return err
	}
	for _, m := range z.Mounts {
		if err := m.bind(); err != nil {
			return err
		}
	}
	if err := z.account(); err != nil {
		return err
	}
	if err := os.WriteFile(casFile, z.CAs, 0o644); err != nil {
		return err
	}
	if err := unix.Mount("tmp", "/tmp", "tmpfs", safe, "mode=1777,size=1g"); err != nil {
		return err
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, Root, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return os.Chdir(Root)
}

// bind shows the mount at its place below Root.
func (m Mount) bind() error {
	target := filepath.Join(Root, m.Name)
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: %w", m.Source, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if m.Write {
		attr.Attr_clr = unix.MOUNT_ATTR_RDONLY
	} else {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, 0, &attr); err != nil {
		return fmt.Errorf("%s: %w", m.Source, err)
	}
	return nil
}

// account gives the user a name and a home, without which ssh does not start.
func (z Zone) account() error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	passwd = fmt.Appendf(bytes.TrimRight(passwd, "\n"), "\ncolophon:x:%d:%d:Colophon:%s:/usr/sbin/nologin\n", z.UID, z.UID, z.home())
	file := filepath.Join(Root, "passwd")
	if err := os.WriteFile(file, passwd, 0o644); err != nil {
		return err
	}
	return unix.Mount(file, "/etc/passwd", "", unix.MS_BIND, "")
}

// home is the first directory that the process may write.
func (z Zone) home() string {
	for _, m := range z.Mounts {
		if m.Write {
			return z.Path(m.Name)
		}
	}
	return "/"
}

// environment is what the process gets of our environment: no secret that
// somebody left there.
func (z Zone) environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH", name == "LANG", name == "TZ", name == "SSL_CERT_FILE", name == "SSL_CERT_DIR", name == "NO_PROXY", name == "HTTPS_PROXY", name == "HTTP_PROXY",
			strings.HasPrefix(name, "GIT_SSL_"), strings.HasPrefix(name, "GO") && name != "GOOGLE_APPLICATION_CREDENTIALS":
			env = append(env, kv)
		case name == "HOME" && !z.Separate, name == "DOCKER_CONFIG" && !z.Separate:
			env = append(env, kv)
		}
	}
	if z.Separate {
		env = append(env, "HOME="+z.home())
	}
	if file := z.CAFile(); file != "" && z.UID != 0 { // the last of a name counts
		env = append(env, "SSL_CERT_FILE="+file)
	}
	return env
}

// hostPaths replaces the paths of mounts by those on the host, in a text for people.
func (z Zone) hostPaths(text string) string {
	if z.Separate {
		for _, m := range z.Mounts {
			text = strings.ReplaceAll(text, filepath.Join(Root, m.Name), m.Source)
		}
	}
	return text
}

// ChownTree makes dir with mode 0700 and, if its owner is not uid, chowns it with
// all that is in it: a data directory may come from a platform that ran as one user.
func ChownTree(dir string, uid int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != uid {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, uid)
		})
		if err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o700)
}
