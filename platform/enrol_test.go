package platform

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// enrol writes private keys for nobody else to read, whatever the umask is, and replaces
// nothing.
func TestEnrolWritesPrivateFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := EnrolConfig{Role: roleBuilder, Data: filepath.Join(dir, "data"), URL: "http://127.0.0.1:1", Hosts: []string{"localhost"}, Output: filepath.Join(dir, "out.json")}
	if err := Enrol(c); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(c.Output)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("got %v, %v, want mode 0600", info, err)
	}
	if e, err := readEnrolment(c.Output); err != nil || e.Role != roleBuilder {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, name := range []string{"pull.json", "client.json", "admin.json", "attestor.json", "enrolment/authority.key"} {
		if info, err := os.Stat(filepath.Join(c.Data, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v, want mode 0600", name, info, err)
		}
	}
	if err := Enrol(c); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second time: got %v, want an error", err)
	}
	// A link that waits under that name is not followed.
	c.Output = filepath.Join(dir, "link.json")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), c.Output); err != nil {
		t.Fatal(err)
	}
	if err := Enrol(c); err == nil {
		t.Error("enrol followed a link")
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("keys are where a link led")
	}
}

// Enrolments made at the same time, before the platform's first start, agree: they have
// one authority and the tokens that serve will know. One that comes too late may fail.
func TestEnrolAtOnce(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		data := filepath.Join(dir, "data")
		var made [6]*enrolment
		var running sync.WaitGroup
		for n := range made {
			running.Go(func() {
				made[n], _ = newEnrolment(EnrolConfig{Role: roleAPI, Data: data, URL: "http://127.0.0.1:1"})
			})
		}
		running.Wait()
		known, _, err := openTokens(data)
		if err != nil {
			t.Fatal(err)
		}
		byToken := func(a, b grant) int { return bytes.Compare(a.Sum, b.Sum) }
		slices.SortFunc(known, byToken)
		last, err := certify(filepath.Join(data, "enrolment"), []string{roleAPI}, nil)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, e := range made {
			if e == nil {
				continue
			}
			count++
			slices.SortFunc(e.Known, byToken)
			if !reflect.DeepEqual(e.Known, known) {
				t.Fatalf("an enrolment knows %x, serve will know %x", e.Known, known)
			}
			if !bytes.Equal(e.Asker.CA, last.CA) {
				t.Fatal("two enrolments have different authorities")
			}
		}
		if count == 0 {
			t.Fatal("no enrolment was made")
		}
	}
}

// A host accepts no enrolment but a private, exact one for its own role.
func TestHostileEnrolments(t *testing.T) {
	dir := t.TempDir()
	c := EnrolConfig{Role: roleAPI, Data: filepath.Join(dir, "data"), URL: "http://127.0.0.1:1", Output: filepath.Join(dir, "good.json")}
	if err := Enrol(c); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(c.Output)
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, e := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"for another role":    {text, 0o600, `expected an enrolment for the role "builder", found one for "api"`},
		"others can read it":  {text, 0o640, "chmod 600"},
		"others can write it": {text, 0o602, "chmod go-w"},
		"a role twice":        {strings.Replace(text, "{", `{"role": "builder",`, 1), 0o600, "role"},
		"an unknown member":   {strings.Replace(text, "{", `{"roles": "builder",`, 1), 0o600, "roles"},
		"two of them":         {text + text, 0o600, ""},
		"cut short":           {text[:len(text)/2], 0o600, ""},
		"endless":             {strings.Repeat(" ", 64<<20) + text, 0o600, ""},
		"empty":               {"", 0o600, ""},
	} {
		file := filepath.Join(t.TempDir(), "e.json")
		if err := os.WriteFile(file, []byte(e.text), e.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, e.mode); err != nil {
			t.Fatal(err)
		}
		err := ServeHost(t.Context(), roleBuilder, file, Config{Data: filepath.Join(dir, "other"), Listen: "127.0.0.1:0"})
		if err == nil || !strings.Contains(err.Error(), e.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, e.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
			t.Errorf("%s: the host made its data directory", name)
		}
	}
}
