package main

import (
	"cmp"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
)

func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "ask a transparency log, and verify what it answers",
		Long: `Log asks a transparency log and verifies each answer with the key of the log, which
it takes from the trust roots on this machine and never from the log itself. It
reads any log that serves the tiles of C2SP tlog-tiles, such as that of a platform
and Rekor v2. Rekor v1 serves none.

Without --log it asks the log of the platform that "colophon login" or
COLOPHON_PLATFORM names, or else the only log of the trust roots.

Exit codes: 3 if the log contradicts its checkpoint, or does not have what was
asked for; 4 if it could not be read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogCheckpointCommand(), newLogProveCommand(), newLogGossipCommand(), newLogWatchCommand(), newLogGetCommand(), newLogSearchCommand(), newLogAuditCommand())
	return cmd
}

// logOptions choose the log that a command asks, and limit how long that takes.
type logOptions struct {
	name    string // of --log: a URL, an origin or a key ID; empty: the default
	timeout time.Duration
}

func (o *logOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.name, "log", "", "the log to ask, one of a trust root on this machine: its `URL`, its origin, or the ID of its key (hex)")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "give up after this long")
	_ = cmd.RegisterFlagCompletionFunc("log", completeLogs)
}

// trustedLog is a log that a trust root on this machine names. It is a tlog.Source of
// what the log serves; an error of its methods matches errUnread.
type trustedLog struct {
	tlog.HTTP
	Root     *trust.Root // names the log and has its key
	URL      string      // of the log, without /api/v2
	Origin   string
	KeyID    string // hex; logId.keyId of entries
	Key      crypto.PublicKey
	Verifier note.Verifier // of its checkpoints
	Trusted  trust.Window  // when the trust root trusts the key
}

// errUnread matches the errors of a log that gave no answer, or not the one that was
// asked for: they say nothing about what is in the log.
var errUnread = errors.New("the log could not be read")

type unread struct{ error }

func (unread) Is(target error) bool { return target == errUnread }
func (u unread) Unwrap() error      { return u.error }

// Checkpoint implements tlog.Source.
func (l *trustedLog) Checkpoint(ctx context.Context) ([]byte, error) {
	raw, err := l.HTTP.Checkpoint(ctx)
	if err != nil {
		return nil, unread{reach.Explain(err)}
	}
	return raw, nil
}

// Tile implements tlog.Source.
func (l *trustedLog) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	raw, err := l.HTTP.Tile(ctx, t)
	if err != nil {
		return nil, unread{reach.Explain(err)}
	}
	return raw, nil
}

// open returns the newest checkpoint of the log, verified.
func (l *trustedLog) open(ctx context.Context) (signed []byte, cp tlog.Checkpoint, err error) {
	if signed, err = l.Checkpoint(ctx); err != nil {
		return nil, cp, err
	}
	cp, err = tlog.OpenCheckpoint(signed, l.Verifier)
	return signed, cp, err
}

// openLog returns the log that o names or, if it names none, the default: see
// newLogCommand. It asks no network but, without a login, whether a platform runs here.
func openLog(ctx context.Context, o logOptions) (*trustedLog, error) {
	logs, err := trustedLogs()
	if err != nil {
		return nil, err
	}
	if o.name != "" {
		var found []*trustedLog
		for _, l := range logs {
			if l.named(o.name) {
				found = append(found, l)
			}
		}
		return onlyLog(found, logs, fmt.Sprintf("no trust root on this machine has the log %q", o.name), "--log "+o.name)
	}
	platform, err := configuredPlatform(ctx)
	if err != nil {
		return nil, err
	}
	if platform == nil {
		return onlyLog(logs, logs, "the trust roots on this machine have no log that serves tiles", "no --log")
	}
	found := slices.DeleteFunc(slices.Clone(logs), func(l *trustedLog) bool { return l.Root.URL != strings.TrimSuffix(platform.URL, "/") })
	if len(found) == 0 {
		return nil, &exitError{code: exitFailure, msg: fmt.Sprintf("no trust root on this machine has the log of your platform %s", platform.URL),
			hint: "colophon trust add " + platform.URL + ", or choose a log with --log"}
	}
	return onlyLog(found, logs, "", "the platform "+platform.URL)
}

// onlyLog returns the only log of found. Otherwise it fails, and says which logs there are.
func onlyLog(found, all []*trustedLog, none, chosen string) (*trustedLog, error) {
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) == 0 && len(all) == 0 {
		return nil, &exitError{code: exitFailure, msg: cmp.Or(none, "the trust roots on this machine have no log that serves tiles"), hint: "colophon trust add"}
	}
	var names []string
	for _, l := range all {
		name := l.URL
		if slices.ContainsFunc(all, func(o *trustedLog) bool { return o != l && o.URL == l.URL }) {
			name = l.KeyID
		}
		names = append(names, name)
	}
	hint := "choose one with --log: " + strings.Join(names, ", ")
	if len(found) == 0 {
		return nil, usageError(hint, "%s", none)
	}
	return nil, usageError(hint, "%s names %d logs", chosen, len(found))
}

// named reports whether name is one of those that a person gives the log.
func (l *trustedLog) named(name string) bool {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "/"), "/api/v2")
	return name == l.URL || name == l.Origin || strings.EqualFold(name, l.KeyID)
}

// trustedLogs returns the logs of all trust roots on this machine that may serve tiles,
// ordered by URL. A log that several roots name with the same key is one log.
func trustedLogs() ([]*trustedLog, error) {
	roots, err := storedRoots()
	if errors.Is(err, trust.ErrEmpty) {
		return nil, &exitError{code: exitFailure, msg: err.Error(), hint: "colophon trust add URL, or sigstore or github"}
	}
	if err != nil {
		return nil, err
	}
	return logsIn(roots), nil
}

// logsIn returns the logs of trust roots.
func logsIn(roots []*trust.Root) []*trustedLog {
	var all []*trustedLog
	for _, r := range roots {
		for id, l := range r.Material.RekorLogs() {
			log, ok := logOf(r, id, l)
			same := func(o *trustedLog) bool { return o.URL == log.URL && o.KeyID == log.KeyID }
			i := slices.IndexFunc(all, func(o *trustedLog) bool { return ok && same(o) })
			switch {
			case !ok:
			case i < 0:
				all = append(all, log)
			case all[i].Root.URL == "" && r.URL != "": // the platform's own document says more
				all[i] = log
			}
		}
	}
	slices.SortFunc(all, func(a, b *trustedLog) int {
		return strings.Compare(a.URL+"\x00"+a.KeyID, b.URL+"\x00"+b.KeyID)
	})
	return all
}

// logOf returns a log of a trust root; ok is false for what cannot be a log of tiles.
func logOf(r *trust.Root, id string, l *root.TransparencyLog) (_ *trustedLog, ok bool) {
	if l.BaseURL == rekor1 {
		return nil, false
	}
	v, err := trust.LogVerifier(l)
	if err != nil {
		return nil, false // a URL without a host, or a kind of key that only Rekor v1 has
	}
	own, err := tlog.LogID(v.Name(), l.PublicKey)
	if err != nil || hex.EncodeToString(own[:]) != id {
		return nil, false
	}
	base := strings.TrimSuffix(l.BaseURL, "/")
	return &trustedLog{
		HTTP: tlog.HTTP{URL: base + "/api/v2"},
		Root: r, URL: base, Origin: v.Name(), KeyID: id, Key: l.PublicKey, Verifier: v, Trusted: trust.LogWindow(l),
	}, true
}

// rekor1 is the public log that serves no tiles. It is in the trust root of the public
// Sigstore instance beside those that do.
const rekor1 = "https://rekor.sigstore.dev"

// logExit returns the error of a command that reads a log, with its exit code: undecided
// if the log could not be read, rejected if what it served is wrong.
func (l *trustedLog) logExit(err error) error {
	if _, isExit := errors.AsType[*exitError](err); err == nil || isExit {
		return err
	}
	if errors.Is(err, errUnread) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("log %s: %v", l.URL, err)}
	}
	return &exitError{code: exitRejected, msg: fmt.Sprintf("log %s: %v", l.URL, err),
		hint: "keep this answer: a log that contradicts its own checkpoint must explain itself"}
}

// completeLogs completes the logs of the trust roots.
func completeLogs(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	logs, err := trustedLogs()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, l := range logs {
		names = append(names, l.URL)
	}
	return offer(begun, names), cobra.ShellCompDirectiveNoFileComp
}

// loggedCheckpoint is the answer of log checkpoint.
type loggedCheckpoint struct {
	Log        string   `json:"log"`       // URL
	Origin     string   `json:"origin"`    // the log's name in its checkpoints
	KeyID      string   `json:"keyId"`     // hex
	TrustRoot  string   `json:"trustRoot"` // fingerprint of the trust root that has the key
	Size       int64    `json:"size"`      // number of entries
	RootHash   string   `json:"rootHash"`  // base64, as in the checkpoint
	Extensions []string `json:"extensions,omitempty"`
	Others     []string `json:"otherSigners"`      // names of signers besides the log; not verified
	Extends    *int64   `json:"extends,omitempty"` // of --extends: size of that checkpoint, which this one extends
	Checkpoint string   `json:"checkpoint"`        // the signed note
}

func newLogCheckpointCommand() *cobra.Command {
	var o output
	var l logOptions
	var raw bool
	var extends string
	cmd := &cobra.Command{
		Use:   "checkpoint",
		Short: "print the newest checkpoint of a log, verified",
		Long: `Checkpoint prints what a log commits to now: how many entries it has, and the root hash
