package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/colophon-build/colophon/platform/builder"
)

// asProcess makes the test program a gateway, with its settings on standard
// input and its listener as file 3.
const asProcess = "GATEWAY_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) == "" {
		os.Exit(m.Run())
	}
	var s Settings
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err == nil {
		err = json.NewDecoder(os.Stdin).Decode(&s)
	}
	if err == nil {
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			io.Copy(io.Discard, os.Stdin) // its end is ours
			stop()
		}()
		err = Run(ctx, l, s, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var peak = regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`)

// A replay of as many files as a real Go service fetches.
func TestMemoryOfAReplay(t *testing.T) {
	const files = 600
	size := func(i int) int {
		if i%100 == 0 {
			return 8 << 20 // a toolchain, a base image
		}
		return 1000 << (i % 9) // to 256 KB
	}
	up, s := world(t, func(w http.ResponseWriter, r *http.Request) {
		i, _ := strconv.Atoi(r.URL.Path[1:])
		io.CopyN(w, strings.NewReader(strings.Repeat(r.URL.Path+"........", size(i)/8+1)), int64(size(i)))
	})
	all := func(c *http.Client) {
		work := make(chan int)
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for i := range work {
					resp, err := c.Get(fmt.Sprintf("%s/%d", up.URL, i))
					if err != nil {
						t.Error(err)
						continue
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || int(n) != size(i) {
						t.Errorf("%d: got %d bytes, %v, want %d", i, n, err, size(i))
					}
					resp.Body.Close()
				}
			})
		}
		for i := range files {
			work <- i
		}
		close(work)
		wg.Wait()
	}
	sealed, _ := recorded(t, s, func(room *room) { all(room.Client) })
	record, kib := replayInProcess(t, sealed, all)
	if len(record) != files {
		t.Errorf("got a record of %d, want %d", len(record), files)
	}
	t.Logf("peak %d KiB", kib)
	if kib > 64<<10 {
		t.Errorf("the gateway took %d KiB, want at most 64 MiB", kib)
	}
}

// replayInProcess runs a gateway as a process of its own while use is its room, and
// returns its record and the most memory that it took, KiB.
func replayInProcess(t *testing.T, sealed Settings, use func(*http.Client)) (record []builder.Exchange, kib int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{asProcess + "=1"}
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go json.NewEncoder(in).Encode(sealed)
	record, err = ReadRecord(out, func(ca []byte) {
		go func() {
			defer in.Close()
			use(client(t, l.Addr().String(), ca))
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if err != nil {
				t.Error(err)
				return
			}
			kib, _ = strconv.Atoi(peak.FindStringSubmatch(string(status))[1])
		}()
	})
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return record, kib
}
