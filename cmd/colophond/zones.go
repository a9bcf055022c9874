package main

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
	"github.com/colophon-build/colophon/internal/peer"
)

// Roles of a platform, as peer.Users names them. serve starts the others and
// does nothing else; rooms and it are the only ones that stay root.
const (
	roleServe    = "serve"
	roleTrust    = "trust"
	roleAttestor = "attestor"
	roleBuilder  = "builder"
	roleRooms    = "rooms"
	roleGateway  = "gateway"
	roleRegistry = "registry"
	roleAPI      = "api"
	roleDoor     = peer.RoleDoor
)

// uidBase is the default of roles.uidBase: below the ranges that rooms take,
// and in none that Debian or systemd hand out.
const uidBase = 64700

// zones are the users that the roles run as.
type zones struct {
	separate bool   // each role has a user of its own
	why      string // they have not
	users    peer.Users
	group    int // of the sockets; every role is a member
}

// newZones finds out whether roles can be kept apart here.
func newZones(base int) zones {
	if base == 0 {
		base = uidBase
	}
	z := zones{separate: true, group: base, users: peer.Users{roleServe: 0, roleRooms: 0}}
	for i, role := range []string{roleTrust, roleAttestor, roleBuilder, roleRegistry, roleAPI, roleGateway, roleDoor} {
		z.users[role] = base + 1 + i
	}
	if os.Geteuid() != 0 {
		z.why = "colophond was not started as root"
	} else if err := canSeparate(); err != nil {
		z.why = fmt.Sprintf("root may not make mount namespaces here: %v", err)
	}
	if z.why != "" {
		z.separate, z.group = false, -1
		delete(z.users, roleDoor) // has nobody to tell apart
		for role := range z.users {
			z.users[role] = os.Geteuid()
		}
	}
	return z
}

// canSeparate tries what every role needs, on a thread that ends with it.
func canSeparate() error {
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		failed <- unix.Unshare(unix.CLONE_NEWNS)
	}()
	return <-failed
}

// zoneRoot is where a role finds what it was given of the disk, whatever the
// path of the data directory is: its user need not be able to walk there.
const zoneRoot = "/run/colophon-zone"

// zone is where one role lives: its user, and what of the disk it may write.
type zone struct {
	Separate bool           `json:"separate"`
	UID      int            `json:"uid"`
	Group    int            `json:"group"`
	Mounts   []zoneMount    `json:"mounts,omitempty"`
	CAs      []byte         `json:"cas,omitempty"` // PEM: what SSL_CERT_FILE held, which the role's user may not be able to read
	Confine  confine.Policy `json:"confine"`
}

// zoneMount shows a directory or file of the host as zoneRoot/Name.
type zoneMount struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	Write  bool   `json:"write,omitempty"`
}

// path is where a role finds one of its mounts; empty where it has none of that name.
func (z zone) path(name string) string {
	for _, m := range z.Mounts {
		if m.Name != name {
			continue
		}
		if z.Separate {
			return filepath.Join(zoneRoot, name)
		}
		return m.Source
	}
	return ""
}

// casFile is where a role finds zone.CAs.
const casFile = zoneRoot + "/ca.pem"

// socket is where a role finds another's.
func (z zone) socket(role string) string { return filepath.Join(z.path("run"), role+".sock") }

// enter makes this process the role's, for good. It is the first thing a role
// does: nothing from outside was read yet but the settings of serve.
func (z zone) enter() error {
	if z.Separate {
		if err := z.furnish(); err != nil {
			return fmt.Errorf("furnishing the role's part of the disk: %w", err)
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

// furnish gives this process a mount namespace in which everything is read-only
// but the role's own directories, and /tmp is its own. The process has that
// namespace already (see role.run).
func (z zone) furnish() error {
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
	if err := unix.Mount("zone", zoneRoot, "tmpfs", safe, "mode=0755,size=8m"); err != nil {
		return err
	}
	for _, m := range z.Mounts {
		target := filepath.Join(zoneRoot, m.Name)
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
	if err := unix.MountSetattr(unix.AT_FDCWD, zoneRoot, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return os.Chdir(zoneRoot)
}

// account gives the user a name and a home, without which ssh does not start.
func (z zone) account() error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	passwd = fmt.Appendf(bytes.TrimRight(passwd, "\n"), "\ncolophon:x:%d:%d:Colophon:%s:/usr/sbin/nologin\n", z.UID, z.UID, z.home())
	file := filepath.Join(zoneRoot, "passwd")
	if err := os.WriteFile(file, passwd, 0o644); err != nil {
		return err
	}
	return unix.Mount(file, "/etc/passwd", "", unix.MS_BIND, "")
}

// home is the first directory that the role may write.
func (z zone) home() string {
	for _, m := range z.Mounts {
		if m.Write {
			return z.path(m.Name)
		}
	}
	return "/"
}

// environment is what a role gets to know of serve's: no secret that somebody
// left there.
func (z zone) environment() []string {
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
	if z.CAs != nil && z.UID != 0 { // the last of a name counts
		env = append(env, "SSL_CERT_FILE="+casFile)
	}
	return env
}

// outside puts the names of the host's directories into a text for people.
func (z zone) outside(text string) string {
	if z.Separate {
		for _, m := range z.Mounts {
			text = strings.ReplaceAll(text, filepath.Join(zoneRoot, m.Name), m.Source)
		}
	}
	return text
}

// own makes dir a user's alone, with all that is in it where it was another's:
// a data directory may come from a platform that was one user.
func own(dir string, uid int) error {
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
