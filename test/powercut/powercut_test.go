package powercut

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/internal/durable"
)

// victimDir is the environment variable with the directory that the test binary changes.
const victimDir = "POWERCUT_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := writeFiles(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func writeFiles(dir string) error {
	file := func(name string) string { return filepath.Join(dir, name) }
	careless := os.WriteFile(file("careless"), []byte("gone"), 0o600)
	fmt.Println("careless")
	careful := durable.WriteFile(file("careful"), []byte("one"), 0o600)
	fmt.Println("one")
	again := durable.WriteFile(file("careful"), []byte("two"), 0o600)
	fmt.Println("two")
	f, err := os.OpenFile(file("growing"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	_, first := f.WriteAt([]byte("aaaa"), 0)
	synced := errors.Join(f.Sync(), durable.SyncDir(dir))
	_, second := f.WriteAt([]byte("bb"), 2)
	cut := f.Truncate(3)
	return errors.Join(careless, careful, again, first, synced, second, cut, f.Close(), os.Mkdir(file("sub"), 0o700))
}

// TestCut: what was synced survives, and all else may be lost or not.
func TestCut(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	tr := Record(t, dir, cmd)
	seen := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	for moment := range tr.Len() + 1 {
		for i, loss := range []Loss{All, None, Some(r), Some(r), Some(r), Some(r)} {
			into := filepath.Join(t.TempDir(), "disk")
			tr.Cut(t, dir, moment, loss, into)
			read := func(name string) string {
				data, err := os.ReadFile(filepath.Join(into, name))
				if err != nil {
					return "missing"
				}
				return string(data)
			}
			done := len(tr.Acknowledged(moment))
			if got := read("careful"); done == 2 && got == "missing" || done == 3 && got != "two" || got != "missing" && got != "one" && got != "two" {
				t.Fatalf("moment %d, %d: the file has %q after %v", moment, i, got, tr.Acknowledged(moment))
			}
			seen["careless "+read("careless")] = true
			if moment == tr.Len() {
				seen["growing "+read("growing")] = true
				_, err := os.Stat(filepath.Join(into, "sub"))
				seen[fmt.Sprint("sub ", err == nil)] = true
			}
		}
	}
	for _, want := range []string{"careless missing", "careless ", "careless gone", "growing aaaa", "growing aab", "sub true", "sub false"} {
		if !seen[want] {
			t.Errorf("no power cut left %q: %v", want, seen)
		}
	}
}

// TestThreads: what a thread did whose call another thread interrupted counts from when the other can
// have seen it, and not earlier.
func TestThreads(t *testing.T) {
	const begin = `1 openat(AT_FDCWD</>, "/d/new", O_RDWR|O_CREAT, 0600) = 3</d/new>
1 write(3</d/new>, "abcd", 4) = 4
1 fsync(3</d/new>) = 0
`
	for name, c := range map[string]struct {
		calls string
		want  string // what the file "name" has if all is lost that was not synced
		done  int    // acknowledgements
	}{
		"a sync of what another thread opened": {`1 rename("/d/new", "/d/name" <unfinished ...>
2 openat(AT_FDCWD</>, "/d/name", O_RDONLY) = 4</d/name>
2 fsync(5</d>) = 0
1 <... rename resumed>) = 0
`, "abcd", 0},
		"of what it looked at": {`1 renameat(AT_FDCWD</>, "/d/new", AT_FDCWD</>, "/d/name" <unfinished ...>
2 newfstatat(AT_FDCWD</>, "/d/name", {st_mode=S_IFREG|0600, st_size=4}, 0) = 0
2 fsync(5</d>) = 0
1 <... renameat resumed>) = 0
`, "abcd", 0},
		"of what it listed, in two interrupted calls": {`1 link("/d/new", "/d/name" <unfinished ...>
2 getdents64(5</d>, 0x1 /* 3 entries */, 8192 <unfinished ...>
3 write(1</out>, "\x78\x0a", 2) = 2
2 <... getdents64 resumed>) = 72
2 fsync(5</d> <unfinished ...>
1 <... link resumed>) = 0
2 <... fsync resumed>) = 0
`, "abcd", 1},
		"a sync by chance": {`1 rename("/d/new", "/d/name" <unfinished ...>
2 openat(AT_FDCWD</>, "/d/name", O_RDONLY) = -1 ENOENT (No such file or directory)
2 openat(AT_FDCWD</>, "/d/other", O_RDWR|O_CREAT, 0600) = 4</d/other>
2 fsync(5</d>) = 0
1 <... rename resumed>) = 0
`, "missing", 0},
		"a sync that began before": {`2 fsync(5</d> <unfinished ...>
1 rename("/d/new", "/d/name") = 0
2 <... fsync resumed>) = 0
`, "missing", 0},
		"a rename that failed": {`1 rename("/d/new", "/d/name" <unfinished ...>
2 openat(AT_FDCWD</>, "/d/name", O_RDONLY) = 4</d/name>
2 fsync(5</d>) = 0
1 <... rename resumed>) = -1 EIO (Input/output error)
`, "missing", 0},
		"two syncs of one file": {`1 rename("/d/new", "/d/name") = 0
1 fsync(5</d>) = 0
1 fsync(3</d/name> <unfinished ...>
2 pwrite64(3</d/name>, "AB", 2, 0) = 2
2 fsync(3</d/name> <unfinished ...>
1 <... fsync resumed>) = 0
`, "abcd", 0},
	} {
		t.Run(name, func(t *testing.T) {
			tr := parse(begin+c.calls, "/d")
			into := filepath.Join(t.TempDir(), "disk")
			tr.Cut(t, "/d", tr.Len(), All, into)
			got, err := os.ReadFile(filepath.Join(into, "name"))
			if err != nil {
				got = []byte("missing")
			}
			if string(got) != c.want || len(tr.Acknowledged(tr.Len())) != c.done {
				t.Errorf("got %q and %q, want %q and %d", got, tr.Acknowledged(tr.Len()), c.want, c.done)
			}
		})
	}
}

// TestAcknowledgedEarly: whoever reads an acknowledgement can do so before the call ends that writes it.
func TestAcknowledgedEarly(t *testing.T) {
	tr := parse(`1 write(1</out>, "\x78\x0a", 2 <unfinished ...>
2 openat(AT_FDCWD</>, "/d/name", O_RDWR|O_CREAT, 0600) = 4</d/name>
2 fsync(5</d>) = 0
1 <... write resumed>) = 2
`, "/d")
	if got := tr.Acknowledged(1); len(got) != 1 {
		t.Errorf("got %q, want the acknowledgement before the sync", got)
	}
}
