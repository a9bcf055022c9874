package witness

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/cosigner"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/tlog"
	protocol "github.com/colophon-build/colophon/tlog/witness"
)

// TestMain is the witness itself if TestKill starts it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("COLOPHON_TEST_WITNESS"); dir != "" {
		l := logtest.New(origin, 0)
		w, err := New(Config{Dir: dir, Name: "witness.example/w", Logs: []note.Verifier{l.Verifier()}})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		s := httptest.NewServer(w.Handler())
		fmt.Println(s.URL)
		select {}
	}
	os.Exit(m.Run())
}

// TestKill kills a witness again and again while a log sends it checkpoints. What it cosigned it
// must know afterwards: a size that it names may not be smaller than one that it cosigned.
func TestKill(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 4
	}
	dir := filepath.Join(t.TempDir(), "w")
	l := logtest.New(origin, 1)
	var cosigned tlog.Checkpoint
	for round := range rounds {
		url, kill := startWitness(t, dir)
		if cosigned.Size > 0 {
			signed, err := protocol.Latest(t.Context(), http.DefaultClient, url, origin)
			if err != nil {
				t.Fatal(err)
			}
			cp, err := tlog.OpenCheckpoint(signed, l.Verifier())
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.Extends(t.Context(), l, cosigned, cp); err != nil {
				t.Fatalf("round %d: it cosigned %d entries and forgot: %v", round, cosigned.Size, err)
			}
		}
		c := &protocol.Client{URL: url, HTTP: &http.Client{Timeout: await.Patience}, Keys: keysOf(t, dir)}
		var stop *time.Timer // from the first cosignature on
		for {
			l.Grow(int(l.Size()) + 3)
			cp := l.At(l.Size())
			if _, err := c.Add(t.Context(), cp, l.Sign(cp), l); err != nil {
				break
			}
			if cosigned = cp; stop == nil {
				stop = time.AfterFunc(time.Duration(5+7*round)*time.Millisecond, kill)
			}
		}
		if stop == nil {
			t.Fatalf("round %d: nothing was cosigned", round)
		}
		stop.Stop()
		kill()
	}
	if cosigned.Size < int64(rounds) {
		t.Errorf("got %d entries cosigned in %d rounds; the test tried little", cosigned.Size, rounds)
	}
}

func startWitness(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "COLOPHON_TEST_WITNESS="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "http") {
		t.Fatalf("got %q, %v", line, err)
	}
	return strings.TrimSpace(line), kill
}

func keysOf(t *testing.T, dir string) (keys []tlog.WitnessKey) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, cosigner.PublicFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		k, err := tlog.ParseWitnessKey(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	if len(keys) != 2 {
		t.Fatalf("got %d keys, want 2: %s", len(keys), strconv.Quote(string(raw)))
	}
	return keys
}
