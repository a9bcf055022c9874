// Command colophond is the platform: trust services, registry, attestor and
// builder, in one process a zone.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/build/golang"
	"github.com/colophon-build/colophon/build/sandbox"
)

// version is set by the linker.
var version = "devel"

func main() {
	// Neither returns in a child that becomes a room.
	sandbox.Init()
	golang.Init()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "colophond",
		Short:         "the platform that releases images with their proof",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServeCommand(), newAttestorCommand(), newWorkerCommand(), newVersionCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "colophond:", err)
		os.Exit(1)
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "colophond", version) },
	}
}
