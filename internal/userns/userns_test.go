package userns

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubordinate(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		first uint64
		ok    bool
	}{
		"by name":           {"bob:100000:65536\nada:165536:65536\n", 165536, true},
		"by uid":            {"1001:165536:65536\n", 165536, true},
		"second is enough":  {"ada:1000:10\nada:300000:100000", 300000, true},
		"none":              {"bob:100000:65536\n", 0, false},
		"empty":             {"", 0, false},
		"too few":           {"ada:100000:65535\n", 0, false},
		"root's ids":        {"ada:0:65536\n", 0, false},
		"negative":          {"ada:-1:65536\n", 0, false},
		"no number":         {"ada:x:65536\n", 0, false},
		"beyond the kernel": {"ada:4294967296:65536\n", 0, false},
		"a longer name":     {"adam:100000:65536\n", 0, false},
		"a comment":         {"#ada:100000:65536\n", 0, false},
		"more fields":       {"ada:100000:65536:1\n", 0, false},
	} {
		if first, ok := subordinate([]byte(c.text), "ada", "1001"); first != c.first || ok != c.ok {
			t.Errorf("%s: got %d, %v, want %d, %v", name, first, ok, c.first, c.ok)
		}
	}
}

// Each cause has a message of its own, and says what to do.
func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		file, value, want, hint string
	}{
		"none left to plain users": {"user/max_user_namespaces", "0\n", "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="},
		"Debian's setting":         {"kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		"AppArmor":                 {"kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns is 1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		"allowed":                  {"user/max_user_namespaces", "96364\n", "or a container", "outside of a container"},
	} {
		sys := t.TempDir()
		path := filepath.Join(sys, c.file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c.value), 0o644)); err != nil {
			t.Fatal(err)
		}
		lack := explain(sys, os.ErrPermission)
		if !strings.Contains(lack.Error(), c.want) || !strings.Contains(lack.Hint, c.hint) || !errors.Is(lack, os.ErrPermission) {
			t.Errorf("%s: got %q, hint %q", name, lack, lack.Hint)
		}
	}
}

// Nothing but the argv[0] of Run makes a process one that entered.
func TestNotEntered(t *testing.T) {
	if Entered() {
		t.Error("the test entered a namespace")
	}
}
