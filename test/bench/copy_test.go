package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkCopy compares copy, which takes the proofs of an image with it, with crane's copy
// of the image alone: time, processor time, and requests.
func BenchmarkCopy(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p := startPieces(b)
	type side struct {
		program string
		wall    []time.Duration
		cpu     []time.Duration
	}
	ours, theirs := &side{program: "colophon"}, &side{program: "crane"}
	from, to := count(b, p.Platform, p.Addr), count(b, p.to, p.to.Addr)
	for _, c := range []*counter{from, to} {
		run(b, loginTo(b, c.platform, c.addr, p.docker))
	}
	for i := range 11 {
		image := p.pushLarge(b, i)
		p.ours(b, image)
		p.theirs(b, image)
		both := []*side{ours, theirs}
		if i%2 == 1 { // the registry has the blobs of the second one's copy already, in another repository
			slices.Reverse(both)
		}
		for _, s := range both {
			cmd := p.program(b, s.program, "copy", image, fmt.Sprintf("%s/bench/%s%d:v1", p.to.Addr, s.program, i))
			s.wall = append(s.wall, times(1, func() { run(b, cmd) }))
			s.cpu = append(s.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
		if i > 0 {
			continue
		}
		for _, s := range both {
			source := strings.Replace(image, p.Addr, from.addr, 1)
			run(b, p.program(b, s.program, "copy", source, fmt.Sprintf("%s/bench/counted-%s:v1", to.addr, s.program)))
			fmt.Printf("%-58s %8d + %d\n", "requests of "+s.program+" copy, to the source + destination", from.asked.Swap(0), to.asked.Swap(0))
		}
	}
	row(fmt.Sprintf("colophon copy of %d MiB with six proofs: %.0f MiB/s", largeMiB, largeMiB/median(ours.wall).Seconds()), median(ours.wall), spread(ours.wall))
	row(fmt.Sprintf("crane copy of the same, without them: %.0f MiB/s", largeMiB/median(theirs.wall).Seconds()), median(theirs.wall), spread(theirs.wall))
	ratio("  ours over crane's", median(ours.wall), median(theirs.wall), "aim 1")
	row("  processor time of colophon copy", median(ours.cpu), spread(ours.cpu))
	row("  processor time of crane copy", median(theirs.cpu), spread(theirs.cpu))
}

// counter counts the requests to a platform's registry.
type counter struct {
	platform *harness.Platform
	addr     string
	asked    atomic.Int64
}

func count(b *testing.B, p *harness.Platform, addr string) *counter {
	c := &counter{platform: p}
	way := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	way.ModifyResponse = func(r *http.Response) error { // the realm of tokens is the platform's own address
		r.Header.Set("Www-Authenticate", strings.Replace(r.Header.Get("Www-Authenticate"), "//"+addr, "//"+c.addr, 1))
		return nil
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		if os.Getenv("COLOPHON_BENCH") == "requests" {
			fmt.Println(r.Method, r.URL)
		}
		way.ServeHTTP(w, r)
	}))
	b.Cleanup(srv.Close)
	c.addr = srv.Listener.Addr().String()
	return c
}
