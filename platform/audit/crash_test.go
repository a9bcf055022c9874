package audit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit/files"
)

const (
	crashDir  = "COLOPHON_TEST_AUDIT_DIR"
	crashStep = "COLOPHON_TEST_AUDIT_STEP" // STEP:N: the process kills itself before the Nth of these steps

	crashSocket = "COLOPHON_TEST_AUDIT_SOCKET" // the process adds nothing itself, and serves the ledger here
)

// TestMain is also the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(powercutDir); dir != "" {
		if err := addSome(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(crashDir) == "" {
		os.Exit(m.Run())
	}
	crash()
}

// crash adds entries until it is killed, and prints each that was acknowledged.
func crash() {
	step, text, _ := strings.Cut(os.Getenv(crashStep), ":")
	left, _ := strconv.Atoi(text)
	t := &testing.T{}
	cfg := Config{Dir: os.Getenv(crashDir), Segment: 256, step: func(name string) {
		if name != step {
			return
		}
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}}
	l, err := tryOpen(cfg)
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	if socket := os.Getenv(crashSocket); socket != "" {
		fmt.Println("FAILED", serveUntilKilled(l, socket))
		os.Exit(1)
	}
	w := enrolled(t, l, "gate", "")
	for n := range 400 {
		data := w.entry(t, verdict(n))
		a, err := l.Append(context.Background(), data)
		if err != nil {
			fmt.Println("FAILED", err)
			os.Exit(1)
		}
		fmt.Println("ok", a.Index, a.ID)
		if n%100 == 99 {
			settled(t, l)
			if err := l.do(context.Background(), l.settle); err != nil {
				fmt.Println("FAILED", err)
				os.Exit(1)
			}
		}
	}
	fmt.Println("end")
	os.Exit(0)
}

// Killed before each step, the ledger has every entry that was acknowledged, at its index, and verifies.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, at := range []string{"journal:2", "journal:150", "acknowledge:1", "acknowledge:120", "tiles:1", "tiles:3", "checkpoint:1", "checkpoint:3", "segment:1", "index:1", "index:3", "base:1", "base:2", "drop:1", "drop:2"} {
		dir := t.TempDir()
		acknowledged := map[string]string{} // by ID, the index
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashDir+"="+dir, crashStep+"="+at)
		out, err := cmd.Output()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			killed++
		} else {
			t.Errorf("%s: the process was not killed: %v", at, err)
		}
		for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
			part := strings.Fields(lines.Text())
			if len(part) == 3 && part[0] == "ok" {
				acknowledged[part[2]] = part[1]
			} else if len(part) > 0 && part[0] == "FAILED" {
				t.Fatalf("%s: %s", at, lines.Text())
			}
		}
		l, err := tryOpen(Config{Dir: dir, Segment: 256})
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		for _, e := range whole(t, l) {
			if index, ok := acknowledged[e.Leaf.ID()]; ok && index == fmt.Sprint(e.Index) {
				delete(acknowledged, e.Leaf.ID())
			}
		}
		if len(acknowledged) > 0 {
			t.Errorf("%s: %d acknowledged entries are missing", at, len(acknowledged))
		}
		if err := l.Close(); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		key, err := note.NewVerifier(l.Key())
		if err != nil {
			t.Fatal(err)
		}
		public, err := files.PublicKey(l.Key())
		if err != nil {
			t.Fatal(err)
		}
		list, err := files.Dir(l.dir).List()
		if err != nil {
			t.Fatal(err)
		}
		if r, err := files.Verify(context.Background(), files.Dir(l.dir), key, public, list); err != nil || len(r.Findings) > 0 {
			t.Errorf("%s: %v, %v", at, err, r.Findings)
		}
	}
	t.Logf("killed %d times", killed)
}
