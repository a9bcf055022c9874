package userns

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Lack is what is missing on this host for Run.
type Lack struct {
	Err  error
	Hint string // what to do about it
}

func (l *Lack) Error() string { return l.Err.Error() }
func (l *Lack) Unwrap() error { return l.Err }

// idMaps is what the ids of a namespace are mapped with.
type idMaps struct {
	newuidmap, newgidmap string // programs
	uid, gid             uint64 // first of the user's subordinate ids
}

const (
	subuidFile = "/etc/subuid"
	subgidFile = "/etc/subgid"
)

// Check returns nil if this user can Run this program in a user namespace on this host,
// else a *Lack. It tries it.
func Check() error {
	maps, lack := find()
	if lack != nil {
		return lack
	}
	if _, err := stateDir(); err != nil {
		return &Lack{fmt.Errorf("no directory for the locks of this user's platforms: %w", err), "set HOME to the home directory of the user"}
	}
	cmd := command(probing, probing)
	cmd.Env = []string{}
	var said bytes.Buffer
	cmd.Stderr = &said
	err := maps.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		if said.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()[:min(said.Len(), quoted)]))
		}
		return explain("/proc/sys", err)
	}
	return nil
}

// find finds what the maps need.
func find() (*idMaps, error) {
	me, err := user.Current()
	if err != nil {
		return nil, &Lack{err, "give the user an account of this host"}
	}
	m := &idMaps{}
	for name, at := range map[string]*string{"newuidmap": &m.newuidmap, "newgidmap": &m.newgidmap} {
		if *at, err = exec.LookPath(name); err != nil {
			return nil, &Lack{fmt.Errorf("%s is not installed", name), "install it (apt-get install uidmap)"}
		}
	}
	for file, first := range map[string]*uint64{subuidFile: &m.uid, subgidFile: &m.gid} {
		data, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			return nil, &Lack{err, "make the file readable"}
		}
		start, ok := subordinate(data, me.Username, me.Uid)
		if !ok {
			return nil, &Lack{
				fmt.Errorf("%s gives user %s no %d ids", file, me.Username, Size),
				fmt.Sprintf("give the user a range that nobody else has, as root: usermod --add-%ss FIRST-LAST %s", filepath.Base(file)[:len("subuid")], me.Username),
			}
		}
		*first = start
	}
	return m, nil
}

// subordinate finds the first range of at least Size ids of a user in the text of subuid(5):
//
//	NAME-OR-UID ":" FIRST ":" COUNT
func subordinate(text []byte, name, uid string) (first uint64, ok bool) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		start, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			continue
		}
		if count, err := strconv.ParseUint(f[2], 10, 32); err == nil && count >= Size && start > 0 {
			return start, true
		}
	}
	return 0, false
}

// explain finds the setting of the kernel, below /proc/sys, that keeps user namespaces from
// plain users.
func explain(sys string, err error) *Lack {
	for _, s := range []struct{ name, forbids, set string }{
		{"user/max_user_namespaces", "0", "user.max_user_namespaces=15000"},
		{"kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		value, rerr := os.ReadFile(filepath.Join(sys, s.name))
		if rerr == nil && strings.TrimSpace(string(value)) == s.forbids {
			setting := strings.ReplaceAll(s.name, "/", ".")
			return &Lack{
				fmt.Errorf("the kernel gives plain users no user namespaces (%s is %s): %w", setting, s.forbids, err),
				"allow them, as root: sysctl -w " + s.set,
			}
		}
	}
	return &Lack{fmt.Errorf("the kernel or a container around this process gives plain users no user namespaces: %w", err), "run colophond on a host, outside of a container"}
}
