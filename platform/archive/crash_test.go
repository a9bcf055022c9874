package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/needs"
)

// crashDir is the environment variable with the directory of an archive. If it is set, the
// test binary keeps one piece of evidence after another until it is killed, and prints
// each that is acknowledged.
const crashDir = "ARCHIVE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(powercutDir); dir != "" {
		if err := keepSome(dir, 40); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(fillDir); dir != "" {
		fmt.Fprintln(os.Stderr, killedFill(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(crashDir); dir != "" {
		a, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var group sync.WaitGroup
		for worker := range 4 {
			group.Go(func() {
				for i := 0; ; i++ {
					text := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
					if _, err := a.keep(context.Background(), api.FormBundle, []byte(text), nil, "sha256:"+sumOf([]byte(text))); err != nil {
						fmt.Fprintln(os.Stderr, err)
						os.Exit(1)
					}
					fmt.Println(text)
				}
			})
		}
		group.Wait()
	}
	os.Exit(m.Run())
}

// After kill -9 at any moment, everything that was acknowledged is there and found.
func TestKilledLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		first, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it did not start: %v %s", err, &complaints)
		}
		n := 0
		for line := first; err == nil; line, err = lines.ReadString('\n') {
			acknowledged[strings.TrimSpace(line)] = true
			if n++; n == 10 {
				time.AfterFunc(time.Duration(rand.IntN(80))*time.Millisecond, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait()
		if complaints.Len() > 0 {
			t.Fatal(complaints.String())
		}
	}
	a := open(t, dir)
	for text := range acknowledged {
		a.wants(t, "sha256:"+sumOf([]byte(text)), []byte(text))
	}
	if len(acknowledged) < 50 {
		t.Errorf("only %d pieces were acknowledged: this proved little", len(acknowledged))
	}
	t.Logf("%d acknowledged", len(acknowledged))
}

// TestEachStep opens an archive that a crash left after each step of keep.
func TestEachStep(t *testing.T) {
	raw, about := []byte("evidence"), "sha256:"+sumOf([]byte("subject"))
	full := t.TempDir()
	a := open(t, full)
	if _, err := a.keep(t.Context(), api.FormBundle, []byte("earlier"), nil, about); err != nil {
		t.Fatal(err)
	}
	a.Close()
	before := copyOf(t, full)
	a = open(t, full)
	if _, err := a.keep(t.Context(), api.FormBundle, raw, nil, about); err != nil {
		t.Fatal(err)
	}
	a.Close()
	journal, err := os.ReadFile(filepath.Join(full, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(before, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(objectsDir, sumOf(raw)[:2], sumOf(raw))
	for name, crash := range map[string]struct {
		written map[string][]byte // beside what was there before
		kept    bool
	}{
		"before the content":    {nil, false},
		"amid the content":      {map[string][]byte{filepath.Join(objectsDir, sumOf(raw)[:2], ".x.tmp-1"): raw[:3]}, false},
		"after the content":     {map[string][]byte{object: raw}, false},
		"content lost, not yet": {map[string][]byte{object: raw[:3]}, false},
		"amid the line":         {map[string][]byte{object: raw, journalFile: journal[:len(journal)-5]}, false},
		"a byte of the line":    {map[string][]byte{object: raw, journalFile: journal[:len(old)+1]}, false},
		"all but its end":       {map[string][]byte{object: raw, journalFile: journal[:len(journal)-1]}, false},
		"after the line":        {map[string][]byte{object: raw, journalFile: journal}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t, before)
			for file, data := range crash.written {
				if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a := open(t, dir)
			if left, err := filepath.Glob(filepath.Join(dir, objectsDir, "*", ".*")); err != nil || len(left) > 0 {
				t.Errorf("it keeps what nobody reads: %q, %v", left, err)
			}
			if crash.kept {
				a.wants(t, about, []byte("earlier"), raw)
			} else {
				a.wants(t, about, []byte("earlier"))
			}
			// The client sends it again.
			if _, err := a.keep(t.Context(), api.FormBundle, raw, nil, about); err != nil {
				t.Fatal(err)
			}
			a.wants(t, about, []byte("earlier"), raw)
		})
	}
	t.Run("the journal lost its end", func(t *testing.T) {
		dir := copyOf(t, full)
		if err := os.WriteFile(filepath.Join(dir, journalFile), old, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, dir, "acknowledged evidence is missing")
	})
	t.Run("the journal is damaged", func(t *testing.T) {
		dir := copyOf(t, full)
		os.Remove(filepath.Join(dir, "index.db"))
		bad := bytes.Clone(journal)
		bad[70] ^= 1
		if err := os.WriteFile(filepath.Join(dir, journalFile), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, dir, "the journal is damaged")
	})
	t.Run("two processes", func(t *testing.T) {
		open(t, full)
		refuses(t, full, "")
	})
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// An archive whose disk is full acknowledges nothing, keeps what it acknowledged, and goes
// on when there is space again.
func TestDiskFull(t *testing.T) {
	needs.Root(t, "mounting a small disk")
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	a := open(t, filepath.Join(disk, "archive"))
	about := func(i int) string { return fmt.Sprintf("sha256:%064x", i) }
	keep := func(i int) error {
		_, err := a.keep(t.Context(), api.FormBundle, bytes.Repeat([]byte{byte(i)}, 5000), nil, about(i))
		return err
	}
	if err := keep(0); err != nil {
		t.Fatal(err)
	}
	// Each number of free bytes makes another step fail.
	for i, free := range []int{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 24 << 10, 40 << 10} {
		fill, err := os.Create(filepath.Join(disk, "fill"))
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for err == nil {
			var m int
			m, err = fill.Write(make([]byte, 4<<10))
			n += int64(m)
		}
		if err := fill.Truncate(n - int64(free)); err != nil {
			t.Fatal(err)
		}
		err = keep(i + 1)
		if free == 0 && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: got %v", err)
		}
		a.wants(t, about(0), bytes.Repeat([]byte{0}, 5000))
		fill.Close()
		os.Remove(fill.Name())
		if err := keep(i + 1); err != nil {
			t.Fatalf("%d bytes were free, then there is space: %v", free, err)
		}
		a.wants(t, about(i+1), bytes.Repeat([]byte{byte(i + 1)}, 5000))
	}
	a.Close()
	a = open(t, filepath.Join(disk, "archive"))
	for i := range 8 {
		a.wants(t, about(i), bytes.Repeat([]byte{byte(i)}, 5000))
	}
}
