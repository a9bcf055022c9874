package platform

import (
	"slices"
	"testing"
)

// The table of roles is consistent.
func TestTableOfRoles(t *testing.T) {
	users, dirs, names := map[int]string{}, map[string]string{}, []string{}
	for _, r := range roles() {
		for _, asked := range r.asks {
			if other, err := findRole(asked); err != nil {
				t.Errorf("%s asks: %v", r.name, err)
			} else if r.prepare != nil && other.prepare != nil && !slices.Contains(names, asked) {
				t.Errorf("%s stands before %s, which it asks: it would start first and end last", r.name, asked)
			}
		}
		names = append(names, r.name)
		if other := users[r.user]; r.user != 0 && other != "" {
			t.Errorf("%s and %s have the same user", r.name, other)
		}
		users[r.user] = r.name
		if r.user == 0 && r.name != roleServe && r.name != roleRooms {
			t.Errorf("%s is root", r.name)
		}
		if r.user != 0 && r.confine.Capabilities != nil {
			t.Errorf("%s keeps capabilities", r.name)
		}
		for _, d := range r.dirs {
			if other := dirs[d]; other != "" {
				t.Errorf("%s and %s have the same directory %s", r.name, other, d)
			}
			dirs[d] = r.name
		}
		if r.listen != "" && r.beside != "" {
			t.Errorf("%s may run on a host of its own, and beside %s", r.name, r.beside)
		}
		if r.prepare != nil && r.run == nil {
			t.Errorf("%s is started and has no command", r.name)
		}
	}
	// These users own the files of existing platforms, so they must not change
	// (docs/configuration.md).
	for name, want := range map[string]int{"trust": 1, "attestor": 2, "builder": 3, "registry": 4, "api": 5, "gateway": 6, "door": 7, "driver": 8, "acme": 9, "search": 11, "ledger": 12, "rooms": 0, "serve": 0} {
		if r, err := findRole(name); err != nil || r.user != want {
			t.Errorf("%s: got user %d and %v, want %d", name, r.user, err, want)
		}
	}
}
