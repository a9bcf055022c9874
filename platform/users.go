package platform

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/zone"
)

// uidBase is the default of roles.uidBase. It is below the ranges that rooms use, and in
// a range from which Debian allocates to its own packages only.
const uidBase = 64700

// users are the users that the roles of this host run as.
type users struct {
	separate bool       // each role has a user of its own
	nested   bool       // these users are ids of a user namespace, which its owner can become outside
	why      error      // why separate is false
	byRole   peer.Users // peer.Elsewhere for roles of other hosts
	group    int        // group of the sockets; every role is a member
	lack     error      // why a plain user cannot have users of his own in a user namespace
}

// plain reports whether we run as a plain user who can have users of his own in a user
// namespace. He runs no role outside of it.
func (u users) plain() bool { return os.Geteuid() != 0 && u.lack == nil }

// inside reports whether the roles run in a user namespace: this process is in one already, or serve makes one.
func (u users) inside() bool { return u.nested || u.plain() }

// newUsers assigns each role its user, counted from base. If this host cannot separate
// roles, all roles run as the current user.
func newUsers(base int) users {
	if base == 0 {
		base = uidBase
	}
	u := users{separate: true, nested: !userns.Initial(), group: base, byRole: peer.Users{}}
	for _, r := range roles() {
		u.byRole[r.name] = 0
		if r.user > 0 {
			u.byRole[r.name] = base + r.user
		}
	}
	if os.Geteuid() != 0 {
		u.lack = userns.Check()
	}
	if u.why = zone.Separable(); u.why != nil {
		u.separate, u.group = false, -1
		delete(u.byRole, roleDoor) // sockets recognise the door by its user, so it needs its own
		for role := range u.byRole {
			u.byRole[role] = os.Geteuid()
		}
	}
	return u
}

// roomsLack returns what a plain user lacks for rooms; nil if he lacks nothing.
func (u users) roomsLack() *builder.Lack {
	lack, ok := errors.AsType[*userns.Lack](u.lack)
	if !ok {
		return nil
	}
	return &builder.Lack{
		Reason: fmt.Sprintf("%v: the platform runs as uid %d, and %v", sandbox.ErrUnsupported, os.Geteuid(), lack),
		Hint:   lack.Hint + "; or start a platform as root, with sudo colophond serve --data DIR, or use one elsewhere; then colophon login with a copy of its DIR/client.json",
	}
}

// checkRooms returns an error if the configuration asks for more than the rooms of this host
// have: a plain user's rooms have no cgroup and no file system of their own.
func (u users) checkRooms(b buildConfig) error {
	if most := sandbox.Rooms(); b.Concurrent > most {
		return fmt.Errorf("build.concurrent: expected at most %d, the number of rooms for which this host has ids, found %d", most, b.Concurrent)
	}
	if !u.inside() {
		return nil
	}
	l := b.Limits
	for name, set := range map[string]bool{"cpus": l.CPUs > 0, "memory": l.Memory > 0, "disk": l.Disk > 0, "io": l.IO > 0} {
		if set {
			return fmt.Errorf("build.%s: a platform in a user namespace cannot limit it; remove it, or start the platform as root", name)
		}
	}
	return nil
}

// checkUIDs returns an error if two users of this host would have the same uid: roles,
// rooms, and the accounts of the host. roleBase and roomBase are roles.uidBase and
// build.uidBase. inside is users.inside.
func checkUIDs(roleBase int, roomBase uint32, inside bool) error {
	rooms, size, err := sandbox.Range(roomBase)
	if err != nil {
		return fmt.Errorf("build.uidBase: %w", err)
	}
	if roleBase == 0 {
		roleBase = uidBase
	}
	last := roleBase
	for _, r := range roles() {
		last = max(last, roleBase+r.user)
	}
	switch {
	case roleBase < 1 || last >= math.MaxUint32:
		return fmt.Errorf("roles.uidBase: expected a number from 1 to %d, found %d", math.MaxUint32-1-last+roleBase, roleBase)
	case inside && last >= userns.Outside: // as which everybody outside connects to sockets
		return fmt.Errorf("roles.uidBase: in a user namespace, the users of the roles must be below %d, and they end at %d", userns.Outside, last)
	case int64(last) >= int64(rooms) && int64(roleBase) < int64(rooms)+int64(size):
		return fmt.Errorf("roles.uidBase and build.uidBase: the users %d to %d of the roles are among the users %d to %d of rooms; a build would be a role", roleBase, last, rooms, rooms+size-1)
	}
	for id := roleBase; id <= last; id++ {
		if account, err := user.LookupId(strconv.Itoa(id)); err == nil {
			return fmt.Errorf("roles.uidBase: user %d is the account %s of this host; choose a range without accounts", id, account.Username)
		}
	}
	return nil
}
