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
	"github.com/colophon-build/colophon/platform"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/attestor/localgit"
	"github.com/colophon-build/colophon/platform/builder/golang"
	"github.com/colophon-build/colophon/platform/builder/sandbox"
	"github.com/colophon-build/colophon/platform/release"
)

// version is set by the linker.
var version = "devel"

func main() {
	// None returns in a child process that becomes a room, or reads strangers' bytes.
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
	root.AddCommand(newServeCommand(), newCheckCommand(), newEnrolCommand(), newScrubCommand(),
		newCommand("version", "print the version", cobra.NoArgs, func(context.Context, []string) error {
			_, err := fmt.Println("colophond", version)
			return err
		}),
		hidden(newCommand("login FILE", "same as colophon login", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
			c, path, err := api.Login(args[0])
			if err == nil {
				fmt.Fprintf(os.Stderr, "colophon release will use %s (saved in %s)\n", c.URL, path)
			}
			return err
		})),
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

// addFlags adds the named flags to cmd; their values are written to c.
func addFlags(cmd *cobra.Command, c *platform.Config, names ...string) {
	all := new(cobra.Command).Flags()
	all.StringVar(&c.Data, "data", "", "data directory: keys, logs, images and all other state (required)")
	all.StringVar(&c.Listen, "listen", c.Listen, "address to listen on")
	all.StringVar(&c.URL, "url", "", "the platform's public origin (default: the URL of --listen); certificates name it, so do not change it")
	all.StringVar(&c.Mirror, "mirror", "", "OCI layout of images; builds get these images from it; give the same one to attestor and builder")
	all.StringVar(&c.Buildkitd, "buildkitd", "", "path of the buildkitd program for builds (default: the one beside colophond, then the first in PATH)")
	all.StringVar(&c.File, "config", "", "configuration file, JSON (docs/configuration.md); give the same one on all hosts")
	all.StringVar(&c.TLSCert, "tls-cert", "", "PEM certificate chain; required unless --listen is a loopback address")
	all.StringVar(&c.TLSKey, "tls-key", "", "PEM key of --tls-cert")
	all.StringVar(&c.LogFormat, "log-format", "text", "format of the log on standard error: text or json")
	all.StringVar(&c.LogLevel, "log-level", "info", "least level of a line of the log: debug, info, warn or error")
	for _, name := range append(names, "log-format", "log-level") {
		cmd.Flags().AddFlag(all.Lookup(name))
	}
}

// serveFlags are the flags of a whole platform.
var serveFlags = []string{"data", "listen", "url", "mirror", "buildkitd", "config", "tls-cert", "tls-key"}

func newServeCommand() *cobra.Command {
	c := platform.Config{Listen: "127.0.0.1:8080", Version: version, Ready: os.Stdout}
	cmd := newCommand("serve --data DIR", "run the whole platform", cobra.NoArgs, func(ctx context.Context, _ []string) error { return platform.Serve(ctx, c) })
	cmd.Long = `Serve runs the platform: OIDC issuer, certificate authority, CT log, transparency
log, timestamp authority, trust root, registry and API on one port. Each role is
a process; roles talk to each other over Unix sockets. If you start serve as
root, each role has its own user, directories, capabilities and seccomp filter.
As any other user, all roles share that user and builds earn a lower SLSA level;
serve prints a warning.

Serve creates keys at the first start and never replaces them. When all roles
answer, it prints one line with the URL to standard output, and tells a service
manager (sd_notify). DIR/client.json is the file for "colophon login".

Serve reads the files of --tls-cert and --tls-key again when they change, and
--config at SIGHUP: the roles whose settings changed start anew, and if anything
is wrong, nothing changes.`
	addFlags(cmd, &c, serveFlags...)
	cmd.MarkFlagRequired("data")
	return cmd
}

func newCheckCommand() *cobra.Command {
	c := platform.Config{Listen: "127.0.0.1:8080", Version: version}
	cmd := newCommand("check [flags of serve]", "check configuration, certificate and host, and start nothing", cobra.NoArgs, func(context.Context, []string) error { return platform.Check(c, os.Stdout) })
	cmd.Long = `Check reads what serve would read with the same flags, and prints a line for
each thing that it looked at: "ok", "note" if the platform works with less, or
"error". It starts and creates nothing, and may run beside a platform.

Check exits with 1 if there is an error.`
	cmd.Example = "  colophond check --config /etc/colophon/colophond.json --listen :443 --url https://builds.example.com --tls-cert cert.pem --tls-key key.pem"
	addFlags(cmd, &c, serveFlags...)
	return cmd
}

func newEnrolCommand() *cobra.Command {
	var c platform.EnrolConfig
	cmd := newCommand("enrol ROLE --data DIR --output FILE [--host NAME]", "make the file that lets a role run on another host", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
		c.Role = args[0]
		return platform.Enrol(c)
	})
	cmd.Long = `Enrol writes a file that lets a role of this platform run on another host:
trust, registry, attestor, builder or api. The file holds private keys, so enrol
writes it with mode 0600: copy it over a private channel, and keep its mode. It
expires after a year; enrol again before that. Hosts talk to each other over mutual TLS; a certificate is valid only
for the role that it names.

On the other host, as root:    colophond ROLE --enrolment FILE --data DIR --config FILE
In the --config of all hosts:  {"roles": {"ROLE": "NAME:7443"}}`
	cmd.Example = "  colophond enrol builder --data /var/lib/colophon --host build1.example.com --output build1.json"
	cmd.Flags().StringVar(&c.Data, "data", "", "the platform's data directory (required)")
	cmd.Flags().StringVar(&c.Output, "output", "", "path of the file to write (required); it must not exist")
	cmd.Flags().StringVar(&c.URL, "url", "", "the platform's public origin; required if the platform was never started")
	cmd.Flags().StringSliceVar(&c.Hosts, "host", nil, "name or address of the other host, as the platform's hosts reach it (required except for api; repeatable)")
	cmd.MarkFlagRequired("data")
	cmd.MarkFlagRequired("output")
	return cmd
}

