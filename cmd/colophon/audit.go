package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "ask an audit ledger what gates and clusters decided, and verify it",
		Long: `Audit asks and verifies audit ledgers (spec/audit/v1): logs of what was decided about
images, and of what administrators did.

Without --ledger it asks the platform that "colophon login" or COLOPHON_PLATFORM names. The
key of the ledger never comes from the ledger: --key is needed once. This machine remembers
the key and the last checkpoint, and each later checkpoint must extend it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditListCommand(), newAuditGetCommand(), newAuditProveCommand(), newAuditVerifyCommand(), newAuditExportCommand(), newAuditWatchCommand())
	return cmd
}

func newAuditVerifyCommand() *cobra.Command {
	var o output
	var l ledgerOptions
	cmd := &cobra.Command{
		Use:   "verify DIR|FILE|URL --key KEY",
		Short: "find each edited, missing or added byte in a ledger, or verify one proof",
		Long: `Verify reads all files of an audit ledger in a directory: checkpoint, tiles, openings and
segments. It compares each byte with what the checkpoint commits to, verifies the
signature of each record, and names the file and the place of what is wrong.

DIR is the directory "ledger" of colophond audit, or a copy of it. --key is the
verifier key of the ledger, which colophond audit logs at its start.

URL is a ledger that is served: https://HOST. All its files are read and verified, and its
tree must extend the newest tree that this machine has seen; added files are not found. The token
is that of the login, or of --token-file.

FILE is a proof by "colophon audit prove".

Exit codes: 3 if anything is wrong, or a record that its writer numbered is missing.`,
		Example: `  colophon audit verify /var/lib/audit/ledger --key audit.example.com+1a2b3c4d+AaBb…
  colophon audit verify https://audit.example.com --token-file reader.txt
  colophon audit verify record.json --key audit.example.com+1a2b3c4d+AaBb…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runAuditVerify(cmd, args[0], l, o) },
	}
	o.flags(cmd)
	l.flags(cmd, time.Hour)
	_ = cmd.Flags().MarkHidden("ledger") // it is the argument
	return cmd
}

// auditReport is the answer of audit verify.
type auditReport struct {
	Origin   string          `json:"origin"`
	Size     int64           `json:"size"`    // entries of the checkpoint
	Entries  int64           `json:"entries"` // that were read and verified
	Gone     int64           `json:"gone"`    // that retention deleted
	Erased   int64           `json:"erased"`  // whose openings were erased
	Findings []files.Finding `json:"findings"`
	More     int64           `json:"more,omitempty"` // findings that are not listed
	Missing  []files.Missing `json:"missing"`        // numbers of records that writers signed and that the ledger does not have
	Notes    []string        `json:"notes"`
}

// ledgerPatience is how long a ledger that runs may take to write the next checkpoint, before what is wrong under the last
// one is reported.
const ledgerPatience = 3 * time.Second

func runAuditVerify(cmd *cobra.Command, place string, l ledgerOptions, o output) error {
	if strings.HasPrefix(place, "https://") || strings.HasPrefix(place, "http://") {
		ctx, cancel := withTimeout(cmd.Context(), l.timeout)
		defer cancel()
		l.url = place
		ledger, err := l.openLedger(ctx)
		if err != nil {
			return err
		}
		r, err := ledger.verify(ctx, nil)
		if err != nil {
			return ledger.exit(err)
		}
		return newAuditReport(ledger.verifier.Name(), r).finish(cmd.OutOrStdout(), place, o)
	}
	if l.key == "" {
		return usageError("colophond audit logs it at its start", "--key is required: the verifier key of the ledger")
	}
	key, err := note.NewVerifier(l.key)
	if err != nil {
		return usageError("", "--key: %v", err)
	}
	public, err := files.PublicKey(l.key)
	if err != nil {
		return usageError("", "--key: %v", err)
	}
	if err := l.checkWitnesses(); err != nil {
		return err
	}
	st, err := os.Stat(place)
	if err == nil && st.Mode().IsRegular() {
		return verifyAuditProof(cmd, place, key, l, o)
	}
	if err != nil || !st.IsDir() {
		return usageError("", "%s: expected a directory, the file of a proof, or https://HOST", printable.Line(place))
	}
	if _, err := os.Lstat(filepath.Join(place, "checkpoint")); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(filepath.Join(place, "ledger", "checkpoint")); err == nil {
			return usageError("colophon audit verify "+filepath.Join(place, "ledger"), "%s has no checkpoint: what everybody verifies is in ledger/ below it", printable.Line(place))
		}
	}
	if !l.witnesses.None() {
		signed, err := files.Dir(place).Checkpoint(cmd.Context())
		if err == nil {
			err = witnessed(l.witnesses, string(signed), l.key)
		}
		if err != nil {
			return err
		}
	}
	r, err := files.VerifyDir(cmd.Context(), files.Dir(place), key, public, ledgerPatience)
	if err != nil {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("%s could not be read: %v", place, err)}
	}
	return newAuditReport(key.Name(), r).finish(cmd.OutOrStdout(), place, o)
}

