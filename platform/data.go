package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/platform/zone"
)

// open finds out who comes from other hosts, locks the data directory, listens on the port, and checks the files that
// this host's roles will read.
func (p *platform) open() (release func(), err error) {
	if err := p.findVisitors(); err != nil {
		return nil, err
	}
	if err := p.checkMirror(); err != nil { // otherwise only the first pull of a build would fail
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if err := p.findBuildkitd(); err != nil {
		return nil, fmt.Errorf("--buildkitd: %w", err)
	}
	if p.scanner, err = findScanner(); err != nil && p.runs(roleAttestor) {
		return nil, err
	}
	unlock, err := p.openData()
	if err != nil {
		return nil, err
	}
	if !p.runs(roleAPI) && p.host == roleServe {
		return unlock, nil
	}
	if p.port, err = listenOn(p.config.Listen); err != nil {
		unlock()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("--listen %s: another program listens there; choose another address, or end that program", p.config.Listen)
		}
		return nil, err
	}
	return func() { p.port.Close(); unlock() }, nil
}

// listenOn listens at a TCP address. Where serve was killed, its roles may have the port for a moment longer.
func listenOn(address string) (l net.Listener, err error) {
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if l, err = net.Listen("tcp", address); !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
	}
}

// maxData is the longest path of a data directory, in bytes. A socket's path has at
// most 107 bytes (unix(7)), and peer.Listen first makes the socket in a directory
// with a temporary name.
const maxData = 107 - len("/run/.sock-1234567890/s")

func checkLength(data string) error {
	if len(data) > maxData {
		return fmt.Errorf("--data %s is %d bytes long, the limit is %d: the kernel allows no longer socket paths; choose a shorter path", data, len(data), maxData)
	}
	return nil
}

// keepsURL fails if the data directory is of a platform with another URL. Its authority and its logs have
// the URL in their names, and would look damaged. All files of clients have the URL: an operator removes one
// of them for a new token.
func (p *platform) keepsURL(dir string) error {
	var c api.ClientConfig
	for name := range clients {
		if c, _ = readClient(filepath.Join(dir, name)); c.URL != "" { // openTokens says what is wrong with a file
			break
		}
	}
	if c.URL == "" || p.url == "" || c.URL == p.url {
		return nil
	}
	return &ConfigError{fmt.Errorf("%s is the directory of the platform %s, and a platform cannot change its URL, found %s: give --listen or --url as before, or another directory", dir, c.URL, p.url)}
}

// openData creates the data directory, checks that nobody else can change it, and locks
// it: one platform at a time uses it.
func (p *platform) openData() (unlock func(), err error) {
	if p.data, err = p.ownData(p.config.Data); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if err := checkLength(p.data); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.dir("run"), 0o700); err != nil {
		return nil, err
	}
	lock, err := dirlock.Take(p.data)
	if errors.Is(err, dirlock.ErrHeld) {
		return nil, fmt.Errorf("%s is in use by another colophond", p.data)
	} else if err != nil {
		return nil, err
	}
	retract, err := p.announce()
	if err != nil {
		lock.Release()
		return nil, err
	}
	release := func() { lock.Release(); retract() }
	if err := errors.Join(p.readCAs(), p.giveDirs()); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// announce says in run/ which process serves this directory, for colophon status and stop.
// They try the lock there and not that of the directory, so that they keep no platform from
// starting.
func (p *platform) announce() (retract func(), err error) {
	running, err := dirlock.Wait(p.dir("run"))
	if err != nil {
		return nil, err
	}
	pid := filepath.Join(p.dir("run"), api.PIDFile)
	retract = func() { os.Remove(pid); running.Release() }
	if err := os.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		retract()
		return nil, err
	}
	return retract, nil
}

// ownData creates the data directory dir and returns its path without symbolic links. It
// returns an error if another user could replace a part of it, or has put something there:
// what is in it must belong to root, to our user, or to the user of its role.
func (p *platform) ownData(dir string) (string, error) {
	dir, err := owned.Dir(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		users := []int{0, os.Geteuid()}
		for _, r := range roles() {
			if slices.Contains(r.dirs, e.Name()) {
				users = append(users, p.users.byRole[r.name])
			}
		}
		info, err := e.Info()
		if err != nil {
			return "", err
		}
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); !slices.Contains(users, uid) {
			path := filepath.Join(dir, e.Name())
			return "", fmt.Errorf("%s belongs to user %d, expected one of %v; if you trust what is in it, stop the platform and run chown -R root %s", path, uid, users, path)
		}
	}
	return dir, nil
}

// readCAs reads the file that SSL_CERT_FILE names, because the users of roles may be
// unable to read it.
func (p *platform) readCAs() (err error) {
	file := os.Getenv("SSL_CERT_FILE")
	if file == "" || !p.users.separate {
		return nil
	}
	if p.cas, err = os.ReadFile(file); err != nil {
		return fmt.Errorf("SSL_CERT_FILE: %w", err)
	}
	return nil
}

