package bench

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// The link to the module proxy of BenchmarkSecondRelease.
const (
	linkDelay = 20 * time.Millisecond // of each request
	linkRate  = 12_500_000            // bytes per second: 100 Mbit/s
)

// BenchmarkSecondRelease releases a service with some 600 downloads from a module proxy
// behind a slow link, and then once more, with what the platform has stored.
func BenchmarkSecondRelease(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	needs.Root(b, "the network namespace of a module proxy")
	proxy := serveModules(b)
	proxy.slow.Store(true)
	defer proxy.slow.Store(false)
	p := harness.Start(b, "--mirror", harness.BaseImages(b), "--config", harness.Config(b, map[string]any{
		"build": map[string]any{"network": map[string]any{"allow": []string{proxyHost.Masked().String()}}},
	}))
	repo := ownCommand(b)
	var first, second, download, again []time.Duration
	for i := range 3 {
		run(b, exec.Command("find", filepath.Join(p.Data, "gateway"), "-mindepth", "1", "-delete"))
		for _, pass := range []struct {
			image           string
			whole, download *[]time.Duration
		}{{"first", &first, &download}, {"second", &second, &again}} {
			before := proxy.requests()
			whole, step := secondTimed(b, p, repo, pass.image+strconv.Itoa(i))
			*pass.whole, *pass.download = append(*pass.whole, whole), append(*pass.download, step)
			if i == 0 {
				fmt.Printf("%-58s %8d\n", "requests at the module proxy, "+pass.image+" release", proxy.requests()-before)
			}
		}
	}
	link := fmt.Sprintf("at %d Mbit/s and %d ms", linkRate*8/1_000_000, linkDelay.Milliseconds())
	row("first release of a service, "+link, median(first), spread(first))
	row("second release", median(second), spread(second))
	ratio("  over the first", median(second), median(first), "aim 0.6")
	row("  its downloads, unpacked, the first time", median(download), spread(download))
	row("  the second time", median(again), spread(again))
}

// secondTimed makes a release. It returns its duration, and that of the step that downloads.
func secondTimed(b *testing.B, p *harness.Platform, repo, image string) (whole, step time.Duration) {
	req := api.ReleaseRequest{Source: "file://" + repo, Ref: "v1.0.0", Image: p.Addr + "/" + image}
	var log strings.Builder
	var began time.Time
	start := time.Now()
	_, err := client(b, p).Release(b.Context(), req, func(e api.Event) {
		fmt.Fprintln(&log, e.Step, e.Line)
		switch downloads := strings.Contains(e.Step, "RUN go list"); {
		case downloads && began.IsZero():
			began = e.Time
		case !downloads && step == 0 && !began.IsZero():
			step = e.Time.Sub(began)
		}
	})
	if err != nil || step == 0 {
		b.Fatalf("release of %s: %v\n%s", image, err, log.String())
	}
	return time.Since(start), step
}

// link is the way to the module proxy, which may be slow.
type link struct {
	files http.Handler
	slow  atomic.Bool

	mu    sync.Mutex
	asked int       // requests
	free  time.Time // when the link has sent all that it was given
}

func (l *link) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked++
	l.mu.Unlock()
	if l.slow.Load() {
		time.Sleep(linkDelay)
		w = &slowWriter{w, l.send}
	}
	l.files.ServeHTTP(w, r)
}

// send returns when the link has sent size more bytes.
func (l *link) send(size int) {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(size) * time.Second / linkRate)
	wait := time.Until(l.free)
	l.mu.Unlock()
	time.Sleep(wait)
}

func (l *link) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// slowWriter waits for the link after each write.
type slowWriter struct {
	http.ResponseWriter
	send func(size int)
}

func (w *slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		m, err = w.ResponseWriter.Write(p[:min(len(p), 32<<10)])
		w.send(m)
		n, p = n+m, p[m:]
	}
	return n, err
}