// verifyAuditProof verifies a file that audit prove wrote.
func verifyAuditProof(cmd *cobra.Command, path string, key note.Verifier, l ledgerOptions, o output) error {
	raw, err := strict.ReadFile(path, audit.MaxAnswer)
	if err != nil {
		return &exitError{code: exitUndecided, msg: err.Error()}
	}
	var a audit.Answer
	if err := strict.UnmarshalKnown(raw, audit.MaxAnswer, &a); err != nil {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("%s is no proof: %v", path, err)}
	}
	proven, cp, err := a.Verify(audit.Filter{}, key)
	if err != nil {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("%s: %v", path, err)}
	}
	if err := witnessed(l.witnesses, a.Checkpoint, l.key); err != nil {
		return err
	}
	list := auditList{Origin: cp.Origin, Size: cp.Size, Records: []auditRecord{}}
	for _, p := range proven {
		r, err := newAuditRecord(p, true)
		if err != nil {
			return err
		}
		list.Records = append(list.Records, r)
	}
	if !o.text() {
		return o.print(cmd.OutOrStdout(), list)
	}
	for _, r := range list.Records {
		r.print(cmd.OutOrStdout())
	}
	fmt.Fprintf(cmd.OutOrStdout(), "proven: %d records, of %d entries of %s\n", len(list.Records), cp.Size, printable.Line(cp.Origin))
	return nil
}

func newAuditReport(origin string, r *files.Report) auditReport {
	return auditReport{origin, r.Checkpoint.Size, r.Entries, r.Gone, r.Erased, append([]files.Finding{}, r.Findings...), r.More, append([]files.Missing{}, r.Missing...), append([]string{}, r.Notes...)}
}

// finish prints the report, and returns the error with the exit code. place is for people.
func (a auditReport) finish(w io.Writer, place string, o output) error {
	if !o.text() {
		if err := o.print(w, a); err != nil {
			return err
		}
	} else {
		fmt.Fprint(w, a.text())
	}
	if n := int64(len(a.Findings)) + a.More; n > 0 || len(a.Missing) > 0 {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("%s: %d findings, and %d gaps in the numbers of records", place, n, len(a.Missing)), hint: "keep it as it is, and compare it with a backup"}
	}
	return nil
}

// text returns the report for people.
func (a auditReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d entries, %d verified, %d deleted by retention, %d erased\n", printable.Line(a.Origin), a.Size, a.Entries, a.Gone, a.Erased)
	for _, f := range a.Findings {
		fmt.Fprintf(&b, "DAMAGED %s\n", printable.Line(f.String()))
	}
	if a.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", a.More)
	}
	for _, m := range a.Missing {
		fmt.Fprintf(&b, "MISSING records %d to %d of run %s, by %s %s\n", m.From, m.To, m.Run, printable.Line(m.Role), printable.Line(m.Instance))
	}
	for _, n := range a.Notes {
		fmt.Fprintf(&b, "note: %s\n", printable.Line(n))
	}
	return b.String()
}