of their tree, signed by the log's key.

Keep it with --raw, and give it to somebody else or to --extends later: a log that
removed or changed an entry since cannot show that it extends the older checkpoint.`,
		Example: `  colophon log checkpoint --raw > checkpoint.txt
  colophon log checkpoint --extends checkpoint.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogCheckpoint(cmd, l, o, raw, extends) },
	}
	o.flags(cmd)
	l.flags(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print only the signed checkpoint, as the log served it")
	cmd.Flags().StringVar(&extends, "extends", "", "fail unless the log still has all entries of the older checkpoint in this `FILE`, unchanged")
	cmd.MarkFlagsMutuallyExclusive("raw", "output", "json")
	return cmd
}

func runLogCheckpoint(cmd *cobra.Command, lo logOptions, o output, raw bool, extends string) error {
	ctx, cancel := withTimeout(cmd.Context(), lo.timeout)
	defer cancel()
	log, err := openLog(ctx, lo)
	if err != nil {
		return err
	}
	var older *tlog.Checkpoint
	if extends != "" {
		if older, err = readCheckpoint(extends, log); err != nil {
			return err
		}
	}
	signed, cp, err := log.open(ctx)
	if err != nil {
		return log.logExit(err)
	}
	if older != nil {
		if err := tlog.Extends(ctx, log, *older, cp); err != nil {
			return log.logExit(err)
		}
	}
	if raw {
		_, err := cmd.OutOrStdout().Write(signed)
		return err
	}
	answer := loggedCheckpoint{
		Log: log.URL, Origin: cp.Origin, KeyID: log.KeyID, TrustRoot: log.Root.Pin(), Size: cp.Size, RootHash: base64.StdEncoding.EncodeToString(cp.Root[:]),
		Extensions: cp.Extensions, Others: otherSigners(signed, log.Verifier), Checkpoint: string(signed),
	}
	if older != nil {
		answer.Extends = &older.Size
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), answer)
	}
	answer.print(cmd.OutOrStdout())
	return nil
}

