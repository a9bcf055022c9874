package main

import (
	"cmp"
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/follow"
)

func newFollowCommand() *cobra.Command {
	var flags follow.Settings
	config, key, format, level := "", "", "json", "info"
	cmd := newServer("follow [URL] --dir DIR", "watch transparency logs, and report what no known release explains", cobra.MaximumNArgs(1), func(ctx context.Context, args []string) error {
		s, err := follow.ReadSettings(config)
		if err != nil {
			return wrongSettings("follow", err)
		}
		s.Dir, s.Trust, s.Webhook, s.Health = cmp.Or(flags.Dir, s.Dir), cmp.Or(flags.Trust, s.Trust), cmp.Or(flags.Webhook, s.Webhook), cmp.Or(flags.Health, s.Health)
		s.Copy = s.Copy || flags.Copy
		s.Search.Name, s.Search.Listen = cmp.Or(flags.Search.Name, s.Search.Name), cmp.Or(flags.Search.Listen, s.Search.Listen)
		for _, url := range args {
			s.Logs = append(s.Logs, follow.LogSettings{URL: url, Key: key})
		}
		log, err := logs.Parse(format, level)
		if err != nil {
			return wrongSettings("follow", err)
		}
		checked := s
		if err := checked.Check(); err != nil {
			return wrongSettings("follow", err)
		}
		return follow.Serve(ctx, s, nil, logs.New(os.Stderr, log))
	})
	cmd.Long = `Follow reads transparency logs that serve the tiles of C2SP tlog-tiles, entry by entry,
verifies them, and reports what "colophon log watch" reports: signatures under names that
you watch and that no known release explains, entries that cannot be parsed, and logs that
do not answer, whose key is suspect, or that misbehave. Each alarm is one line of the log,
and goes to the webhook.

With --search NAME it also answers "colophon log search" over the logs, as far as it has
read them. It signs an index log for each of them with a key of its own; "colophon log audit"
compares that with the log.

It needs no platform and no other role, and has no keys but that one. The key of a log is
that of a trust root, or is given; it never comes from the log. DIR keeps how far each log was
read, and what it signed last.`
	cmd.Example = "  colophond follow https://log2025-1.rekor.sigstore.dev --dir /var/lib/follow --trust trust/ --config follow.yaml"
	cmd.Flags().StringVar(&flags.Dir, "dir", "", "directory for what was seen of the logs")
	cmd.Flags().StringVar(&key, "key", "", "verifier key of the log: ORIGIN+HEX+BASE64; URL is then the prefix of its tiles")
	cmd.Flags().StringVar(&flags.Trust, "trust", "", "file or directory of trust roots")
	cmd.Flags().StringVar(&flags.Webhook, "webhook", "", "URL for alarms, or a file with URL and headers")
	cmd.Flags().StringVar(&flags.Health, "health", "", "address of /healthz, /readyz and /metrics (default 127.0.0.1:5031)")
	cmd.Flags().BoolVar(&flags.Copy, "copy", false, "keep verified copies of the logs in DIR")
	cmd.Flags().StringVar(&flags.Search.Name, "search", "", "answer searches over the logs, as a follower of this `NAME`, such as example.org/follow")
	cmd.Flags().StringVar(&flags.Search.Listen, "listen", "", "address for searches (default 127.0.0.1:5030)")
	cmd.Flags().StringVar(&config, "config", "", "configuration file, YAML or JSON (docs/log.md)")
	cmd.Flags().StringVar(&format, "log-format", format, "format of the log on standard error: text or json")
	cmd.Flags().StringVar(&level, "log-level", level, "least level of a line of the log: debug, info, warn or error")
	return cmd
}
