package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform"
)

func newEnrolCommand() *cobra.Command {
	var c platform.EnrolConfig
	cmd := newCommand("enrol ROLE --data DIR --output FILE [--host NAME]", "make the file that lets a role run on another host", cobra.ExactArgs(1), func(_ context.Context, args []string) error {
		c.Role = args[0]
		return platform.Enrol(c)
	})
	cmd.Long = `Enrol writes a file that lets a role of this platform run on another host:
trust, registry, attestor, builder or api. The file holds private keys, so enrol
writes it with mode 0600: copy it over a private channel, and keep its mode. It
expires after a year; enrol again before that. Hosts talk to each other over mutual
TLS; a certificate is valid only for the role that it names. The platform's audit
ledger gets a record of each file.

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
