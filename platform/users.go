package platform

import (
	"fmt"
	"math"
	"os"
	"os/user"
	"strconv"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/zone"
)

// uidBase is the default of roles.uidBase. It is below the ranges that rooms use, and in
// a range from which Debian allocates to its own packages only.
const uidBase = 64700

// users are the users that the roles of this host run as.
type users struct {
	separate bool       // each role has a user of its own
	why      error      // why separate is false
	byRole   peer.Users // peer.Elsewhere for roles of other hosts
	group    int        // group of the sockets; every role is a member
}

// newUsers assigns each role its user, counted from base. If this host cannot separate
// roles, all roles run as the current user.
func newUsers(base int) users {
	if base == 0 {
		base = uidBase
	}
	u := users{separate: true, group: base, byRole: peer.Users{}}
	for _, r := range roles() {
		u.byRole[r.name] = 0
		if r.user > 0 {
			u.byRole[r.name] = base + r.user
		}
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

// checkUIDs returns an error if two users of this host would have the same uid: roles,
// rooms, and the accounts of the host. roleBase and roomBase are roles.uidBase and
// build.uidBase.
func checkUIDs(roleBase int, roomBase uint32) error {
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
