package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/audit"
)

func newAuditCommand() *cobra.Command {
	config, format, level := "", "json", "info"
	cmd := newServer("audit --config FILE", "keep an audit ledger: what gates and clusters decided", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		s, err := audit.ReadSettings(config)
		if err != nil {
			return wrongSettings("audit", err)
		}
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("audit", err)
		}
		checked := s
		if _, err := checked.Check(); err != nil {
			return wrongSettings("audit", err)
		}
		return audit.Serve(ctx, s, logs.New(os.Stderr, log))
	})
	cmd.Long = `Audit keeps an audit ledger: a log with tiles to which gates and admission webhooks
write each decision, signed. A decision is acknowledged when it is on the disk.

It needs no platform. It makes its key at the first start; back it up once.`
	cmd.Example = "  colophond audit --config /etc/colophon/audit.yaml"
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/audit.md)")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	_ = cmd.MarkFlagRequired("config")
	return cmd
}
