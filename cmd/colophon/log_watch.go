package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/monitor"
	"github.com/colophon-build/colophon/tlog/follow"
)

// watchOptions are the flags of log watch.
type watchOptions struct {
	logs                         []string
	identities, issuers, sources []string // patterns
	known                        []string // files, or "platform"
	webhook                      string
	state                        string
	newest, once, json           bool
	every, stalled               time.Duration
}

func newLogWatchCommand() *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "report signatures in logs that no known release explains",
		Long: `Watch follows logs and reports each entry that was signed under a name which you watch,
and that no known release explains: somebody signs as you. A name is watched if one of
the patterns matches the subject, the issuer or the source repository in the certificate.
Patterns are regular expressions that must match the whole text. Without one, every
entry is watched.

--known says which releases there are: "platform" asks the platform that you are logged
in to, and FILE has JSON lines, for example of what a CI system ran. An entry that cannot
be parsed is reported too.

Watch also checks that each log only appends. It keeps on disk how far it came and what
the log signed last, so that it goes on there the next time, and finds a log that shows
another history. Other patterns begin anew.

Exit codes, the worst first: 6 a log misbehaves; 5 the key of a log is suspect; 3 an
entry is unexplained; 4 something could not be read. 0: none of these was found.`,
		Example: `  colophon log watch --known platform
  colophon log watch --source 'https://github\.com/acme/.*' --known runs.jsonl --once --json
  colophon log watch --identity '.*@acme\.example' --webhook hook.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogWatch(cmd, o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.logs, "log", nil, "a log to watch, one of a trust root on this machine: its `URL`, its origin, or the ID of its key (hex); may be repeated")
	f.StringArrayVar(&o.identities, "identity", nil, "watch certificates of a subject that this `PATTERN` matches; may be repeated")
	f.StringArrayVar(&o.issuers, "issuer", nil, "watch certificates of an OIDC issuer that this `PATTERN` matches; may be repeated")
	f.StringArrayVar(&o.sources, "source", nil, "watch certificates of a source repository, https://…, that this `PATTERN` matches; may be repeated")
	f.StringArrayVar(&o.known, "known", nil, "the releases that explain entries: a `FILE` of JSON lines, or \"platform\"; may be repeated")
	f.StringVar(&o.webhook, "webhook", "", "send alarms to this `URL` too, or to that in the first line of a FILE, whose other lines are headers")
	f.StringVar(&o.state, "state", "", "keep what was seen in this `DIR` (default: with the data of colophon)")
	f.BoolVar(&o.newest, "from-newest", false, "skip the entries that the log has when it is watched for the first time")
	f.BoolVar(&o.once, "once", false, "end when all entries were read")
	f.BoolVar(&o.json, "json", false, "print alarms as JSON lines")
	f.DurationVar(&o.every, "every", 30*time.Second, "ask each log this often")
	f.DurationVar(&o.stalled, "stalled", 0, "a log that has not grown for longer is an alarm (default: never)")
	_ = cmd.RegisterFlagCompletionFunc("log", completeLogs)
	_ = cmd.RegisterFlagCompletionFunc("known", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"platform"}, cobra.ShellCompDirectiveDefault
	})
	return cmd
}

func runLogWatch(cmd *cobra.Command, o watchOptions) error {
	if o.every < time.Second {
		return usageError("", "--every: expected 1s or longer, found %s", o.every)
	}
	ctx := cmd.Context()
	watch, err := o.watch(ctx)
	if err != nil {
		return err
	}
	sinks := []monitor.Sink{alarmLines{cmd.OutOrStdout()}}
	if o.json {
		sinks[0] = monitor.Lines{W: cmd.OutOrStdout()}
	}
	if o.webhook != "" {
		hook, err := monitor.NewWebhook(o.webhook)
		if err != nil {
			return usageError("", "--webhook: %v", err)
		}
		sinks = append(sinks, hook)
	}
	logs, err := o.open(ctx)
	if err != nil {
		return err
	}
	m := &monitor.Monitor{Watch: *watch, Sinks: sinks}
	open, err := m.Open(logs)
	if errors.Is(err, dirlock.ErrHeld) {
		return &exitError{code: exitFailure, msg: err.Error(), hint: "another \"colophon log watch\" has the same logs and patterns; end it, or choose another --state"}
	} else if err != nil {
		return err
	}
	every := o.every
	if o.once {
		every = 0
	}
	m.Run(ctx, open, every)
	for _, l := range open {
		p := l.Progress()
		if !o.json {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: read %d of %d entries\n", printable.Text(l.Origin()), p.Next, p.Checkpoint.Size)
		}
		err = errors.Join(err, l.Close())
	}
	if exit := watchExit(m); exit != nil {
		return exit
	}
	if ctx.Err() != nil && o.once {
		return &exitError{code: exitUndecided, msg: "interrupted before all entries were read"}
	}
	return err
}

// watchExit returns the error with the exit code of the worst alarm.
func watchExit(m *monitor.Monitor) error {
	n := m.Counts()
	count := func(kind monitor.Kind, one, many string) string {
		if n[kind] == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n[kind], many)
	}
	switch m.Worst() {
	case "":
		return nil
	case monitor.Misbehaves:
		return &exitError{code: exitMisbehaves, msg: "a log misbehaves", hint: "keep the evidence, and show it to those who trust the log"}
	case monitor.KeySuspect:
		return &exitError{code: exitKeySuspect, msg: "the key of a log is suspect", hint: "ask its operator whether the key was changed or stolen; compare the trust root with theirs"}
	case monitor.Unexplained:
		return &exitError{code: exitRejected, msg: count(monitor.Unexplained, "entry is", "entries are") + " unexplained", hint: "if nobody of yours signed, revoke what the signer could use, and distrust what it signed"}
	case monitor.Unread:
		return &exitError{code: exitUndecided, msg: count(monitor.Unread, "entry", "entries") + " could not be parsed: nobody can say who signed"}
	}
	return &exitError{code: exitUndecided, msg: "not everything could be read: what was read is explained"}
}

// watch returns what is watched.
func (o *watchOptions) watch(ctx context.Context) (*monitor.Watch, error) {
	w := &monitor.Watch{}
	for _, p := range []struct {
		flag  string
		exprs []string
		into  *[]monitor.Pattern
	}{{"--identity", o.identities, &w.Identities}, {"--issuer", o.issuers, &w.Issuers}, {"--source", o.sources, &w.Sources}} {
		for _, expr := range p.exprs {
			pattern, err := monitor.ParsePattern(expr)
			if err != nil {
				return nil, usageError("", "%s: %v", p.flag, err)
			}
			*p.into = append(*p.into, pattern)
		}
	}
	if err := w.Check(); err != nil {
		return nil, usageError("", "%v", err)
	}
	for _, name := range o.known {
		if name == "platform" {
			c, err := platformInUse(ctx)
			if err != nil {
				return nil, err
			}
			w.Known = append(w.Known, monitor.NewPlatform(c))
			continue
		}
		file, err := monitor.OpenFile(name)
		if err != nil {
			return nil, usageError("", "--known: %v", err)
		}
		w.Known = append(w.Known, file)
	}
	roots, err := storedRoots()
	if err != nil {
		return nil, err
	}
	for _, r := range roots {
		w.Roots = append(w.Roots, root.TrustedMaterial(r.Material))
	}
	return w, nil
}

// open returns the logs to watch. Each has a directory for what was seen of it with these
// patterns.
func (o *watchOptions) open(ctx context.Context) (logs []monitor.Log, err error) {
	dir := o.state
	if dir == "" {
		if dir, err = dataDir(); err != nil {
			return nil, err
		}
		dir = filepath.Join(dir, "watch")
	}
	names := o.logs
	if len(names) == 0 {
		names = []string{""}
	}
	var ids []string
	for _, name := range names {
		l, err := openLog(ctx, logOptions{name: name})
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, l.KeyID+l.URL) {
			continue
		}
		ids = append(ids, l.KeyID+l.URL)
		logs = append(logs, monitor.Log{URL: l.URL, Config: follow.Config{
			Key: l.Verifier, Source: follow.HTTP(l.HTTP.URL), Dir: filepath.Join(dir, l.KeyID[:16]+"-"+o.watched(l.URL)), FromNewest: o.newest, Stalled: o.stalled,
		}})
	}
	return logs, nil
}

// watched identifies what is watched where: what was read under other patterns has to be
// read again, and what two servers show of a log may differ.
func (o *watchOptions) watched(url string) string {
	h := sha256.New()
	h.Write([]byte(url + "\n"))
	for _, exprs := range [][]string{o.identities, o.issuers, o.sources} {
		exprs = slices.Clone(exprs)
		slices.Sort(exprs)
		_ = json.NewEncoder(h).Encode(slices.Compact(exprs))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// alarmLines is the sink that prints alarms for people.
type alarmLines struct{ w io.Writer }

// Report implements monitor.Sink.
func (l alarmLines) Report(_ context.Context, alarms []monitor.Alarm) error {
	var out strings.Builder
	for _, a := range alarms {
		colour := red
		if a.Kind == monitor.Recovered || a.Kind == monitor.Forged {
			colour = faint
		}
		fmt.Fprintf(&out, "%s %s %s: %s\n", a.Time.Format("2006-01-02 15:04:05Z"), paint(l.w, colour, string(a.Kind)), printable.Text(a.Log), printable.Text(a.Why))
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(&out, "  %-9s %s\n", name, printable.Text(value))
			}
		}
		line("evidence", strings.Join(a.Evidence, " "))
		if e := a.Entry; e != nil {
			line("signed", strings.Join(e.Digests, " "))
			line("issuer", strings.Join(e.Issuers, " "))
			line("source", strings.Join(e.Sources, " "))
			line("commit", strings.TrimSpace(e.Commit+" "+e.Ref))
			line("run", e.Run)
			line("matched", strings.Join(e.Matched, " "))
		}
	}
	_, err := io.WriteString(l.w, out.String())
	return err
}
