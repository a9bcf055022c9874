package platform

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/needs"
)

// TestPortOfKilledRoles: the roles of a serve that was killed have the port until the kernel has ended them.
func TestPortOfKilledRoles(t *testing.T) {
	old, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(200*time.Millisecond, func() { old.Close() }).Stop()
	l, err := listenOn(old.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// --buildkitd has precedence over PATH and must name a program.
func TestFindBuildkitd(t *testing.T) {
	dir := t.TempDir()
	inPath, given, text := filepath.Join(dir, "path", "buildkitd"), filepath.Join(dir, "given"), filepath.Join(dir, "text")
	if err := os.Mkdir(filepath.Dir(inPath), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, mode := range map[string]os.FileMode{inPath: 0o755, given: 0o755, text: 0o644} {
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Dir(inPath))
	for flag, want := range map[string]string{"": inPath, given: given} {
		p := &platform{config: Config{Buildkitd: flag}}
		if err := p.findBuildkitd(); err != nil || p.buildkitd != want {
			t.Errorf("--buildkitd %q: got %q, %v, want %q", flag, p.buildkitd, err, want)
		}
	}
	for _, flag := range []string{text, dir, filepath.Join(dir, "missing")} {
		p := &platform{config: Config{Buildkitd: flag}}
		if err := p.findBuildkitd(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("--buildkitd %q: got %q, %v, want an error that names it", flag, p.buildkitd, err)
		}
	}
	t.Setenv("PATH", "")
	p := &platform{}
	if err := p.findBuildkitd(); err != nil || p.buildkitd != "" {
		t.Errorf("without any: got %q, %v, want none", p.buildkitd, err)
	}
}

// serve of root uses no data directory that somebody else could change, or has filled.
func TestDataOfSomebodyElse(t *testing.T) {
	needs.Root(t, "giving files to other users")
	for name, c := range map[string]struct{ script, want string }{
		"his directory":             {"mkdir data; chown 65534 data", "belongs to user 65534"},
		"a directory below his":     {"mkdir -p his/data; chown 65534 his; ln -s his/data data", "his belongs to user 65534"},
		"everybody's directory":     {"mkdir data; chmod 777 data", "chmod go-w"},
		"his token in ours":         {"mkdir data; echo '{\"token\":\"x\"}' > data/admin.json; chown 65534 data/admin.json", "admin.json belongs to user 65534"},
		"his keys in ours":          {"mkdir -p data/trust; chown 65534 data/trust", "trust belongs to user 65534"},
		"keys of another role":      {"mkdir -p data/trust; chown 64703 data/trust", "trust belongs to user 64703"},
		"his file among a role's":   {"mkdir -p data/log; touch data/log/x; chown 65534 data/log/x", "log/x belongs to user 65534"},
		"a link to somebody's file": {"mkdir data; touch his; chown 65534 his; ln -s ../his data/lock", "lock"},
		"nothing":                   {"true", ""},
		"a copy of root":            {"mkdir -p data/trust/tuf data/log; touch data/trust/issuer.key data/trust/tuf/x", ""},
	} {
		dir := t.TempDir()
		if out, err := exec.Command("sh", "-euc", "cd "+dir+"; "+c.script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		p := &platform{config: Config{Data: filepath.Join(dir, "data")}, host: roleServe, users: newUsers(0)}
		unlock, err := p.openData()
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		unlock()
		for path, want := range map[string]int{"trust": 64701, "log": 64701, "registry": 64704, "rooms": 0, "run": 0, "": 0} {
			info, err := os.Stat(filepath.Join(p.data, path))
			if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != want {
				t.Errorf("%s: %q belongs to %v, %v, want %d", name, path, info, err, want)
			}
		}
	}
	// enrol and the configuration of root are no back doors.
	dir := t.TempDir()
	if out, err := exec.Command("sh", "-euc", "cd "+dir+"; mkdir data; chown 65534 data; echo '{}' > config.json; chown 65534 config.json").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := newEnrolment(EnrolConfig{Role: roleAPI, Data: filepath.Join(dir, "data"), URL: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("enrol: got %v, want a refusal", err)
	}
	if _, err := readConfig(filepath.Join(dir, "config.json")); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("--config: got %v, want a refusal", err)
	}
	if _, err := readEnrolment(filepath.Join(dir, "config.json")); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("--enrolment: got %v, want a refusal", err)
	}
	if _, err := readClient(filepath.Join(dir, "config.json")); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("a token: got %v, want a refusal", err)
	}
}