// giveDirs creates the directories of this host's roles and makes each role's user
// their owner.
func (p *platform) giveDirs() error {
	for _, r := range roles() {
		if !p.runs(r.name) {
			continue
		}
		for _, name := range r.dirs {
			if err := giveDir(p.dir(name), p.users.byRole[r.name]); err != nil {
				return err
			}
		}
	}
	if !p.users.separate {
		return nil
	}
	if err := p.giveStd(); err != nil {
		return err
	}
	// Roles may enter run to reach the sockets, but cannot list it.
	return errors.Join(os.Chown(p.dir("run"), 0, p.users.group), os.Chmod(p.dir("run"), 0o710), os.MkdirAll(zone.Root, 0o755))
}

// giveStd gives the role builder its directory of the compiled standard library, if the configuration names one.
func (p *platform) giveStd() error {
	std := p.file.Build.StdCache
	if std == "" || !p.users.separate || !p.runs(roleBuilder) {
		return nil
	}
	if err := giveDir(std, p.users.byRole[roleBuilder]); err != nil {
		return fmt.Errorf("build.stdCache: %w", err)
	}
	return nil
}

// giveDir creates the directory dir, with mode 0700, and makes it uid's.
func giveDir(dir string, uid int) error {
	dir, err := owned.Dir(dir, uid)
	if err != nil {
		return err
	}
	return owned.Give(dir, uid)
}

func (p *platform) dir(name string) string { return filepath.Join(p.data, name) }

// listen creates the Unix socket of a role and returns it as a file for its process.
func (p *platform) listen(role string) (*os.File, error) {
	l, err := peer.Listen(socket(p.dir("run"), role), p.users.group)
	if err != nil {
		return nil, err
	}
	defer l.Close() // File returns a duplicate, which stays open
	p.sockets = append(p.sockets, role)
	return l.File()
}

func (p *platform) removeSockets() {
	for _, role := range p.sockets {
		os.Remove(socket(p.dir("run"), role))
	}
}

// checkMirror checks that the gateway's user can read every file of the mirror.
func (p *platform) checkMirror() (err error) {
	if p.config.Mirror == "" {
		return nil
	}
	if p.config.Mirror, err = filepath.Abs(p.config.Mirror); err != nil {
		return err
	}
	if _, err := gateway.OpenMirror(p.config.Mirror); err != nil {
		return err
	}
	return filepath.WalkDir(p.config.Mirror, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && p.users.separate && info.Mode()&0o004 == 0 {
			err = fmt.Errorf("the gateway's user cannot read %s; chmod -R a+rX %s", path, p.config.Mirror)
		}
		return err
	})
}

// findBuildkitd sets p.buildkitd to Config.Buildkitd, or if that is empty to the
// buildkitd beside this program, else to the first in PATH. It is an error if
// Config.Buildkitd is no program. If no buildkitd is found, the platform has no
// buildkit builder.
func (p *platform) findBuildkitd() (err error) {
	if p.config.Buildkitd != "" {
		if p.buildkitd, err = filepath.Abs(p.config.Buildkitd); err != nil {
			return err
		}
		if info, err := os.Stat(p.buildkitd); err != nil {
			return err
		} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return fmt.Errorf("%s is not an executable file", p.buildkitd)
		}
		return nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "buildkitd")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			p.buildkitd = beside
			return nil
		}
	}
	if found, err := exec.LookPath("buildkitd"); err == nil {
		p.buildkitd = found
	}
	return nil
}

// findScanner returns the path of the program that scans images. It is beside this program.
func findScanner() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), scan.Program)
	if info, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the scanner of images must be beside colophond: %w; make build builds both", err)
	} else if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("the scanner of images, %s, is not an executable file", path)
	}
	return path, nil
}

// zone returns the zone of a role on this host: it sees the role's own directories
// and the directory of sockets.
func (p *platform) zone(r role) zone.Zone {
	z := zone.Zone{Separate: p.users.separate, UID: p.users.byRole[r.name], Group: p.users.group, Confine: r.confine, Entered: userns.Entered(), CAs: p.cas, Memory: r.memory, Killed: r.killed}
	for _, name := range r.dirs {
		z.Mounts = append(z.Mounts, zone.Mount{Source: p.dir(name), Name: name, Write: true})
	}
	z.Mounts = append(z.Mounts, zone.Mount{Source: p.dir("run"), Name: "run"})
	return z
}

// mirror returns the mount "mirror" for the roles that read it; nil without a mirror.
func (p *platform) mirror() []zone.Mount {
	if p.config.Mirror == "" {
		return nil
	}
	return []zone.Mount{{Source: p.config.Mirror, Name: "mirror"}}
}
