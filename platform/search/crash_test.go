package search

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/search"
)

// crashDir is the environment variable with the directory of a rig. If it is set, the test
// binary logs and indexes entries until it is killed.
const crashDir = "COLOPHON_SEARCH_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(powercutDir); dir != "" {
		if err := someEntries(dir, 6); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(crashDir); dir != "" {
		if err := untilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// untilKilled prints the content of each entry that the log acknowledged, and saves the map
// again and again.
func untilKilled(dir string) error {
	r, err := openRig(dir)
	if err != nil {
		return err
	}
	s := New(r.config())
	fmt.Println("ready")
	for i := 0; ; i++ {
		content := fmt.Sprint(os.Getpid(), " ", i)
		if err := addTo(r.mux, content); err != nil {
			return err
		}
		fmt.Println(content)
		if err := s.step(context.Background()); err != nil {
			return err
		}
		if err := s.save(); err != nil {
			return err
		}
	}
}

// After kill -9 at any moment and a restart, every acknowledged entry is found, the index log
// has only roots that an audit finds right, and each state once.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var contents []string
	var indexed int64
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			cmd.Wait()
			t.Fatalf("round %d did not start: %s", round, complaints.String())
		}
		soon := sync.OnceFunc(func() { // from the first answer on
			time.AfterFunc(time.Duration(20+rand.IntN(1500))*time.Millisecond, func() { cmd.Process.Kill() })
		})
		for lines.Scan() {
			contents = append(contents, lines.Text())
			soon()
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d ended by itself: %v\n%s", round, err, complaints.String())
		}
		r, err := openRig(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := New(r.config())
		run(t, s, int64(len(contents)))
		if a, err := r.audit(t); err != nil || a.Indexed.Size < indexed {
			t.Fatalf("round %d: audit: got %+v, %v, want at least %d entries", round, a, err, indexed)
		} else {
			indexed = a.Indexed.Size
		}
		for _, content := range contents {
			if found, _, err := ask(s, search.Digest, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))); err != nil || len(found) != 1 {
				t.Fatalf("round %d: entry %q: got %v, %v", round, content, found, err)
			}
		}
		r.close()
	}
	if len(contents) < 6 {
		t.Fatalf("%d entries were acknowledged: the kills came at no interesting moment", len(contents))
	}
	t.Logf("%d entries were acknowledged before kills", len(contents))
}
