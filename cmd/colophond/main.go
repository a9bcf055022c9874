// Command colophond is the platform: trust services, registry, attestor and
// builder, in one process a zone.
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
)

// version is set by the linker.
var version = "devel"

func main() {
	// Neither returns in a child that becomes a room.
	sandbox.Init()
	golang.Init()
	// Whoever started us may have left files open, such as a directory: neither
	// roles nor rooms nor git get them.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "colophond: closing files at exec:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "colophond",
		Short:         "the platform that releases images with their proof",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newServeCommand(), newLoginCommand(), newVersionCommand(), newUploadPackCommand(), newDriverCommand(),
		newEnrolCommand(),
		newHostCommand(roleTrust, "holds the keys: issuer, CA, logs, clock, trust root", runTrust),
		newHostCommand(roleRegistry, "keeps images and proofs", runRegistry),
		newHostCommand(roleAttestor, "fetches, measures, signs, publishes", runAttestor),
		newHostCommand(roleBuilder, "runs builds, in rooms", runBuilder),
		newHostCommand(roleAPI, "answers on the platform's port", runAPI),
		newRoleCommand(roleRooms, "opens the rooms that builds run in", runRooms),
		newRoleCommand(roleGateway, "the way out of one room", runGateway),
		newRoleCommand(roleDoor, "lets roles of other hosts in", runDoor))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "colophond:", err)
		os.Exit(1)
	}
}

// newLoginCommand is colophon login, for those who look for it here.
func newLoginCommand() *cobra.Command {
	return &cobra.Command{
		Use: "login FILE", Short: "same as colophon login", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := api.ReadConfig(args[0])
			if err != nil {
				return err
			}
			path, err := api.ConfigPath()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "colophon release will use %s\n", c.URL)
			return api.SaveConfig(path, c)
		},
	}
}

// newUploadPackCommand is what the attestor's git runs in place of upload-pack.
func newUploadPackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "upload-pack SOCKET PATH", Short: "role: joins git to a local repository (started by the attestor)", Args: cobra.ExactArgs(2), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return localgit.Relay(cmd.Context(), args[0], args[1], os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout)
		},
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "colophond", version) },
	}
}
