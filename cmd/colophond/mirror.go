package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/mirror"
)

func newMirrorCommand() *cobra.Command {
	var flags mirror.Settings
	config, format, level := "", "json", "info"
	var l mirror.LogSettings
	cmd := newServer("mirror --name NAME --dir DIR --log KEY [--url URL]", "keep verified copies of transparency logs, and serve them", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		s, err := mirror.ReadSettings(config)
		if err != nil {
			return wrongSettings("mirror", err)
		}
		s.Name, s.Dir, s.Listen = cmp.Or(flags.Name, s.Name), cmp.Or(flags.Dir, s.Dir), cmp.Or(flags.Listen, s.Listen)
		if l != (mirror.LogSettings{}) {
			s.Logs = append(s.Logs, l)
		}
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("mirror", err)
		}
		checked := s
		if _, _, err := checked.Check(); err != nil {
			return wrongSettings("mirror", err)
		}
		return mirror.Serve(ctx, s, logs.New(os.Stderr, log))
	})
	cmd.Long = `Mirror copies transparency logs that serve the tiles of C2SP tlog-tiles, entry by entry,
verifies each of them, and serves the copies under the hash of each log's origin. Its
checkpoints have its own cosignature beside the log's: it has everything under them. When
the log is gone, or shows others another history, the copy says what this one was.

Without --url, the log pushes its checkpoints and entries, as C2SP tlog-mirror says.

It needs no platform. A copy has all entries from the first; DIR grows with the logs.`
	cmd.Example = "  colophond mirror --name example.org/mirror --dir /var/lib/mirror --log log.example.com+1a2b3c4d+AaBb… --url https://log.example.com/api/v2"
	cmd.Flags().StringVar(&flags.Name, "name", "", "name of the mirror, such as example.org/mirror; it cannot be changed later")
	cmd.Flags().StringVar(&flags.Dir, "dir", "", "directory for keys and copies")
	cmd.Flags().StringVar(&l.Key, "log", "", "verifier key of a log: ORIGIN+HEX+BASE64; the configuration may have more logs")
	cmd.Flags().StringVar(&l.URL, "url", "", "prefix of the log's tiles; for a Rekor v2 log it ends in /api/v2. Without it, the log pushes its entries")
	cmd.Flags().StringVar(&flags.Listen, "listen", "", "address for clients (default 127.0.0.1:5020; other addresses need tls in the configuration)")
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/log.md)")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	return cmd
}
