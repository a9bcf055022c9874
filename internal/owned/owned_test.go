package owned

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

const stranger = 65534

func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "giving files to other users")
}

// do runs shell commands in dir: they say best who owns what.
func do(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// tree returns the paths of all that is in dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestDir(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct{ script, path, want string }{
		"new":                         {"true", "a/b/data", ""},
		"of root":                     {"mkdir data", "data", ""},
		"of somebody else":            {"mkdir data; chown 65534 data", "data", "belongs to user 65534"},
		"everybody may write it":      {"mkdir data; chmod 777 data", "data", "chmod go-w"},
		"a group may write it":        {"mkdir data; chgrp 65534 data; chmod 770 data", "data", "chmod go-w"},
		"its own group may write it":  {"mkdir data; chmod 770 data", "data", ""},
		"sticky":                      {"mkdir data; chmod 1777 data", "data", "chmod go-w"},
		"parent of somebody else":     {"mkdir -p up/data; chown 65534 up", "up/data", "belongs to user 65534"},
		"new below somebody else's":   {"mkdir up; chown 65534 up", "up/a/data", "belongs to user 65534"},
		"everybody may write above":   {"mkdir -p up/data; chmod 777 up", "up/data", "chmod go-w"},
		"sticky above, of root":       {"mkdir -p up/data; chmod 1777 up", "up/data", ""},
		"sticky above, of a stranger": {"mkdir -p up/data; chmod 1777 up; chown 65534 up/data", "up/data", "belongs to user 65534"},
		"link of root":                {"mkdir real; ln -s real data", "data", ""},
		"link of somebody else":       {"mkdir -p up real; chmod 1777 up; ln -s ../real up/data; chown -h 65534 up/data", "up/data", "belongs to user 65534"},
		"link to somebody else":       {"mkdir -p real/data; chown 65534 real; ln -s real link", "link/data", "belongs to user 65534"},
		"link to everybody's":         {"mkdir -p real; chmod 777 real; ln -s real data", "data", "chmod go-w"},
		"link to itself":              {"ln -s data data", "data", "symbolic links"},
		"link up and down":            {"mkdir -p a/b; ln -s ../a/./b a/data", "a/data", ""},
		"link that dangles":           {"ln -s real data", "data", ""},
		"file":                        {"touch data", "data", "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			do(t, dir, c.script)
			before := tree(t, dir)
			checked := CheckDir(filepath.Join(dir, c.path))
			if after := tree(t, dir); after != before {
				t.Errorf("CheckDir made something: got %q, want %q", after, before)
			}
			got, err := Dir(filepath.Join(dir, c.path))
			if fmt.Sprint(checked) != fmt.Sprint(err) {
				t.Errorf("CheckDir: got %v, want %v as Dir says", checked, err)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %q, %v, want an error with %q", got, err, c.want)
				}
				if _, err := os.Stat(filepath.Join(dir, "up/a")); err == nil {
					t.Error("it created a directory below somebody else's")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if real, err := filepath.EvalSymlinks(filepath.Join(dir, c.path)); err != nil || real != got {
				t.Errorf("got %s, want %s (%v)", got, real, err)
			}
		})
	}
}

func TestDirOfAnotherUser(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	do(t, dir, "mkdir -p up/data; chown 65534 up/data")
	if _, err := Dir(filepath.Join(dir, "up/data"), stranger); err != nil {
		t.Error(err)
	}
	do(t, dir, "chown 65534 up") // its parent must not be that user's
	if _, err := Dir(filepath.Join(dir, "up/data"), stranger); err == nil {
		t.Error("a directory passed whose parent belongs to another user")
	}
}

// An access control list grants more than the mode shows.
func TestAccessControlList(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "data")
	do(t, filepath.Dir(dir), "mkdir -m 700 data")
	// acl(5) as the kernel stores it: version 2; entries of tag, permissions and id.
	list := []byte{2, 0, 0, 0}
	for _, e := range []struct{ tag, perm, id uint32 }{{1, 7, 1<<32 - 1}, {2, 7, stranger}, {4, 0, 1<<32 - 1}, {16, 7, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		list = append(list, byte(e.tag), byte(e.tag>>8), byte(e.perm), byte(e.perm>>8), byte(e.id), byte(e.id>>8), byte(e.id>>16), byte(e.id>>24))
	}
	if err := syscall.Setxattr(dir, "system.posix_acl_access", list, 0); err != nil {
		t.Skipf("NOT HERE: this file system has no access control lists: %v", err)
	}
	if _, err := Dir(dir); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("got %v, want an error: a list lets a stranger write", err)
	}
}

