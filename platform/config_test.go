package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/builder"
)

func readText(t *testing.T, text string) (configFile, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readConfig(file)
}

// Every name in docs/configuration.md is a field whose value reaches the code that uses it.
func TestConfigFields(t *testing.T) {
	c, err := readText(t, `{
		"roles": {"uidBase": 9, "trust": "t:1", "registry": "r:1", "attestor": "a:1", "builder": "b:1", "api": "p:1", "door": "d:1"},
		"recipes": [{"images": "r.io/team/*", "recipe": {"target": {"pattern": "final|slim"}, "buildArgs": {"A": "b"}}}],
		"registry": {"mutable": ["scratch/*"], "privatePull": true},
		"build": {"cpus": 2, "memory": 1, "pids": 3, "disk": 4, "io": 5, "wallTime": "30m", "concurrent": 6, "runtime": "crun", "uidBase": 7, "stdCache": "/std",
			"network": {"ports": [81], "allow": ["10.0.0.0/8"], "deny": ["1.1.1.1/32"], "allowHosts": ["a.test"], "denyHosts": ["b.test"], "storeSize": 8}}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Roles.UIDBase != 9 || len(c.Roles.Hosts) != 6 || c.Roles.Hosts["door"] != "d:1" {
		t.Errorf("roles: got %+v", c.Roles)
	}
	if r := c.Recipes; len(r) != 1 || r[0].Images != "r.io/team/*" || r[0].Recipe.Target.Pattern != "final|slim" || r[0].Recipe.BuildArgs["A"].Exact != "b" {
		t.Errorf("recipes: got %+v", r)
	}
	want := builder.Limits{CPUs: 2, Memory: 1, PIDs: 3, Disk: 4, IO: 5, WallTime: 30 * time.Minute}
	if got := c.Build.Limits; got != want {
		t.Errorf("limits: got %+v, want %+v", got, want)
	}
	if n := c.Build.Network; n.Ports[0] != 81 || n.Allow[0].Bits() != 8 || n.Deny[0].Bits() != 32 || n.AllowHosts[0] != "a.test" || n.DenyHosts[0] != "b.test" || n.StoreSize != 8 {
		t.Errorf("network: got %+v", n)
	}
	if b := c.Build; b.Concurrent != 6 || b.Runtime != "crun" || b.UIDBase != 7 || b.StdCache != "/std" {
		t.Errorf("build: got %+v", b)
	}
}

func TestConfigIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"unknown": 1}`:                                                              "unknown",
		`{"build": {"Limits": {"cpus": 1}}}`:                                          "Limits",
		`{"build": {"wallTime": 1800000000000}}`:                                      "wallTime",
		`{"build": {"wallTime": "-1s"}}`:                                              "build.wallTime",
		`{"build": {"network": {"x": 1}}}`:                                            "x",
		`{"trustedRoot": "/a"}`:                                                       "signingConfig",
		`{"build": {"network": {"allow": ["127.0.0.0/8"]}}}`:                          "build.network: allow",
		`{"roles": {"builder": "nowhere"}}`:                                           "roles.builder",
		`{"roles": {"rooms": "a:1"}}`:                                                 "rooms",
		`{"roles": {"uidBase": "a"}}`:                                                 "uidBase",
		`{"roles": {"uidBase": 1, "uidBase": 2}}`:                                     "uidBase",
		`{"recipes": [{"recipe": {}}]}`:                                               "recipes: images",
		`{"recipes": [{"images": "[", "recipe": {}}]}`:                                "recipes: images",
		`{"recipes": [{"images": "*", "any": true}]}`:                                 "any",
		`{"recipes": [{"images": "*", "recipe": {"anyRecipe": true}}]}`:               "anyRecipe",
		`{"recipes": [{"images": "*", "recipe": {"target": "a", "package": "./b"}}]}`: "no builder has both",
	} {
		if _, err := readText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %q", text, err, want)
		}
	}
}
