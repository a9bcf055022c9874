package log

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/tlog"
)

// crashDir is the environment variable with the directory of a log. If it is set, the test
// binary is a server that runs until it is killed.
const crashDir = "LOGSERVER_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := serveUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir string) error {
	s, err := New(config(dir))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	s.Register(mux)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return http.Serve(l, mux)
}

// victim starts a server in a process of its own that the test will kill.
func victim(t *testing.T, dir string) (url string, kill func()) {
	t.Helper()
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
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(kill)
	url, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		kill()
		t.Fatalf("the server did not start: %v\n%s", err, complaints.String())
	}
	return strings.TrimSpace(url), kill
}

// After kill -9 at any moment and a restart, the log has every acknowledged entry at its
// index, under a checkpoint that extends all earlier ones. An entry that a client sends
// again is in the log once.
func TestKilledServerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	asked := map[string]*rekor.HashedRekordRequestV002{}
	acknowledged := map[string]*bundle.TransparencyLogEntry{}
	var shown []string // checkpoints

	for round := range 6 {
		url, kill := victim(t, dir)
		// Every other round ends some time after its first answer, however slow the machine is.
		soon := sync.OnceFunc(func() { time.AfterFunc(time.Duration(5+rand.IntN(120))*time.Millisecond, kill) })
		if round%2 == 0 {
			soon()
		}
		var wg sync.WaitGroup
		for client := range 16 {
			wg.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("%d/%d/%d", round, client, i)
					hr := request(t, name)
					mu.Lock()
					asked[name] = hr
					mu.Unlock()
					e, err := ask(url, wire(t, hr))
					if err != nil {
						return // killed
					}
					soon()
					mu.Lock()
					acknowledged[name] = e
					shown = append(shown, e.GetInclusionProof().GetCheckpoint().GetEnvelope())
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		kill()
	}
	if len(acknowledged) == 0 || len(asked) == len(acknowledged) {
		t.Fatalf("%d of %d entries were acknowledged: the kill came at no interesting moment", len(acknowledged), len(asked))
	}

	r := start(t, config(dir))
	now := r.checkpoint(t)
	seen := map[string]bool{}
	for _, signed := range shown {
		if seen[signed] {
			continue
		}
		seen[signed] = true
		cp, err := tlog.OpenCheckpoint([]byte(signed), r.verifier)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.Extends(t.Context(), r.source(), cp, now); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for name, hr := range asked {
		wg.Go(func() {
			e := r.add(t, hr)
			if a := acknowledged[name]; a != nil && a.GetLogIndex() != e.GetLogIndex() {
				t.Errorf("%s: got index %d, want %d, which was acknowledged", name, e.GetLogIndex(), a.GetLogIndex())
			}
		})
	}
	wg.Wait()
	if cp := r.checkpoint(t); cp.Size != int64(len(asked)) {
		t.Errorf("the log has %d entries, want the %d asked for, each once", cp.Size, len(asked))
	}
	t.Logf("%d entries, %d acknowledged before a kill, %d checkpoints", len(asked), len(acknowledged), len(seen))
}

func ask(url, body string) (*bundle.TransparencyLogEntry, error) {
	resp, err := http.Post(url+"/api/v2/log/entries", "application/json", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("got %s: %s", resp.Status, answer)
	}
	e := new(bundle.TransparencyLogEntry)
	return e, protojson.Unmarshal(answer, e)
}
