package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform"
)

// newRoleCommand returns the command of a role: serve runs it, or an operator on a
// host that has an enrolment for the role.
func newRoleCommand(r platform.Role) *cobra.Command {
	asRole := func(ctx context.Context, _ []string) error { return platform.RunRole(ctx, r.Name, os.Stdin) }
	if r.Listen == "" {
		return hidden(newServer(r.Name, "role: "+r.Does+" (started by serve)", cobra.NoArgs, asRole))
	}
	enrolment, c := "", platform.Config{Listen: r.Listen, Version: version, Ready: os.Stdout}
	cmd := newServer(r.Name+" --enrolment FILE --data DIR", "role: "+r.Does, cobra.NoArgs, func(ctx context.Context, _ []string) error {
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
