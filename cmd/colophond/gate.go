package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/gate"
)

func newGateCommand() *cobra.Command {
	var flags gate.Settings
	config, audit, format, level := "", false, "json", "info"
	cmd := newServer("gate --upstream URL --policies PATH --trust PATH", "serve only images of another registry that the policies accept", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		s, err := gate.ReadSettings(config)
		if err != nil {
			return wrongSettings("gate", err)
		}
		s.Upstream, s.Policies, s.Trust, s.Listen = cmp.Or(flags.Upstream, s.Upstream), cmp.Or(flags.Policies, s.Policies), cmp.Or(flags.Trust, s.Trust), cmp.Or(flags.Listen, s.Listen)
		if audit {
			s.Mode = "audit"
		}
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("gate", err)
		}
		checked := s
		if err := checked.Check(); err != nil {
			return wrongSettings("gate", err)
		}
		return gate.Serve(ctx, s, logs.New(os.Stderr, log))
	})
	cmd.Long = `Gate is a registry that serves the images of another one, and of these only the images
that the policies accept. Unmodified clients pull through it: docker, podman, containerd,
crane, skopeo. For an image that the policies reject, gate answers 403 and the reason; for
one that it cannot judge now, 503. Signatures and attestations stay readable.

It needs no platform and no other role. Nothing is pushed through it. Each decision is
one line of the log.`
	cmd.Example = "  colophond gate --upstream https://registry.example.com --policies policies/ --trust trust/"
	cmd.Flags().StringVar(&flags.Upstream, "upstream", "", "URL of the registry that has the images")
	cmd.Flags().StringVar(&flags.Policies, "policies", "", "file or directory of policies")
	cmd.Flags().StringVar(&flags.Trust, "trust", "", "file or directory of trust roots")
	cmd.Flags().StringVar(&flags.Listen, "listen", "", "address for clients (default 127.0.0.1:5000; other addresses need tls in the configuration)")
	cmd.Flags().BoolVar(&audit, "audit", false, "record decisions, and refuse nothing")
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/gate.md)")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	return cmd
}
