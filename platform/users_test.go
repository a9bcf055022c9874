package platform

import (
	"strings"
	"testing"
)

// No two of roles, rooms and the host's accounts have the same uid.
func TestUIDsDoNotOverlap(t *testing.T) {
	const slot = 1 << 21 // ids of one room
	for _, c := range []struct {
		roles int
		rooms uint32
		want  string
	}{
		{0, 0, ""},
		{64800, slot * 2, ""},
		{slot*2 - 13, slot * 2, ""},
		{slot*2 - 12, slot * 2, "roles.uidBase and build.uidBase"}, // that of ledger
		{slot * 2, slot * 2, "roles.uidBase and build.uidBase"},
		{slot*130 - 1, slot * 2, "roles.uidBase and build.uidBase"},
		{slot * 130, slot * 2, ""},
		{0x70000000 + 5, 0, "roles.uidBase and build.uidBase"},
		{0, 65536, "build.uidBase: expected a multiple of 2097152"},
		{0, 100000, "build.uidBase: expected a multiple of 2097152"},
		{0, slot*2 + 1, "build.uidBase: expected a multiple of 2097152"},
		{0, 0xffff0000, "build.uidBase: expected a multiple of 2097152"}, // its ranges would begin again at 0
		{-5, 0, "roles.uidBase: expected"},
		{1<<32 - 5, 0, "roles.uidBase: expected"},
		{1 << 40, 0, "roles.uidBase: expected"},
		{65530, slot * 2, "is the account nobody"},
	} {
		err := checkUIDs(c.roles, c.rooms, false)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("roles %d, rooms %d: got %v, want %q", c.roles, c.rooms, err, c.want)
		}
	}
}
