package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
)

// auditFilter are the flags that say which records somebody asks for.
type auditFilter struct {
	audit.Filter
	kinds        []string
	since, until string
}

func (f *auditFilter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.kinds, "kind", nil, "only records of this `KIND`, such as gate, admission or distrust; may be repeated")
	flags.StringVar(&f.Role, "role", "", "only what this `ROLE` decided")
	flags.StringVar(&f.Cluster, "cluster", "", "only of this `CLUSTER`")
	flags.StringVar(&f.Namespace, "namespace", "", "only of this `NAMESPACE`")
	flags.StringVar(&f.Policy, "policy", "", "only where a rule of this `POLICY` decided: its name, or sha256:HEX of all policies")
	flags.StringVar(&f.Outcome, "outcome", "", "only this `OUTCOME`; with the name of a policy, the outcome of one of its rules")
	flags.StringVar(&f.Effect, "effect", "", "only verdicts from which this `EFFECT` followed: allowed, refused or none")
	flags.StringVar(&f.Image, "image", "", "only about this `IMAGE`, with its tag or without")
	flags.StringVar(&f.Digest, "digest", "", "only about this `DIGEST`: sha256:HEX")
	flags.StringVar(&f.Commit, "commit", "", "only about images of this `COMMIT`")
	flags.StringVar(&f.Source, "source", "", "only about images of this repository, a `URI`")
	flags.StringVar(&f.Builder, "builder", "", "only about images by this builder, a `URI`")
	flags.StringVar(&f.Basis, "basis", "", "only where policies, trust roots or distrust list have this `DIGEST`")
	flags.StringVar(&f.since, "since", "", "only what was decided at this `TIME` or later: RFC 3339, or a date")
	flags.StringVar(&f.until, "until", "", "only what was decided before this `TIME`")
}

// check completes the filter.
func (f *auditFilter) check() error {
	for _, kind := range f.kinds {
		if !slices.Contains(audit.Kinds(), audit.Kind(kind)) {
			return usageError("", "--kind: expected %s, found %q", strings.Join(kindsOfRecords(), ", "), kind)
		}
		f.Kinds = append(f.Kinds, audit.Kind(kind))
	}
	if f.Outcome != "" && !slices.Contains(audit.Outcomes(), f.Outcome) {
		return usageError("", "--outcome: expected %s, found %q", strings.Join(audit.Outcomes(), ", "), f.Outcome)
	}
	between, err := parseTimes(f.since, f.until)
	f.From, f.To = between.start, between.end
	return err
}

