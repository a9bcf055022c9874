package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/search"
)

// auditedLog is the answer of log audit.
type auditedLog struct {
	Log       string `json:"log"`       // URL
	TrustRoot string `json:"trustRoot"` // fingerprint of the trust root that has the log's key
	Size      int64  `json:"size"`      // entries of the log, all read
	RootHash  string `json:"rootHash"`  // of their tree, base64
	Roots     int64  `json:"roots"`     // entries of the index log, all compared
	Indexed   int64  `json:"indexed"`   // entries of the log that the last of them is about
	Keys      int64  `json:"keys"`      // of the map
	MapRoot   string `json:"mapRoot"`   // base64
	Unparsed  int64  `json:"unparsed"`  // entries that could not be read, or not fully
	IndexLog  string `json:"indexLog"`  // origin of the index log
	cosigners
}

func newLogAuditCommand() *cobra.Command {
	var o output
	l := logOptions{}
	var x indexOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "read a whole log, and compare its index with it",
		Long: `Audit reads all entries of a log, computes the index again, and compares every root that
the index log has, and every checkpoint in it. It finds an entry that was left out of the
index or that was changed, a log or an index log that was rolled back, and one that forked.
With --index, it audits the index of somebody who follows the log.

It reads the log's tiles from its beginning, and keeps nothing on this machine. A million
entries need about 250 MB of memory.`,
		Example: `  colophon log audit
  colophon log audit --json --timeout 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogAudit(cmd, l, x, o) },
	}
	o.flags(cmd)
	l.flags(cmd)
	x.flags(cmd)
	cmd.Flags().Lookup("timeout").DefValue = time.Hour.String()
	l.timeout = time.Hour
	return cmd
}

func runLogAudit(cmd *cobra.Command, lo logOptions, xo indexOptions, o output) error {
	ctx, cancel := withTimeout(cmd.Context(), lo.timeout)
	defer cancel()
	if err := xo.check(); err != nil {
		return err
	}
	log, err := openLog(ctx, lo)
	if err != nil {
		return err
	}
	index, err := log.index(xo)
	if err != nil {
		return err
	}
	told := time.Now()
	a, err := search.Audit(ctx, log, log.Verifier, index, index.key, func(entries, of int64) {
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "read %d of %d entries\n", entries, of)
		}
	})
	if err != nil {
		if errors.Is(err, errUnread) {
			return log.logExit(unread{err})
		}
		return log.logExit(err)
	}
	cosigned, err := log.cosigned(xo, index, string(a.Checkpoint), string(a.IndexCheckpoint))
	if err != nil {
		return err
	}
	answer := auditedLog{
		Log: log.URL, TrustRoot: log.Root.Pin(), Size: a.Newest.Size, RootHash: base64.StdEncoding.EncodeToString(a.Newest.Root[:]),
		Roots: a.Index.Size, Indexed: a.Indexed.Size, Keys: a.Keys, MapRoot: base64.StdEncoding.EncodeToString(a.Root[:]), Unparsed: a.Unparsed, IndexLog: index.key.Name(), cosigners: cosigned,
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), answer)
	}
	answer.print(cmd.OutOrStdout())
	return nil
}

func (a auditedLog) print(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, printable.Text(fmt.Sprintf(format, args...)))
	}
	line("log", "%s, key of the trust root %s", a.Log, a.TrustRoot)
	line("entries", "%d, all read", a.Size)
	line("roots", "%d in the index log, all computed again and equal", a.Roots)
	line("indexed", "%d entries under %d keys", a.Indexed, a.Keys)
	if a.Unparsed > 0 {
		line("unread", "%d entries could not be read, or not fully: colophon log search --unparsed", a.Unparsed)
	}
	if behind := a.Size - a.Indexed; behind > 0 {
		line("behind", "the last %d entries are not in the index yet", behind)
	}
	if words := a.words(); words != "" {
		line("witnesses", "log and index: %s", words)
	}
	line("audited", "the index has every entry that it is about, and nothing else")
}
