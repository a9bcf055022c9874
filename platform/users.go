package platform

import (
	"os"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/zone"
)

// uidBase is the default of roles.uidBase. It is below the ranges that rooms use, and
// outside the ranges from which Debian and systemd allocate.
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
