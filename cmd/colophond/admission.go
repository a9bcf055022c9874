package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/admission"
)

func newAdmissionCommand() *cobra.Command {
	config, dryRun, format, level := "", false, "json", "info"
	cmd := newServer("admission [--config FILE] [--dry-run]", "decide which images a Kubernetes cluster runs", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		s, err := admission.ReadSettings(config)
		if err != nil {
			return wrongSettings("admission", err)
		}
		s.DryRun = s.DryRun || dryRun
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("admission", err)
		}
		return admission.Serve(ctx, s, logs.New(os.Stderr, log))
	})
	cmd.Long = `Admission answers the API server of a Kubernetes cluster, as its webhooks: it changes the
tags of images into digests, and refuses images that the policies refuse, or about which
nothing is known. It needs no platform and no other role. It is a pod of the cluster; the
chart in deploy/kubernetes installs it.

Without a configuration, policies and trust roots are resources of the cluster, and the
certificate is made and renewed by itself, in the Secret colophon-admission-tls of its
namespace. Each decision is one line of the log.`
	cmd.Example = "  colophond admission --config /etc/colophon/admission.yaml"
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/admission.md)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "record decisions, and refuse and change nothing")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	return cmd
}