func TestReadFile(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct{ script, want string }{
		"of root":                {"echo x > f", ""},
		"of somebody else":       {"echo x > f; chown 65534 f", "belongs to user 65534"},
		"everybody may write it": {"echo x > f; chmod 666 f", "chmod go-w"},
		"link of root":           {"echo x > g; ln -s g f", ""},
		"link to somebody's":     {"echo x > g; chown 65534 g; ln -s g f", "belongs to user 65534"},
		"pipe":                   {"mkfifo f", "not a regular file"},
		"missing":                {"true", "no such file"},
	} {
		dir := t.TempDir()
		do(t, dir, c.script)
		data, err := ReadFile(filepath.Join(dir, "f"))
		if c.want == "" && (err != nil || string(data) != "x\n") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %q, %v, want %q", name, data, err, c.want)
		}
	}
}

// TestReadSecret: others than root and our own user may not read a secret.
func TestReadSecret(t *testing.T) {
	needRoot(t)
	for script, want := range map[string]string{
		"":                           "x\n",
		"chmod 400 f":                "x\n",
		"chmod 640 f":                "other users may read", // others may be in root's group
		"chmod 640 f; chgrp 65534 f": "other users may read",
		"chmod 604 f":                "other users may read",
		"ln f g; chmod 640 f; rm f; ln -s g f; chgrp 65534 g": "other users may read",
	} {
		dir := t.TempDir()
		do(t, dir, "echo x > f; chmod 600 f; "+script)
		data, err := ReadSecret(filepath.Join(dir, "f"))
		if got := string(data); err == nil && got != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want %q", script, data, err, want)
		}
	}
}

// TestSecretOfAPod: a kubelet writes the file of a Secret for root and the group of the pod.
func TestSecretOfAPod(t *testing.T) {
	needRoot(t)
	for script, want := range map[string]bool{
		"chown 0:65532 f; chmod 440 f":     true,
		"chown 0:65532 f; chmod 640 f":     true,
		"chown 0:65532 f; chmod 444 f":     false,
		"chown 0:65532 f; chmod 460 f":     false,
		"chown 0:65534 f; chmod 440 f":     false,
		"chown 65532:65534 f; chmod 440 f": false,
	} {
		dir := t.TempDir()
		do(t, dir, "echo x > f; "+script)
		file := filepath.Join(dir, "f")
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := onlyWe(file, info, 65532); got != want {
			t.Errorf("%s: got %t", script, got)
		}
	}
}

func owner(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func TestGive(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	do(t, dir, "mkdir -p d/e; chmod 755 d; touch out d/f d/e/g; ln -s ../out d/link; chown 65534 d/e/g")
	if err := Give(filepath.Join(dir, "d"), stranger); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "d/e", "d/f", "d/e/g", "d/link"} {
		if got := owner(t, filepath.Join(dir, name)); got != stranger {
			t.Errorf("%s belongs to %d, want %d", name, got, stranger)
		}
	}
	if got := owner(t, filepath.Join(dir, "out")); got != 0 {
		t.Errorf("what a link leads to belongs to %d now", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "d")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, want 0700", info.Mode(), err)
	}
}

// Nothing that a third user put there is given, and no link is followed.
func TestGiveRefuses(t *testing.T) {
	needRoot(t)
	for name, script := range map[string]string{
		"a file of a third user":      "mkdir d; touch d/f; chown 1234 d/f",
		"a directory of a third user": "mkdir -p d/e; chown 1234 d/e",
		"a third user's directory":    "mkdir d; chown 1234 d",
		"a link":                      "mkdir real; ln -s real d",
	} {
		dir := t.TempDir()
		do(t, dir, script)
		if err := Give(filepath.Join(dir, "d"), stranger); err == nil {
			t.Errorf("%s was given", name)
		}
		if got := owner(t, filepath.Join(dir, "d")); got == stranger {
			t.Errorf("%s: the directory was given", name)
		}
	}
}

// In a user namespace, root of the host looks like every other user whose id is not in it. Only
// a process whose starter has checked the path outside (package userns) may take one for
// the other.
func TestUnknownUsersOfANamespace(t *testing.T) {
	if os.Getenv("COLOPHON_TEST_NESTED") != "" {
		if _, err := Dir("/"); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("a directory of an unknown user: got %v", err)
		}
		return
	}
	needRoot(t)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1}}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnknownUsersOfANamespace$", "-test.v")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "COLOPHON_TEST_NESTED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestUnknownUsersOfANamespace") {
		t.Errorf("%v: %s", err, out)
	}
}
