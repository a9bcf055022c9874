package platform

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
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
	for name, want := range map[string]int{"trust": 1, "attestor": 2, "builder": 3, "registry": 4, "api": 5, "gateway": 6, "door": 7, "driver": 8, "acme": 9, "hasher": 10, "search": 11, "ledger": 12, "rooms": 0, "serve": 0} {
		if r, err := findRole(name); err != nil || r.user != want {
			t.Errorf("%s: got user %d and %v, want %d", name, r.user, err, want)
		}
	}
}

// TestPageOfRoles: docs/configuration.md has each role's user, and which roles it answers.
func TestPageOfRoles(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Roles and their users")
	table, _, _ = strings.Cut(table, "###")
	row := regexp.MustCompile("(?m)^\\| `([a-z]+)`.* \\| ([^|]+) \\| ([^|]*) ?\\| ([^|]+) \\|$")
	listed := map[string][]string{}
	for _, cells := range row.FindAllStringSubmatch(table, -1) {
		listed[cells[1]] = cells[2:]
	}
	for _, r := range roles() {
		if r.name == roleServe {
			continue // no role asks it
		}
		cells := listed[r.name]
		user := fmt.Sprint(64700 + r.user)
		if r.user == 0 {
			user = fmt.Sprintf("root, with %d capabilities", len(roomsCapabilities()))
		}
		if cells == nil || cells[0] != user {
			t.Errorf("%s: got the row %q, want the user %s", r.name, cells, user)
			continue
		}
		for _, other := range roles() {
			said := regexp.MustCompile(`(?i)\b` + other.name + `\b`).MatchString(cells[2])
			if asks := slices.Contains(other.asks, r.name); said != asks {
				t.Errorf("the row of %s says that it answers %s: %v, want %v", r.name, other.name, said, asks)
			}
		}
	}
}
