package follow_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/tlogtest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/follow"
)

// TestKilled: a follower that is killed at any moment goes on where it was: no entry is left
// out, entries come again only if the process was killed before they were done, and the copy
// is the log.
func TestKilled(t *testing.T) {
	const size = 30_000
	if dir := os.Getenv("FOLLOW_DIR"); dir != "" {
		followForEver(t, dir)
	}
	log := tlogtest.New(t, "log.example")
	log.Add(t, entries(0, 5000)...)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), log.Key.Public().(ed25519.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	url := log.Serve(t)
	kills := 0
	for done := false; !done; {
		if n := log.Tree().Size; n < size {
			log.Add(t, entries(int(n), int(n)+977)...)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilled$")
		cmd.Env = append(os.Environ(), "FOLLOW_DIR="+dir, "FOLLOW_URL="+url)
		out := &bytes.Buffer{}
		cmd.Stdout = out
		cmd.Stderr = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(100+rand.IntN(300)+20*kills)*time.Millisecond, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		if kills++; kills > 300 || err != nil && strings.Contains(out.String(), "FAIL") {
			t.Fatalf("after %d starts: %v: %s", kills, err, out)
		}
		signed, _ := log.Checkpoint(t.Context())
		copied, _ := tlog.Dir(filepath.Join(dir, "state", "copy")).Checkpoint(t.Context())
		done = log.Tree().Size >= size && bytes.Equal(signed, copied)
	}
	t.Logf("%d processes were killed", kills)
	same(t, tlog.Dir(filepath.Join(dir, "state", "copy")), log)
	got, err := os.ReadFile(filepath.Join(dir, "handed"))
	if err != nil {
		t.Fatal(err)
	}
	next, again := int64(0), 0
	for line := range strings.Lines(string(got)) {
		var from, to int64
		if _, err := fmt.Sscanf(line, "%d %d\n", &from, &to); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if from > next {
			t.Errorf("entries %d to %d were left out", next, from)
		}
		if from < next {
			again++
		}
		next = max(next, to)
	}
	if next != log.Tree().Size {
		t.Errorf("got %d entries, want %d", next, log.Tree().Size)
	}
	if again > kills {
		t.Errorf("%d batches came again after %d kills", again, kills)
	}
}

// followForEver is the process that TestKilled kills.
func followForEver(t *testing.T, dir string) {
	key, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := tlog.NewVerifier("log.example", ed25519.PublicKey(key))
	if err != nil {
		t.Fatal(err)
	}
	handed, err := os.OpenFile(filepath.Join(dir, "handed"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, follow.Config{Key: verifier, Source: tlog.HTTP{URL: os.Getenv("FOLLOW_URL")}, Dir: filepath.Join(dir, "state"), Copy: true,
		Entries: func(_ context.Context, b follow.Batch) error {
			_, err := fmt.Fprintf(handed, "%d %d\n", b.First, b.First+int64(len(b.Entries)))
			return err
		}})
	f.Run(t.Context(), 10*time.Millisecond, func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	})
}
