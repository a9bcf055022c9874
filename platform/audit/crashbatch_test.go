package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/platform/recorder"
)

// serveUntilKilled serves a ledger at which gates enrol themselves.
func serveUntilKilled(l *Ledger, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) Access { return Access{Enrol: []string{"gate"}} })
	return http.Serve(listener, mux)
}

// startKilled starts a process that serves the ledger in dir, and kills itself at a step; never, if at is "".
func startKilled(t *testing.T, dir, socket, at string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(socket)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashStep+"="+at, crashSocket+"="+socket)
	cmd.Stdout = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// The ledger is killed while it takes batches. What was acknowledged is there; of the rest, each record is there or not, and all
// of it arrives later from the spool, each once.
func TestKilledInBatch(t *testing.T) {
	for _, at := range []string{"journal:3", "journal:12", "acknowledge:3", "acknowledge:12", "tiles:2", "checkpoint:2"} {
		t.Run(at, func(t *testing.T) { killedInBatch(t, at) })
	}
}

func killedInBatch(t *testing.T, at string) {
	dir, spool := t.TempDir(), t.TempDir()
	socket := filepath.Join(t.TempDir(), "s")
	child := startKilled(t, dir, socket, at)
	dead := make(chan struct{})
	go func() { _ = child.Wait(); close(dead) }()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recorder.New(recorder.Config{
		Role: "gate", Key: key, URL: "http://ledger", Spool: spool, Required: true, Enrol: true, Log: slog.New(slog.DiscardHandler),
		HTTP: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mu sync.Mutex
	acknowledged, failed := map[string]bool{}, int64(0)
	var wait sync.WaitGroup
	for i := range 32 {
		wait.Go(func() {
			for n := 0; ; n++ {
				v := verdict(n)
				v.Time, v.About.Digest = time.Now(), digest(1_000_000*i+n)
				err := r.Record(context.Background(), v)
				mu.Lock()
				if err == nil {
					acknowledged[v.About.Digest] = true
				} else {
					failed++
				}
				mu.Unlock()
				select {
				case <-dead:
					return
				default:
				}
			}
		})
	}
	wait.Wait()
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Fatalf("the process was not killed: %v", child.ProcessState)
	}
	l, err := tryOpen(Config{Dir: dir, Segment: 256})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range whole(t, l) {
		there[e.Record.About.Digest] = true
	}
	for d := range acknowledged {
		if !there[d] {
			t.Errorf("a record that was acknowledged is missing: %s", d)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	startKilled(t, dir, socket, "")
	for !empty(t, spool) {
		time.Sleep(20 * time.Millisecond)
	}
	verifyReplayed(t, dir, int64(len(acknowledged))+2*failed) // each that failed, and that it had no effect
}

// empty reports whether a spool has no records.
func empty(t *testing.T, spool string) bool {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(spool, "0*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if st, err := os.Stat(p); err == nil && st.Size() > 0 {
			return false
		}
	}
	return true
}

// verifyReplayed verifies the ledger in dir, which has a number of records of one run, each once, and its own.
func verifyReplayed(t *testing.T, dir string, want int64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	var report *files.Report
	for {
		vkey := keyOf(t, dir)
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		public, err := files.PublicKey(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if report, err = files.VerifyDir(context.Background(), files.Dir(filepath.Join(dir, "ledger")), verifier, public, time.Second); err != nil {
			t.Fatal(err)
		}
		if report.Entries >= want+1 || time.Now().After(deadline) {
			break
		}
	}
	if len(report.Findings) > 0 || len(report.Missing) > 0 || len(report.Notes) > 0 || report.Entries != want+1 {
		t.Errorf("got %d entries, want %d: %v, missing %v, %v", report.Entries, want+1, report.Findings, report.Missing, report.Notes)
	}
}

// keyOf returns the verifier key of the ledger in dir.
func keyOf(t *testing.T, dir string) string {
	t.Helper()
	key, err := recorder.Key(filepath.Join(dir, "key.pem"), func() error { return os.ErrNotExist })
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return vkey
}