func newScrubCommand() *cobra.Command {
	data := ""
	cmd := newCommand("scrub --data DIR", "compare all stored bytes with their digests, and repair what can be repaired", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return platform.Scrub(ctx, data, os.Stdout)
	})
	cmd.Long = `Scrub reads everything below the data directory that has a digest or a signature:
images and proofs, the logs, the trust root, stored downloads, build logs. It
prints each damaged file. It repairs a file if another copy has the right bytes;
push an image again to repair the rest of the registry, and restore damaged logs
from a backup. The platform may run meanwhile. Run it on each host of a platform.

Scrub exits with 1 if something is damaged that it could not repair.`
	cmd.Flags().StringVar(&data, "data", "", "data directory (required)")
	cmd.MarkFlagRequired("data")
	return cmd
}

// newRoleCommand returns the command of a role: serve runs it, or an operator on a
// host that has an enrolment for the role.
func newRoleCommand(r platform.Role) *cobra.Command {
	asRole := func(ctx context.Context, _ []string) error { return platform.RunRole(ctx, r.Name, os.Stdin) }
	if r.Listen == "" {
		return hidden(newCommand(r.Name, "role: "+r.Does+" (started by serve)", cobra.NoArgs, asRole))
	}
	enrolment, c := "", platform.Config{Listen: r.Listen, Version: version, Ready: os.Stdout}
	cmd := newCommand(r.Name+" --enrolment FILE --data DIR", "role: "+r.Does, cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if enrolment == "" {
			return asRole(ctx, nil)
		}
		return platform.ServeHost(ctx, r.Name, enrolment, c)
	})
	cmd.Long = "Role: " + r.Does + `.

With --enrolment, this host runs the role for a platform whose serve is on another
host. It accepts connections from roles of that platform only, over mutual TLS. It
requires root and a file from "colophond enrol". (Without --enrolment, this command
is the process that serve starts.)`
	cmd.Flags().StringVar(&enrolment, "enrolment", "", "file that colophond enrol wrote")
	addFlags(cmd, &c, append([]string{"data", "config", "listen"}, r.Flags...)...)
	cmd.MarkFlagsRequiredTogether("enrolment", "data")
	return cmd
}
