package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform"
)

// serveFlags are the flags of a whole platform.
var serveFlags = []string{"data", "listen", "url", "mirror", "buildkitd", "config", "tls-cert", "tls-key"}

func newServeCommand() *cobra.Command {
	c := platform.Config{Listen: "127.0.0.1:8080", Version: version, Ready: os.Stdout}
	cmd := newServer("serve --data DIR", "run the whole platform", cobra.NoArgs, func(ctx context.Context, _ []string) error { return platform.Serve(ctx, c) })
	cmd.Long = `Serve runs the platform: OIDC issuer, certificate authority, CT log, transparency
log, timestamp authority, trust root, registry and API on one port. Each role is
a process; roles talk to each other over Unix sockets. If you start serve as
root, each role has its own user, directories, capabilities and seccomp filter.
As any other user, serve does the same in a user namespace, with that user's
subordinate ids (/etc/subuid, newuidmap), and builds earn a lower SLSA level.
Where that is impossible, all roles share that user. In both cases serve prints a
warning.

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

// completed says how shells complete the values of flags; the others are names of files.
var completed = map[string]cobra.CompletionFunc{
	"data":       cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	"mirror":     cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
	"config":     cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveFilterFileExt),
	"tls-cert":   cobra.FixedCompletions([]string{"pem", "crt"}, cobra.ShellCompDirectiveFilterFileExt),
	"tls-key":    cobra.FixedCompletions([]string{"pem", "key"}, cobra.ShellCompDirectiveFilterFileExt),
	"listen":     cobra.NoFileCompletions,
	"url":        cobra.NoFileCompletions,
	"log-format": cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp),
	"log-level":  cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp),
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
	all.StringVar(&c.TLSCert, "tls-cert", "", "PEM certificate chain; required unless --listen is a loopback address or --config has tls.acme")
	all.StringVar(&c.TLSKey, "tls-key", "", "PEM key of --tls-cert")
	all.StringVar(&c.LogFormat, "log-format", "text", "format of the log on standard error: text or json")
	all.StringVar(&c.LogLevel, "log-level", "info", "least level of a line of the log: debug, info, warn or error")
	for _, name := range append(names, "log-format", "log-level") {
		cmd.Flags().AddFlag(all.Lookup(name))
		if complete, ok := completed[name]; ok {
			_ = cmd.RegisterFlagCompletionFunc(name, complete) // fails only for a flag that does not exist
		}
	}
}
