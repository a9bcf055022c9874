package platform

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/authority/root"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/zone"
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
		"registry": {"mutable": ["scratch/*"], "privatePull": true, "gate": {"policies": "/p", "trust": "/t", "mode": "audit", "memory": 64}},
		"build": {"cpus": 2, "memory": 1, "pids": 3, "disk": 67108864, "io": 5, "wallTime": "30m", "concurrent": 6, "runtime": "crun", "uidBase": 7, "stdCache": "/std",
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
	want := builder.Limits{CPUs: 2, Memory: 1, PIDs: 3, Disk: 64 << 20, IO: 5, WallTime: 30 * time.Minute}
	if got := c.Build.Limits; got != want {
		t.Errorf("limits: got %+v, want %+v", got, want)
	}
	if n := c.Build.Network; n.Ports[0] != 81 || n.Allow[0].Bits() != 8 || n.Deny[0].Bits() != 32 || n.AllowHosts[0] != "a.test" || n.DenyHosts[0] != "b.test" || n.StoreSize != 8 {
		t.Errorf("network: got %+v", n)
	}
	if got, want := c.Registry.Gate, (gateConfig{Policies: "/p", Trust: "/t", Mode: "audit", Memory: 64}); got == nil || *got != want {
		t.Errorf("gate: got %+v, want %+v", got, want)
	}
	if b := c.Build; b.Concurrent != 6 || b.Runtime != "crun" || b.UIDBase != 7 || b.StdCache != "/std" {
		t.Errorf("build: got %+v", b)
	}
}

func TestConfigIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"unknown": 1}`:                                            "unknown",
		`{"build": {"Limits": {"cpus": 1}}}`:                        "Limits",
		`{"build": {"wallTime": 1800000000000}}`:                    "wallTime",
		`{"build": {"wallTime": "-1s"}}`:                            "build.wallTime",
		`{"build": {"network": {"x": 1}}}`:                          "x",
		`{"trustedRoot": "/a"}`:                                     "signingConfig",
		`{"build": {"network": {"allow": ["127.0.0.0/8"]}}}`:        "build.network: allow",
		`{"roles": {"builder": "nowhere"}}`:                         "roles.builder",
		`{"audit": {"retention": "1s"}}`:                            "audit: retention",
		`{"audit": {"private": ["tag"]}}`:                           "audit: private",
		`{"audit": {"writers": [{"role": "gate", "key": "AAAA"}]}}`: "audit: writers: 1",
		`{"audit": {"writers": [{"role": "attestor", "key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}]}}`: "audit: writers: 1", // it enrols itself
		`{"audit": {"writers": [{"role": "audit", "key": "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="}]}}`:    "audit: writers: 1",
		`{"registry": {"gate": {}}}`:                                                                "registry.gate: policies",
		`{"registry": {"gate": {"policies": "p", "mode": "warn"}}}`:                                 "expected enforce or audit",
		`{"registry": {"gate": {"policies": "p", "clusterImagePolicies": {"noMatchPolicy": "x"}}}}`: "noMatchPolicy",
		`{"registry": {"gate": {"policies": "p", "memory": 2000}}}`:                                 "memory",
		`{"roles": {"rooms": "a:1"}}`:                                                               "rooms",
		`{"roles": {"uidBase": "a"}}`:                                                               "uidBase",
		`{"roles": {"uidBase": 1, "uidBase": 2}}`:                                                   "uidBase",
		`{"recipes": [{"recipe": {}}]}`:                                                             "recipes: images",
		`{"recipes": [{"images": "[", "recipe": {}}]}`:                                              "recipes: images",
		`{"recipes": [{"images": "*", "any": true}]}`:                                               "any",
		`{"recipes": [{"images": "*", "recipe": {"anyRecipe": true}}]}`:                             "anyRecipe",
		`{"recipes": [{"images": "*", "recipe": {"target": "a", "package": "./b"}}]}`:               "no builder has both",
	} {
		if _, err := readText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %q", text, err, want)
		}
	}
}

// docs/configuration.md has a row for each field, and a row for nothing else.
func TestConfigurationTable(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| field | meaning | default |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/configuration.md has no table of fields")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(line, " | ")
		prefix := ""
		for i, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			name := m[1]
			if i == 0 {
				prefix = name[:strings.LastIndex(name, ".")+1]
			} else {
				name = prefix + name
			}
			documented = append(documented, name)
		}
	}
	var fields []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "" || prefix == "build." && f.Name == "WallTime" && f.Type.Kind() != reflect.String: // Limits, embedded
			case f.Type == reflect.TypeFor[rolesConfig](): // one field for each role that can have a host
				fields = append(fields, "roles.uidBase", "roles.door")
				for _, r := range roles() {
					if r.listen != "" {
						fields = append(fields, "roles."+r.name)
					}
				}
			case f.Type.Kind() == reflect.Struct:
				walk(prefix+name+".", f.Type)
			default:
				fields = append(fields, prefix+name)
			}
		}
	}
	walk("", reflect.TypeFor[configFile]())
	slices.Sort(documented)
	slices.Sort(fields)
	if !slices.Equal(documented, slices.Compact(fields)) {
		t.Errorf("docs/configuration.md has the fields\n%q, the code\n%q", documented, fields)
	}
}

