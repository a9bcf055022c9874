// Command colophon releases container images with signed provenance, and verifies
// which git commit an image came from.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/colophon-build/colophon/internal/garbage"
	"github.com/colophon-build/colophon/sign/token"
)

func main() {
	token.Hide()
	garbage.CollectLess(1 << 30) // a run is short, and the collector took a sixth of the time of a verification
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}
