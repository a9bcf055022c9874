package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
)

// atOnce makes many releases concurrently. All must finish, in the order in which rooms
// become free, and the platform must stay within its configured limits.
func atOnce(b *testing.B, p *harness.Platform) {
	const n = 8
	repo := filepath.Join(harness.Root(b), "out", "hello")
	started := time.Now()
	took := make([]time.Duration, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			run(b, p.Colophon(b.Context(), "release", repo, "--ref", "v0.1.0", "--image", p.Addr+"/bench/many"+strconv.Itoa(i)))
			took[i] = time.Since(started)
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	peak := 0.0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Second):
			pss, _ := p.Resident()
			peak = max(peak, pss)
		}
	}
	slices.Sort(took)
	row(fmt.Sprintf("%d releases at once, the first of them", n), took[0], "")
	row("  the last", took[n-1], "")
	fmt.Printf("%-58s %8.0f MiB\n", "  most memory of the roles meanwhile", peak)
}
