// Package zone isolates the processes of a platform from each other. Each process has
// its own user and a mount namespace that shows only its own directories, may make
// only the system calls that it needs, and is restarted when it ends. The package
// knows nothing about roles.
package zone

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
)

// Root is the directory in which a process finds its mounts. The process's user need
// not be able to reach the data directory's own path. On the host, Root is an empty
// directory.
const Root = "/run/colophon-zone"

// Zone describes the environment of one process: its user, what it sees of the disk,
// and which system calls it may make.
type Zone struct {
	// Separate gives the process a user and a mount namespace of its own. If it is
	// false, the process runs as our user and sees the host's disk; Confine still applies.
	Separate bool           `json:"separate"`
	UID      int            `json:"uid"`   // 0: the process stays root and sees the host's disk
	Group    int            `json:"group"` // the only supplementary group
	Mounts   []Mount        `json:"mounts,omitempty"`
	CAs      []byte         `json:"cas,omitempty"` // PEM: content of SSL_CERT_FILE, which the process's user may be unable to read
	Confine  confine.Policy `json:"confine"`
	Memory   int64          `json:"memory"`             // bytes of data of the process, and of those that it starts unless they set another limit; required
	Killed   int            `json:"killed"`             // how much earlier than the starter the kernel kills the process when memory runs out (proc_pid_oom_score_adj(5))
	Entered  bool           `json:"entered,omitempty"`  // userns.Entered of the starter, which checked the mounts
	HideProc bool           `json:"hideProc,omitempty"` // with Separate: the process sees an empty /proc
}

// Mount shows a directory or file of the host as Root/Name.
type Mount struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	Write  bool   `json:"write,omitempty"` // writable; the first writable mount is the process's home
}

// Separable returns nil if this host allows processes with Zone.Separate, else the
// reason why not: they need root and mount namespaces.
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
		return fmt.Errorf("root cannot create mount namespaces here: %w", err)
	}
	return nil
}

// Path returns the path at which the process finds the mount name; empty if it has none.
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

// CAFile returns the path at which the process finds CAs; empty if it has none.
func (z Zone) CAFile() string {
	if z.CAs == nil {
		return ""
	}
	return casFile
}

// enter moves this process into the zone, irrevocably. It must come first: before it, a
// process reads nothing but the order of its parent.
func (z Zone) enter() error {
	if err := errors.Join(LimitMemory(z.Memory), confine.KillEarlier(z.Killed)); err != nil {
		return err
	}
	// The parent is alive: Command asked the kernel to kill this process with it. In a
	// container the parent may be process 1, which elsewhere adopts orphans.
	parent := os.Getppid()
	if z.Separate {
		if err := z.mount(); err != nil {
			return fmt.Errorf("mounting the role's directories: %w", err)
		}
		if z.UID != 0 {
			if err := confine.Bound(); err != nil {
				return err
			}
			if err := errors.Join(syscall.Setgroups([]int{z.Group}), syscall.Setgid(z.UID), syscall.Setuid(z.UID)); err != nil {
				return fmt.Errorf("changing to user %d: %w", z.UID, err)
			}
		}
		if z.Confine.Rooms { // it writes maps of user namespaces below /proc/self; if not dumpable, root owns these files
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
				return err
			}
		}
		// The kernel clears this signal when credentials change.
		if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
			return err
		}
		if os.Getppid() != parent { // it ended before that
			return errors.New("serve has ended")
		}
	}
	return confine.Role(z.Confine)
}

// mount makes the disk read-only in this process's mount namespace, except for its own
// directories, and mounts a /tmp of its own. Process.Command created the namespace.
func (z Zone) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if z.UID == 0 { // it opens rooms and must be able to mount anything in them
		return nil
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return fmt.Errorf("making the disk read-only: %w", err)
	}
	// The maps of user namespaces are written there. The process's user may write
	// nothing else in /proc.
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
	if z.HideProc {
		if err := Hide([]string{"/proc"}, "size=4k"); err != nil {
			return err
		}
	}
	return os.Chdir(Root)
}

// bind mounts Source at Root/Name.
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

// account adds the user to /etc/passwd with a name and a home: ssh does not start
// without them.
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

// home returns the path of the first writable mount, or "/".
func (z Zone) home() string {
	for _, m := range z.Mounts {
		if m.Write {
			return z.Path(m.Name)
		}
	}
	return "/"
}

// environment returns the variables of our environment that the process gets. The
// others may hold secrets.
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
	if file := z.CAFile(); file != "" && z.UID != 0 { // overrides the earlier SSL_CERT_FILE
		env = append(env, "SSL_CERT_FILE="+file)
	}
	return env
}

// hostPaths replaces the paths of mounts in text with their paths on the host.
func (z Zone) hostPaths(text string) string {
	if z.Separate {
		for _, m := range z.Mounts {
			text = strings.ReplaceAll(text, filepath.Join(Root, m.Name), m.Source)
		}
	}
	return text
}
