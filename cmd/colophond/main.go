// Command colophond runs the platform: trust services, registry, attestor, builder
// and API, each as a process in a zone of its own. Package platform does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/usage"
	"github.com/colophon-build/colophon/internal/userns"
	"github.com/colophon-build/colophon/platform"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/release"
)

// version is set by the linker.
var version = "devel"

func main() {
	// None returns in a child process that becomes a room, or reads strangers' bytes.
	userns.Init()
	sandbox.Init()
	golang.Init()
	release.Init()
	// The process that started us may have left files open, such as a directory.
	// Roles, rooms and git must not inherit them.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "colophond: cannot mark inherited files close-on-exec:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "colophond", Short: "the platform that builds and releases images with proof of their source", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newServeCommand(), newCheckCommand(), newEnrolCommand(), newScrubCommand(), newAdmissionCommand(), newGateCommand(), newFollowCommand(), newWitnessCommand(), newAuditCommand(), newMirrorCommand(),
		newCommand("version", "print the version", cobra.NoArgs, func(context.Context, []string) error {
			_, err := fmt.Println("colophond", version)
			return err
		}),
		hidden(newCommand(platform.ScrubCommand, "scrub of one directory (started by scrub)", cobra.NoArgs, func(ctx context.Context, _ []string) error { return platform.ScrubDir(ctx, os.Stdin, os.Stdout) })),
		hidden(newCommand("read-repository UID GID", "role: reads one local repository as its owner (started by rooms)", cobra.ExactArgs(2), localgit.Jail)),
		hidden(newCommand("upload-pack SOCKET PATH", "role: connects git to a local repository (started by the attestor)", cobra.ExactArgs(2), func(ctx context.Context, args []string) error {
			return localgit.Relay(ctx, args[0], args[1], os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout)
		})),
		usage.NewManCommand(root))
	for _, r := range platform.Roles() {
		root.AddCommand(newRoleCommand(r))
	}
	usage.Translate(root)
	if err := root.ExecuteContext(ctx); err != nil {
		os.Exit(report(os.Stderr, err))
	}
}

// report prints an error and returns the exit code for it, which are those of colophon: 1
// for a failure, 2 for a command line that is wrong.
func report(w io.Writer, err error) int {
	if inside, ok := errors.AsType[*userns.Ended](err); ok {
		return inside.Code
	}
	fmt.Fprintln(w, "colophond:", err)
	if wrong, ok := errors.AsType[*usage.Error](err); ok {
		fmt.Fprintln(w, "hint:", wrong.Hint)
		return usage.ExitCode
	}
	return 1
}

func newCommand(use, short string, args cobra.PositionalArgs, run func(context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args) }}
}

func hidden(cmd *cobra.Command) *cobra.Command {
	cmd.Hidden = true
	return cmd
}
