package zone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/test/needs"
)

func TestMain(m *testing.M) {
	InitApart(map[string]Task{"test": misbehave})
	if os.Args[0] == "colophond" { // a Process of these tests
		if os.Args[1] == "waits" {
			io.Copy(io.Discard, os.Stdin)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// attempt is one thing that a process apart tries, and Arg its argument.
type attempt struct{ Try, Arg string }

func misbehave(_ context.Context, raw json.RawMessage) (any, error) {
	var o attempt
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	switch o.Try {
	case "read":
		data, err := os.ReadFile(o.Arg)
		return string(data), err
	case "write":
		return nil, os.WriteFile(o.Arg, []byte("x"), 0o600)
	case "dial":
		_, err := net.Dial("unix", o.Arg)
		return nil, err
	case "listen":
		_, err := net.Listen("tcp", "127.0.0.1:0")
		return nil, err
	case "exec":
		return nil, exec.Command("/bin/true").Run()
	case "environment":
		return os.Environ(), nil
	case "mount":
		return nil, unix.Mount("none", "/tmp", "tmpfs", 0, "")
	case "memory":
		var kept [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			kept = append(kept, b)
			runtime.KeepAlive(kept)
		}
	case "hang":
		time.Sleep(time.Hour)
	case "files":
		var kept []*os.File
		for {
			f, err := os.Open("/etc/passwd")
			if err != nil {
				return len(kept), err
			}
			kept = append(kept, f)
		}
	case "disk":
		f, err := os.Create(o.Arg)
		if err != nil {
			return nil, err
		}
		for {
			if _, err := f.Write(make([]byte, 1<<20)); err != nil {
				return nil, err
			}
		}
	case "answer": // of so many bytes
		n, err := strconv.Atoi(o.Arg)
		return strings.Repeat("x", n), err
	case "oom":
		data, err := os.ReadFile("/proc/self/oom_score_adj")
		return strings.TrimSpace(string(data)), err
	}
	return nil, errors.New("unknown")
}

func testApart(t *testing.T) Apart {
	dir, err := os.MkdirTemp("/var/tmp", "apart-") // not below /tmp, which is hidden in any case
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := Apart{
		Task: "test", Dir: filepath.Join(dir, "work", "item"), Hide: []string{dir}, Namespaces: true,
		Limits: Limits{Memory: 256 << 20, Scratch: 4 << 20, FileSize: 8 << 20, Files: 64, Processes: 100, Time: 10 * time.Second},
	}
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return a
}

// do runs one order in a process of its own.
func do(t *testing.T, a Apart, o attempt) (string, error) {
	t.Helper()
	i, err := a.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	var out any
	err = i.Do(t.Context(), o, &out)
	s, _ := out.(string)
	return s, err
}

// A process apart sees its own directory and what it is shown, and nothing else of the role.
func TestApartSeesItsItemAlone(t *testing.T) {
	needs.Root(t, "a process with namespaces of its own")
	a := testApart(t)
	root := a.Hide[0]
	key, shown, own := filepath.Join(root, "key"), filepath.Join(root, "shown", "file"), filepath.Join(a.Dir, "own")
	os.Mkdir(filepath.Dir(shown), 0o700)
	a.Show = []string{shown}
	for _, f := range []string{key, shown, own} {
		if err := os.WriteFile(f, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(root, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range []string{shown, own} {
		if got, err := do(t, a, attempt{"read", f}); got != "content" || err != nil {
			t.Errorf("reading %s: got %q, %v", f, got, err)
		}
	}
	if _, err := do(t, a, attempt{"write", own}); err != nil {
		t.Error(err)
	}
	t.Setenv("SECRET", "s")
	for what, o := range map[string]attempt{
		"a key of the role":        {"read", key},
		"another process's memory": {"read", "/proc/1/environ"},
		"a write to what is shown": {"write", shown},
		"a write to the disk":      {"write", "/var/tmp/zone-test"},
		"a socket of a role":       {"dial", filepath.Join(root, "sock")},
		"a network":                {"listen", ""},
		"a program":                {"exec", ""},
		"a mount":                  {"mount", ""},
	} {
		if got, err := do(t, a, o); err == nil {
			t.Errorf("%s: got %q", what, got)
		}
	}
	i, err := a.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	var env []string
	if err := i.Do(t.Context(), attempt{Try: "environment"}, &env); err != nil || strings.Contains(strings.Join(env, " "), "SECRET") {
		t.Errorf("environment: got %q, %v", env, err)
	}
}

// What is shown is seen with the mounts below it, read-only, also where it is a hidden directory
// itself or contains Dir.
func TestApartShowsAllOfIt(t *testing.T) {
	needs.Root(t, "mounts, and a process with namespaces of its own")
	a := testApart(t)
	root := a.Hide[0]
	sub := filepath.Join(root, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(sub, unix.MNT_DETACH) })
	own := filepath.Join(a.Dir, "own")
	files := []string{filepath.Join(root, "top"), filepath.Join(sub, "below"), own}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, show := range map[string][]string{"a hidden directory": {root}, "and one below it": {sub, root}, "one below it": {sub, filepath.Join(root, "top")}} {
		a.Show = show
		for _, f := range files {
			if got, err := do(t, a, attempt{"read", f}); got != "content" || err != nil {
				t.Errorf("%s: reading %s: got %q, %v", what, f, got, err)
			}
			if f == own {
				continue
			}
			if _, err := do(t, a, attempt{"write", f}); err == nil || !strings.Contains(err.Error(), "read-only") {
				t.Errorf("%s: writing %s: got %v", what, f, err)
			}
		}
		if _, err := do(t, a, attempt{"write", own + "-new"}); err != nil {
			t.Errorf("%s: writing to Dir: %v", what, err)
		}
	}
}

// A process apart that needs too much ends, with the reason, and its parent does not.
func TestApartLimits(t *testing.T) {
	for _, namespaces := range []bool{false, true} {
		if namespaces {
			needs.Root(t, "a process with namespaces of its own")
		}
		a := testApart(t)
		a.Namespaces = namespaces
		if _, err := do(t, a, attempt{Try: "memory"}); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "memory") {
			t.Errorf("memory: got %v", err)
		}
		if _, err := do(t, a, attempt{Try: "files"}); !strings.Contains(err.Error(), "too many open files") {
			t.Errorf("open files: got %v", err)
		}
		if _, err := do(t, a, attempt{"disk", filepath.Join(a.Dir, "big")}); err == nil || !strings.Contains(err.Error(), "file too large") {
			t.Errorf("a large file: got %v", err)
		}
		if namespaces {
			if _, err := do(t, a, attempt{"disk", "/tmp/big"}); !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "no space left") {
				t.Errorf("a full /tmp: got %v", err)
			}
		} else if got, err := do(t, a, attempt{Try: "oom"}); got != "1000" {
			t.Errorf("the order in which processes are killed: got %q, %v", got, err)
		}
		slow := a
		slow.Limits.Time = 300 * time.Millisecond
		if _, err := do(t, slow, attempt{Try: "hang"}); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "300ms") {
			t.Errorf("time: got %v", err)
		}
		i, err := a.Start()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if err := i.Do(ctx, attempt{Try: "hang"}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
		if err := i.Do(t.Context(), attempt{Try: "oom"}, nil); err == nil {
			t.Error("a process that was ended took another order")
		}
		i.Close()
	}
}

// A limit that is not set is refused: 0 does not mean "no limit".
func TestApartNeedsLimits(t *testing.T) {
	a := testApart(t)
	a.Limits.Memory = 0
	if _, err := do(t, a, attempt{Try: "oom"}); err == nil || !strings.Contains(err.Error(), "limit of memory") {
		t.Errorf("got %v", err)
	}
	a = testApart(t)
	a.Confine = confine.Policy{Exec: true}
	if os.Geteuid() == 0 {
		if _, err := do(t, a, attempt{Try: "exec"}); err != nil {
			t.Errorf("a program, allowed: %v", err)
		}
	}
}

// Probe finds a program that cannot be started, one that is not a process apart, and a process
// that cannot confine itself.
func TestProbe(t *testing.T) {
	a := testApart(t)
	a.Namespaces = false
	if err := a.Probe(); err != nil {
		t.Error(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{self: "", "/bin/true": "ended", a.Dir + "/none": "no such file"} {
		other := a
		other.Program = program
		if err := other.Probe(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", program, err, want)
		}
	}
	unknown := a
	unknown.Task = "unknown"
	if err := unknown.Probe(); err == nil || !strings.Contains(err.Error(), `no task "unknown"`) {
		t.Errorf("unknown task: got %v", err)
	}
	a.Limits.Files = 0
	if err := a.Probe(); err == nil || !strings.Contains(err.Error(), "limit of open files") {
		t.Errorf("no limit: got %v", err)
	}
}

// Where the kernel gives no namespaces, Start or the first order says so; another error says nothing
// of the kind.
func TestWithoutNamespaces(t *testing.T) {
	a := testApart(t)
	if os.Getenv("ZONE_TEST_INSIDE") != "" {
		if err := a.Probe(); !errors.Is(err, ErrNoNamespaces) {
			t.Errorf("got %v, want %v", err, ErrNoNamespaces)
		}
		return
	}
	needs.Root(t, "a user namespace")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" -test.run '^TestWithoutNamespaces$' -test.v`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-euc", script, self)
	cmd.Env = append(os.Environ(), "ZONE_TEST_INSIDE=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestWithoutNamespaces") {
		t.Errorf("%v\n%s", err, out)
	}
	for code, want := range map[int]bool{1: false, noMounts: true} { // a process that may not mount exits so
		a.Program = filepath.Join(filepath.Dir(a.Dir), "program")
		if err := os.WriteFile(a.Program, fmt.Appendf(nil, "#!/bin/sh\nexit %d\n", code), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := a.Probe(); err == nil || errors.Is(err, ErrNoNamespaces) != want {
			t.Errorf("exit code %d: got %v", code, err)
		}
	}
	a.Program, a.Show = "", []string{filepath.Join(a.Dir, "none")}
	if err := a.Probe(); err == nil || errors.Is(err, ErrNoNamespaces) {
		t.Errorf("a file that is not there: got %v", err)
	}
}

// TestAnswersAreBounded: the limit of an answer is that of one, not of all that a process gives.
func TestAnswersAreBounded(t *testing.T) {
	a := testApart(t)
	a.Namespaces, a.Limits.Memory = false, 2<<30
	i, err := a.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	const most = maxAnswer/2 - 1<<10
	for n := range 3 {
		var got string
		if err := i.Do(t.Context(), attempt{"answer", strconv.Itoa(most)}, &got); err != nil || len(got) != most {
			t.Fatalf("answer %d of %d bytes: got %d bytes, %v", n+1, most, len(got), err)
		}
	}
	var got string
	if err := i.Do(t.Context(), attempt{"answer", strconv.Itoa(maxAnswer)}, &got); !errors.Is(err, ErrLimit) {
		t.Errorf("an answer of more than %d bytes: got %v, want %v", maxAnswer, err, ErrLimit)
	}
}
