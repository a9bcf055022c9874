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
	"github.com/colophon-build/colophon/platform/zone"
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
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		os.Exit(report(os.Stderr, err))
	}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "colophond",
		Short: "the platform that builds and releases images with proof of their source",
		Long: `Colophond builds and releases images with proof of their source, and runs what
decides about images, watches logs and keeps records.

Exit codes: 0 done, 1 failure, 2 usage error, or a configuration that is wrong.

"colophon status" shows a platform that runs, and whether it is ready.`,
		Example: `  colophond check --data /var/lib/colophon --config /etc/colophon/colophond.json
  colophond serve --data ./data`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	group := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	group("run", "Run a platform:", newServeCommand(), newCheckCommand(), newScrubCommand(), newEnrolCommand())
	group("decide", "Decide which images run:", newAdmissionCommand(), newGateCommand())
	group("log", "Watch logs and keep records:", newFollowCommand(), newWitnessCommand(), newMirrorCommand(), newAuditCommand())
	var own []*cobra.Command
	for _, r := range platform.Roles() {
		own = append(own, newRoleCommand(r))
	}
	group("role", "Roles of a platform, which serve starts, or another host after enrol:", own...)
	group("other", "Other:",
		newCommand("version", "print the version", cobra.NoArgs, func(context.Context, []string) error {
			_, err := fmt.Print(usage.Version("colophond", version))
			return err
		}))
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	root.AddCommand(
		hidden(newCommand(platform.ScrubCommand, "scrub of one directory (started by scrub)", cobra.NoArgs, func(ctx context.Context, _ []string) error { return platform.ScrubDir(ctx, os.Stdin, os.Stdout) })),
		hidden(newCommand("read-repository UID GID", "role: reads one local repository as its owner (started by rooms)", cobra.ExactArgs(2), localgit.Jail)),
		hidden(newCommand("upload-pack SOCKET PATH", "role: connects git to a local repository (started by the attestor)", cobra.ExactArgs(2), func(ctx context.Context, args []string) error {
			return localgit.Relay(ctx, args[0], args[1], os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout)
		})),
		usage.NewExitCodes(),
		usage.NewManCommand(root))
	usage.AddVersion(root, version)
	usage.Translate(root)
	return root
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
	if _, ok := errors.AsType[*platform.ConfigError](err); ok {
		fmt.Fprintln(w, "hint: colophond check, with the same flags, reads the same and starts nothing")
		return usage.ExitCode
	}
	return 1
}

// wrongSettings returns an error about the settings of a server as a usage error, unless it is what the kernel
// said about a file: a disk may be mounted a moment later, and whoever starts the server may try again.
func wrongSettings(name string, err error) error {
	if _, passing := errors.AsType[syscall.Errno](err); passing {
		return err
	}
	return &usage.Error{Message: err.Error(), Hint: "see colophond " + name + " --help"}
}

func newCommand(use, short string, args cobra.PositionalArgs, run func(context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args) }}
}

// newServer returns a command that runs until it is stopped. Being stopped while it starts is no failure either.
func newServer(use, short string, args cobra.PositionalArgs, run func(context.Context, []string) error) *cobra.Command {
	return newCommand(use, short, args, func(ctx context.Context, args []string) error {
		if err := run(ctx, args); err != nil && !zone.Stopped(ctx, err) {
			return err
		}
		return nil
	})
}

func hidden(cmd *cobra.Command) *cobra.Command {
	cmd.Hidden = true
	return cmd
}
