// Command colophon releases container images with signed provenance, and verifies
// which git commit an image came from.
package main

import (
	"context"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/colophon-build/colophon/sign/token"
)

func main() {
	token.Hide()
	collectLess()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// collectLess gives memory for time: a run is short, and the garbage collector took a sixth of
// the time of a verification. Where much is in memory, it collects as often as it must.
// What GOGC and GOMEMLIMIT say wins.
func collectLess() {
	if percent := debug.SetGCPercent(400); percent != 100 {
		debug.SetGCPercent(percent)
	}
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(1 << 30)
	}
}