func (c loggedCheckpoint) print(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-10s %s\n", name, printable.Text(value)) }
	line("log", c.Log)
	line("origin", c.Origin)
	line("key", c.KeyID+", of the trust root "+c.TrustRoot)
	line("entries", fmt.Sprint(c.Size))
	line("root", c.RootHash)
	for _, name := range c.Others {
		line("also", name+", not verified")
	}
	if c.Extends != nil {
		line("extends", fmt.Sprintf("the checkpoint of %d entries", *c.Extends))
	}
}

// readCheckpoint reads an older checkpoint of the log from a file.
func readCheckpoint(path string, log *trustedLog) (*tlog.Checkpoint, error) {
	signed, err := strict.ReadFile(path, tlog.MaxCheckpoint)
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	cp, err := tlog.OpenCheckpoint(signed, log.Verifier)
	if err != nil {
		return nil, &exitError{code: exitRejected, msg: fmt.Sprintf("%s: not a checkpoint of %s: %v", path, log.URL, err)}
	}
	return &cp, nil
}

// otherSigners returns the names of those who signed a checkpoint besides the log.
func otherSigners(signed []byte, log note.Verifier) []string {
	names := []string{}
	if n, err := note.Open(signed, note.VerifierList(log)); err == nil {
		for _, s := range n.UnverifiedSigs {
			names = append(names, s.Name)
		}
	}
	return names
}

// configuredPlatform returns the platform that release would use, or nil. It starts none.
func configuredPlatform(ctx context.Context) (*api.ClientConfig, error) {
	c, err := api.LoadConfig()
	if err == nil || !errors.Is(err, api.ErrNoPlatform) {
		return c, err
	}
	if dir, err := dataDir(); err == nil {
		return running(ctx, dir), nil
	}
	return nil, nil
}
