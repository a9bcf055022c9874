package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/witness"
)

func newWitnessCommand() *cobra.Command {
	var flags witness.Settings
	config, format, level := "", "json", "info"
	cmd := newServer("witness --name NAME --dir DIR --log KEY", "cosign the checkpoints of transparency logs that have one history", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		s, err := witness.ReadSettings(config)
		if err != nil {
			return wrongSettings("witness", err)
		}
		s.Name, s.Dir, s.Listen = cmp.Or(flags.Name, s.Name), cmp.Or(flags.Dir, s.Dir), cmp.Or(flags.Listen, s.Listen)
		s.Logs = append(s.Logs, flags.Logs...)
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("witness", err)
		}
		checked := s
		if _, err := checked.Check(); err != nil {
			return wrongSettings("witness", err)
		}
		return witness.Serve(ctx, s, logs.New(os.Stderr, log))
	})
	cmd.Long = `Witness cosigns the checkpoints of transparency logs: those that extend the last one
that it cosigned of the same log. A log that shows two histories gets the cosignature
for one of them. Any log that speaks the protocol (c2sp.org/tlog-witness) can use it:
Colophon's, Tessera's, Sigsum's.

It needs no platform. It makes its keys at the first start; DIR/cosigner.pub has the
public ones. Back up DIR once for the keys. Never start it with an older
copy of the state: a witness that forgets what it cosigned is none.`
	cmd.Example = "  colophond witness --name example.org/witness --dir /var/lib/witness --log log.example.com+1a2b3c4d+AaBb…"
	cmd.Flags().StringVar(&flags.Name, "name", "", "name of the witness, such as example.org/witness; it cannot be changed later")
	cmd.Flags().StringVar(&flags.Dir, "dir", "", "directory for keys and state")
	cmd.Flags().StringArrayVar(&flags.Logs, "log", nil, "verifier key of a log: ORIGIN+HEX+BASE64; repeat it")
	cmd.Flags().StringVar(&flags.Listen, "listen", "", "address for logs and monitors (default 127.0.0.1:5010; other addresses need tls in the configuration)")
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/log.md)")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	return cmd
}
