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
