package platform

import (
	"os"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/zone"
)

// uidBase is the default of roles.uidBase: below the ranges that rooms take, and
// in no range that Debian or systemd hand out.
const uidBase = 64700

// users are the users that the roles of this host run as.
type users struct {
	separate bool       // each role has a user of its own
	why      error      // why not
	byRole   peer.Users // peer.Elsewhere for roles of other hosts
	group    int        // of the sockets; every role is a member
}

// newUsers gives each role a user from base on, if roles can be kept apart here.
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
		delete(u.byRole, roleDoor) // a door tells users apart, and there is one
		for role := range u.byRole {
			u.byRole[role] = os.Geteuid()
		}
	}
	return u
}
