package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
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

	Archive *auditedLog `json:"archive,omitempty"` // with --archive: the log of the archive, and the map of its content
}

func newLogAuditCommand() *cobra.Command {
	var o output
	l := logOptions{}
	var x indexOptions
	archive := false
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "read a whole log, and compare its index with it",
		Long: `Audit reads all entries of a log, computes the index again, and compares every root that
the index log has, and every checkpoint in it. It finds an entry that was left out of the
index or that was changed, a log or an index log that was rolled back, and one that forked.
With --index, it audits the index of somebody who follows the log.

It reads the log's tiles from its beginning, and keeps nothing on this machine. A million
entries need about 250 MB of memory.

With --archive, audit then does the same with the archive of the platform: it fetches all
that the archive's log has, compares each digest, and computes the map of the content again.`,
		Example: `  colophon log audit
  colophon log audit --archive
  colophon log audit --json --timeout 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogAudit(cmd, l, x, archive, o) },
	}
	o.flags(cmd)
	l.flags(cmd)
	x.flags(cmd)
	cmd.Flags().BoolVar(&archive, "archive", false, "audit the archive of the platform too: this fetches all that it keeps")
	cmd.MarkFlagsMutuallyExclusive("archive", "index")
	cmd.Flags().Lookup("timeout").DefValue = time.Hour.String()
	l.timeout = time.Hour
	return cmd
}

func runLogAudit(cmd *cobra.Command, lo logOptions, xo indexOptions, archive bool, o output) error {
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
	tell := func(entries, of int64) {
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(cmd.ErrOrStderr(), "read %d of %d entries\n", entries, of)
		}
	}
	a, err := search.Audit(ctx, log, log.Verifier, index, index.key, tell)
	if err != nil {
		if errors.Is(err, errUnread) {
			return log.logExit(unread{err})
		}
		return log.logExit(err)
	}
	answer := describeAudit(log.URL, log, a)
	answer.IndexLog = index.key.Name()
	if answer.cosigners, err = log.cosigned(xo, log.Verifier, index.key, string(a.Checkpoint), string(a.IndexCheckpoint)); err != nil {
		return err
	}
	if archive {
		if answer.Archive, err = auditArchive(ctx, log, xo, tell); err != nil {
			return err
		}
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), answer)
	}
	answer.print(cmd.OutOrStdout())
	return nil
}

func describeAudit(name string, log *trustedLog, a *search.Audited) *auditedLog {
	return &auditedLog{
		Log: name, TrustRoot: log.Root.Pin(), Size: a.Newest.Size, RootHash: base64.StdEncoding.EncodeToString(a.Newest.Root[:]),
		Roots: a.Index.Size, Indexed: a.Indexed.Size, Keys: a.Keys, MapRoot: base64.StdEncoding.EncodeToString(a.Root[:]), Unparsed: a.Unparsed,
	}
}

// auditArchive audits the archive of the log's platform.
func auditArchive(ctx context.Context, log *trustedLog, demands indexOptions, tell func(entries, of int64)) (*auditedLog, error) {
	platform, err := log.archive()
	if err != nil {
		return nil, err
	}
	s, err := platform.ArchiveSearcher(log.Origin, log.Key)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "colophon-audit-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	a, err := search.AuditArchive(ctx, s.Log(), s.LogKey, s.Index(), s.IndexKey, &search.ArchiveMap{Content: s.Content, Dir: dir}, tell)
	if err != nil {
		return nil, archiveExit(platform, err)
	}
	answer := describeAudit(s.LogKey.Name(), log, a)
	answer.IndexLog = s.IndexKey.Name()
	answer.cosigners, err = log.cosigned(demands, s.LogKey, s.IndexKey, string(a.Checkpoint), string(a.IndexCheckpoint))
	return answer, err
}

func (a auditedLog) print(w io.Writer) {
	a.printAs(w, auditWords{"log", "entries", "all read", "colophon log search", "the index has every entry that it is about, and nothing else"})
	if a.Archive != nil {
		fmt.Fprintln(w)
		a.Archive.printAs(w, auditWords{"archive", "records", "all read, with their content", "colophon log search --archive",
			"the archive has what its log has, and the index has every record that it is about, and nothing else"})
	}
}

// auditWords are the words for a log, or for an archive.
type auditWords struct{ log, entries, read, search, audited string }

func (a auditedLog) printAs(w io.Writer, words auditWords) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, printable.Text(fmt.Sprintf(format, args...)))
	}
	line(words.log, "%s, key of the trust root %s", a.Log, a.TrustRoot)
	line(words.entries, "%d, %s", a.Size, words.read)
	line("roots", "%d in the index log, all computed again and equal", a.Roots)
	line("indexed", "%d %s under %d keys", a.Indexed, words.entries, a.Keys)
	if a.Unparsed > 0 {
		line("unread", "%d %s could not be read, or not fully: %s --unparsed", a.Unparsed, words.entries, words.search)
	}
	if behind := a.Size - a.Indexed; behind > 0 {
		line("behind", "the last %d %s are not in the index yet", behind, words.entries)
	}
	if witnesses := a.words(); witnesses != "" {
		line("witnesses", "log and index: %s", witnesses)
	}
	line("audited", "%s", words.audited)
}