func kindsOfRecords() (names []string) {
	for _, k := range audit.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// auditRecord is a proven record, for programs.
type auditRecord struct {
	Index    int64         `json:"index"`    // of the entry
	ID       string        `json:"id"`       // sha256:HEX of the envelope
	Received time.Time     `json:"received"` // by the clock of the ledger
	Record   *audit.Record `json:"record"`
	Hidden   []string      `json:"hidden,omitempty"` // fields that the record only commits to, and that are not opened here
}

// newAuditRecord describes a record; opened: with the values of hidden fields.
func newAuditRecord(p audit.Proven, opened bool) (auditRecord, error) {
	r := p.Record
	if !opened {
		var err error
		if _, _, r, err = audit.ParseLeaf(p.Leaf.Bytes()); err != nil {
			return auditRecord{}, err
		}
	}
	return auditRecord{p.Index, p.Leaf.ID(), p.Leaf.Received, r, r.Hidden()}, nil
}

// line is the record for people.
func (r auditRecord) line() string {
	x := r.Record
	by := strings.TrimSuffix(x.By.Role+"/"+x.By.Instance, "/")
	outcome := strings.TrimSuffix(x.Outcome+"/"+x.Effect, "/")
	parts := []string{fmt.Sprint(r.Index), x.Time.UTC().Format("2006-01-02 15:04:05Z"), string(x.Kind), outcome, by, cmp.Or(x.About.Image.Value, x.About.Digest)}
	if w := x.Where; !x.Kind.Verdict() && w.Cluster == "" && w.Kind != "" { // an act says what changed
		parts = append(parts, strings.TrimSpace(w.Kind+" "+w.Name.Value))
	} else if where := strings.Trim(x.Where.Cluster+"/"+x.Where.Namespace.Value+"/"+x.Where.Name.Value, "/"); where != "" {
		parts = append(parts, "in "+where)
	}
	if x.By.User.Value != "" {
		parts = append(parts, "by "+x.By.User.Value)
	}
	if x.Reason.Value != "" {
		parts = append(parts, x.Reason.Value)
	}
	for i, p := range parts {
		parts[i] = printable.Line(p)
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "  ")
}

func newAuditListCommand() *cobra.Command {
	var o output
	var l ledgerOptions
	var f auditFilter
	var opened bool
	var before int64
	limit := 100
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list what was decided, with a proof of each record",
		Long: `List asks a ledger for the newest records that all filters allow. It verifies that the
ledger's tree has each of them, and that the tree extends the newest tree that this machine
has seen. Nothing proves that the answer leaves none out: "colophon audit verify" reads all.

Fields that a record hides are shown with --open, unless they were erased.

Exit codes: 3 if the ledger contradicts what it signed; 4 if it could not be read.`,
		Example: `  colophon audit list --kind admission --cluster prod --policy production --outcome accepted \
    --since 2026-11-01 --until 2026-11-02
  colophon audit list --commit 4f2a… --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || before < 0 {
				return usageError("", "--limit: expected 1 or more, found %d; --before: expected 0 or more, found %d", limit, before)
			}
			return runAuditList(cmd, l, f, before, limit, opened, o)
		},
	}
	o.flags(cmd)
	l.flags(cmd, 30*time.Second)
	f.flags(cmd)
	cmd.Flags().BoolVar(&opened, "open", false, "show the values of hidden fields")
	cmd.Flags().IntVar(&limit, "limit", limit, "stop after `N` records")
	cmd.Flags().Int64Var(&before, "before", 0, "only entries before this `INDEX`; what --limit left out goes on there")
	return cmd
}

// auditList is the answer of audit list.
type auditList struct {
	Ledger  string        `json:"ledger"` // URL
	Origin  string        `json:"origin"`
	Size    int64         `json:"size"` // entries of the checkpoint that proves the records
	Records []auditRecord `json:"records"`
	Before  *int64        `json:"before,omitempty"` // of --before, for the next ones; missing: the ledger says that there are no others
}

func runAuditList(cmd *cobra.Command, l ledgerOptions, f auditFilter, before int64, limit int, opened bool, o output) error {
	if err := f.check(); err != nil {
		return err
	}
	ctx, cancel := withTimeout(cmd.Context(), l.timeout)
	defer cancel()
	ledger, err := l.openLedger(ctx)
	if err != nil {
		return err
	}
	list := auditList{Ledger: ledger.url, Origin: ledger.verifier.Name(), Records: []auditRecord{}}
	if before > 0 {
		list.Before = &before
	}
	for {
		proven, more, err := ledger.page(ctx, f.Filter, list.Before, min(limit-len(list.Records), audit.MaxPage))
		if err != nil {
			return ledger.exit(err)
		}
		list.Before, list.Size = nil, ledger.seen.Size
		for _, p := range proven {
			r, err := newAuditRecord(p, opened)
			if err != nil {
				return err
			}
			list.Records = append(list.Records, r)
		}
		if more && len(proven) > 0 {
			list.Before = &proven[len(proven)-1].Index
		}
		if list.Before == nil || len(list.Records) >= limit {
			break
		}
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), list)
	}
	list.print(cmd.OutOrStdout())
	return nil
}

// page asks for the newest records before an entry; nil: for the newest of all.
func (l *auditLedger) page(ctx context.Context, f audit.Filter, before *int64, limit int) (proven []audit.Proven, more bool, err error) {
	raw, err := json.Marshal(f)
	if err != nil {
		return nil, false, err
	}
	query := url.Values{"filter": {string(raw)}, "limit": {fmt.Sprint(limit)}}
	if before != nil {
		query.Set("before", fmt.Sprint(*before))
	}
	a, proven, err := l.ask(ctx, "?"+query.Encode(), f)
	if err != nil {
		return nil, false, err
	}
	if len(proven) > limit {
		return nil, false, fmt.Errorf("expected at most %d records, found %d", limit, len(proven))
	}
	if before != nil && len(proven) > 0 && proven[0].Index >= *before {
		return nil, false, fmt.Errorf("expected records before entry %d, found entry %d", *before, proven[0].Index)
	}
	return proven, a.More, nil
}

func (l auditList) print(w io.Writer) {
	for _, r := range l.Records {
		fmt.Fprintln(w, r.line())
	}
	more := "the ledger says that there are no others"
	if l.Before != nil {
		more = fmt.Sprintf("and others: go on with --before %d", *l.Before)
	}
	fmt.Fprintf(w, "%d records, each proven, of %d entries of %s; %s\n", len(l.Records), l.Size, printable.Line(l.Origin), more)
}

func newAuditWatchCommand() *cobra.Command {
	var l ledgerOptions
	var f auditFilter
	var opened, lines, once bool
	from, every := int64(-1), 5*time.Second
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "print records as they come, each proven",
		Long: `Watch asks a ledger again and again, and prints the new records that all filters allow,
the oldest first. Each record is proven, and each tree extends the one before.

It ends when it is interrupted, or when the ledger contradicts what it signed. A ledger
that does not answer is asked again.

Exit codes: 3 if the ledger contradicts what it signed; with --once, 4 if it could not be read.`,
		Example: `  colophon audit watch --outcome rejected
  colophon audit watch --from 0 --once --json > records.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < time.Second {
				return usageError("", "--every: expected 1s or longer, found %s", every)
			}
			if err := f.check(); err != nil {
				return err
			}
			ledger, err := l.openLedger(cmd.Context())
			if err != nil {
				return err
			}
			w := &auditWatch{ledger: ledger, filter: f.Filter, next: from, opened: opened, json: lines, most: maxUnseen, timeout: l.timeout, out: cmd.OutOrStdout()}
			return ledger.exit(w.run(cmd.Context(), every, once, cmd.ErrOrStderr()))
		},
	}
	l.flags(cmd, time.Minute)
	f.flags(cmd)
	cmd.Flags().BoolVar(&opened, "open", false, "show the values of hidden fields")
	cmd.Flags().BoolVar(&lines, "json", false, "print records as JSON lines")
	cmd.Flags().BoolVar(&once, "once", false, "end when all records were printed")
	cmd.Flags().Int64Var(&from, "from", from, "begin with the entry at this `INDEX` (default: the first that is recorded from now on)")
	cmd.Flags().Lookup("from").DefValue = "0" // hides it: the help says it in words
	cmd.Flags().DurationVar(&every, "every", every, "ask this often")
	return cmd
}

