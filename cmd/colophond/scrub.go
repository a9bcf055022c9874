package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform"
)

func newScrubCommand() *cobra.Command {
	data := ""
	cmd := newCommand("scrub --data DIR", "compare all stored bytes with their digests, and repair what can be repaired", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return platform.Scrub(ctx, data, os.Stdout)
	})
	cmd.Long = `Scrub reads everything below the data directory that has a digest or a signature:
images and proofs, the logs and the audit ledger, the trust root, stored downloads, build logs. It
prints each damaged file. It repairs a file if another copy has the right bytes;
push an image again to repair the rest of the registry, and restore damaged logs
from a backup. The platform may run meanwhile. Run it on each host of a platform.

Scrub exits with 1 if something is damaged that it could not repair.`
	cmd.Flags().StringVar(&data, "data", "", "data directory (required)")
	cmd.MarkFlagRequired("data")
	return cmd
}