// docs/configuration.md says as which user each role runs.
func TestUsersOfRolesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| role | user | may | answers |\n|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)`[^|]* \\| (\\w+)").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = m[2]
	}
	for _, r := range roles() {
		if r.name == roleServe {
			continue
		}
		want := "root"
		if r.user > 0 {
			want = strconv.Itoa(uidBase + r.user)
		}
		if documented[r.name] != want {
			t.Errorf("%s: the page has user %q, want %q", r.name, documented[r.name], want)
		}
		delete(documented, r.name)
		if r.memory < 1<<30 || r.memory > 4<<30 {
			t.Errorf("%s: memory of %d bytes; the page says between 1 and 4 GiB", r.name, r.memory)
		}
	}
	if len(documented) > 0 {
		t.Errorf("there are no roles %v", documented)
	}
}

// docs/ci.md and docs/configuration.md say what the tokens of the clients' files may do.
func TestWhatTokensMay(t *testing.T) {
	for name, want := range map[string]registry.Role{"pull.json": registry.Pull, "client.json": registry.Push, "attestor.json": registry.Push, "admin.json": registry.Admin} {
		if got := clients[name]; got != want {
			t.Errorf("%s: got role %v, want %v", name, got, want)
		}
	}
	if len(clients) != 4 || registry.Pull >= registry.Push || registry.Push >= registry.Admin {
		t.Errorf("got the files %v", clients)
	}
}

// If the platform's keys are lost and its logs are not, the trust services do not start,
// and make no new key.
func TestLostKeysAreNotReplaced(t *testing.T) {
	dir := t.TempDir()
	s := trustSettings{URL: "http://127.0.0.1:8080", KeyDir: filepath.Join(dir, "trust"), LogDir: filepath.Join(dir, "log"), CTDir: filepath.Join(dir, "ct"), IndexDir: filepath.Join(dir, "index"), ArchiveDir: filepath.Join(dir, "archivelog"), ArchiveIndexDir: filepath.Join(dir, "archiveindex")}
	services := &trustServices{settings: s, log: slog.New(slog.DiscardHandler), mux: http.NewServeMux(), inside: http.NewServeMux(), metrics: prometheus.NewRegistry()}
	if _, err := services.openLogs(&root.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := services.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.KeyDir); err != nil {
		t.Fatal(err)
	}
	err := runTrust(t.Context(), zone.Child[trustSettings]{Settings: s, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Errorf("got %v, want an error about a backup", err)
	}
	if made, _ := filepath.Glob(filepath.Join(s.KeyDir, "*")); len(made) > 0 {
		t.Errorf("the start made %q", made)
	}
}
