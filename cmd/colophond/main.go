// Command colophond is the platform: trust services, registry, attestor and
// builder, in one process a zone. Package platform does the work.
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

	"github.com/colophon-build/colophon/platform"
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
	root := &cobra.Command{Use: "colophond", Short: "the platform that releases images with their proof", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(newServeCommand(), newEnrolCommand(),
		newCommand("version", "print the version", cobra.NoArgs, func(context.Context, []string) error {
			_, err := fmt.Println("colophond", version)
			return err
		}),
		hidden(newCommand("login FILE", "same as colophon login", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
			c, path, err := api.Login(args[0])
			if err == nil {
				fmt.Fprintf(os.Stderr, "colophon release will use %s (kept in %s)\n", c.URL, path)
			}
			return err
		})),
		hidden(newCommand("driver ROOMS WALLTIME DIR HIDE...", "role: drives one build (started by the builder)", cobra.MinimumNArgs(4), platform.Drive)),
		hidden(newCommand("upload-pack SOCKET PATH", "role: joins git to a local repository (started by the attestor)", cobra.ExactArgs(2), func(ctx context.Context, args []string) error {
			return localgit.Relay(ctx, args[0], args[1], os.Getenv("GIT_PROTOCOL"), os.Stdin, os.Stdout)
		})))
	for _, r := range platform.Roles() {
		root.AddCommand(newRoleCommand(r))
	}
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "colophond:", err)
		os.Exit(1)
	}
}

func newCommand(use, short string, args cobra.PositionalArgs, run func(context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args) }}
}

func hidden(cmd *cobra.Command) *cobra.Command {
	cmd.Hidden = true
	return cmd
}

// addFlags gives cmd the flags of that name; they write straight into c.
func addFlags(cmd *cobra.Command, c *platform.Config, names ...string) {
	all := new(cobra.Command).Flags()
	all.StringVar(&c.Data, "data", "", "directory that holds everything (required)")
	all.StringVar(&c.Listen, "listen", c.Listen, "address to listen on")
	all.StringVar(&c.URL, "url", "", "the platform's public origin (default: from --listen); certificates name it, so it should not change")
	all.StringVar(&c.Mirror, "mirror", "", "OCI layout that answers builds' pulls of the images it names; attestor and builder need the same")
	all.StringVar(&c.Buildkitd, "buildkitd", "", "the buildkitd that builds run (default: the one beside colophond, then the first in PATH)")
	all.StringVar(&c.File, "config", "", "configuration file, JSON (docs/configuration.md); the same on all hosts")
	all.StringVar(&c.TLSCert, "tls-cert", "", "PEM certificate chain; needed on any address but loopback")
	all.StringVar(&c.TLSKey, "tls-key", "", "PEM key of --tls-cert")
	for _, name := range names {
		cmd.Flags().AddFlag(all.Lookup(name))
	}
}

func newServeCommand() *cobra.Command {
	c := platform.Config{Listen: "127.0.0.1:8080", Version: version, Ready: os.Stdout}
	cmd := newCommand("serve --data DIR", "run the whole platform", cobra.NoArgs, func(ctx context.Context, _ []string) error { return platform.Serve(ctx, c) })
	cmd.Long = `Serve runs the platform: OIDC issuer, certificate authority, CT log, transparency
log, timestamp authority, trust root, registry and API on one port. Each role is
a process; they meet at Unix sockets. Started as root, each role has a user,
directories, capabilities and a seccomp filter of its own; started as anybody
else all roles are one user, builds earn a lower SLSA level, and serve says so.

Keys are made at the first start and never replaced. When everything answers,
one line with the URL goes to standard output, and DIR/client.json is what
"colophon login" takes.`
	addFlags(cmd, &c, "data", "listen", "url", "mirror", "buildkitd", "config", "tls-cert", "tls-key")
	cmd.MarkFlagRequired("data")
	return cmd
}

func newEnrolCommand() *cobra.Command {
	var c platform.EnrolConfig
	cmd := newCommand("enrol ROLE --data DIR [--host NAME]", "make the file with which a role runs on another host", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
		c.Role = args[0]
		return platform.Enrol(c, os.Stdout)
	})
	cmd.Long = `Enrol prints a file that lets a role of this platform run on another host:
trust, registry, attestor, builder or api. It holds private keys: hand it over in
private, and keep it 0600 there. It is good for a year; enrol again before. Hosts
talk to each other over mutual TLS, and trust a certificate for the role it names.

On the other host, as root:  colophond ROLE --enrolment FILE --data DIR --config FILE
In the --config of all:      {"roles": {"ROLE": "NAME:7443"}}`
	cmd.Example = "  colophond enrol builder --data /var/lib/colophon --host build1.example.com > build1.json"
	cmd.Flags().StringVar(&c.Data, "data", "", "the platform's data directory (required)")
	cmd.Flags().StringVar(&c.URL, "url", "", "the platform's public origin; needed where it was never started")
	cmd.Flags().StringSliceVar(&c.Hosts, "host", nil, "name or address by which the other host is reached (required but for api; may be given again)")
	cmd.MarkFlagRequired("data")
	return cmd
}

// newRoleCommand is a role that serve starts, or that has a host of its own.
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

With --enrolment this host runs the role for a platform whose serve is on another
one. Roles of the platform alone are let in, over mutual TLS. It needs root, and a
file of "colophond enrol". (Without --enrolment it is the process that serve starts.)`
	cmd.Flags().StringVar(&enrolment, "enrolment", "", "file of colophond enrol")
	addFlags(cmd, &c, append([]string{"data", "config", "listen"}, r.Flags...)...)
	cmd.MarkFlagsRequiredTogether("enrolment", "data")
	return cmd
}