// auditWatch prints new records.
type auditWatch struct {
	ledger       *auditLedger
	filter       audit.Filter
	next         int64 // index of the first entry that was not looked at; -1: not known yet
	opened, json bool
	most         int // new records of one look
	timeout      time.Duration
	out          io.Writer
}

func (w *auditWatch) run(ctx context.Context, every time.Duration, once bool, errs io.Writer) error {
	for {
		err := w.look(ctx)
		exit, _ := w.ledger.exit(err).(*exitError)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && (once || exit == nil || exit.code != exitUndecided) {
			return err
		}
		if err != nil {
			fmt.Fprintln(errs, printable.Line(err.Error()))
		} else if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// maxUnseen is the limit of new records between two looks of watch, which keeps them in memory.
const maxUnseen = 10_000

// look prints what is new.
func (w *auditWatch) look(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx, w.timeout)
	defer cancel()
	if w.next < 0 { // the newest entry, whatever it is about
		if _, _, err := w.ledger.page(ctx, audit.Filter{}, nil, 1); err != nil {
			return err
		}
		w.next = w.ledger.seen.Size
		return nil
	}
	var unseen []audit.Proven
	var before *int64
	size := int64(0)
	for {
		page, more, err := w.ledger.page(ctx, w.filter, before, audit.MaxPage)
		if err != nil {
			return err
		}
		if before == nil {
			size = w.ledger.seen.Size
		}
		old := slices.IndexFunc(page, func(p audit.Proven) bool { return p.Index < w.next })
		if old >= 0 {
			page, more = page[:old], false
		}
		if unseen = append(unseen, page...); len(unseen) > w.most {
			return usageError("read them with colophon audit list", "more than %d records came since entry %d; begin later, with --from %d", w.most, w.next, unseen[w.most-1].Index)
		}
		if !more || len(page) == 0 {
			break
		}
		before = &page[len(page)-1].Index
	}
	for _, p := range slices.Backward(unseen) {
		r, err := newAuditRecord(p, w.opened)
		if err != nil {
			return err
		}
		if err := w.print(r); err != nil {
			return err
		}
	}
	w.next = max(w.next, size)
	return nil
}

func (w *auditWatch) print(r auditRecord) error {
	if !w.json {
		_, err := fmt.Fprintln(w.out, r.line())
		return err
	}
	return json.NewEncoder(w.out).Encode(r)
}
