package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/internal/printable"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "verify an audit ledger: what gates and clusters decided",
		Long: `Audit verifies audit ledgers (spec/audit/v1): logs of what was decided about images, and
of what administrators did.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditVerifyCommand())
	return cmd
}

func newAuditVerifyCommand() *cobra.Command {
	var o output
	key := ""
	cmd := &cobra.Command{
		Use:   "verify DIR --key KEY",
		Short: "find each edited, missing or added byte in the files of a ledger",
		Long: `Verify reads all files of an audit ledger in a directory: checkpoint, tiles, openings and
segments. It compares each byte with what the checkpoint commits to, verifies the
signature of each record, and names the file and the place of what is wrong.

DIR is the directory "ledger" of colophond audit, or a copy of it. --key is the
verifier key of the ledger, which colophond audit logs at its start.

Exit codes: 3 if anything is wrong, or a record that its writer numbered is missing.`,
		Example: `  colophon audit verify /var/lib/audit/ledger --key audit.example.com+1a2b3c4d+AaBb…`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runAuditVerify(cmd, args[0], key, o) },
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&key, "key", "", "verifier `KEY` of the ledger: ORIGIN+HEX+BASE64")
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

func runAuditVerify(cmd *cobra.Command, dir, vkey string, o output) error {
	if vkey == "" {
		return usageError("colophond audit logs it at its start", "--key is required: the verifier key of the ledger")
	}
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return usageError("", "--key: %v", err)
	}
	public, err := files.PublicKey(vkey)
	if err != nil {
		return usageError("", "--key: %v", err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return usageError("", "%s: expected a directory", printable.Line(dir))
	}
	list, err := files.Dir(dir).List()
	if err != nil {
		return err
	}
	r, err := files.Verify(cmd.Context(), files.Dir(dir), key, public, list)
	if err != nil {
		return &exitError{code: exitUndecided, msg: fmt.Sprintf("%s could not be read: %v", dir, err)}
	}
	a := auditReport{key.Name(), r.Checkpoint.Size, r.Entries, r.Gone, r.Erased, append([]files.Finding{}, r.Findings...), r.More, append([]files.Missing{}, r.Missing...), append([]string{}, r.Notes...)}
	if !o.text() {
		if err := o.print(cmd.OutOrStdout(), a); err != nil {
			return err
		}
	} else {
		fmt.Fprint(cmd.OutOrStdout(), a.text())
	}
	if n := int64(len(a.Findings)) + a.More; n > 0 || len(a.Missing) > 0 {
		return &exitError{code: exitRejected, msg: fmt.Sprintf("%s: %d findings, and %d gaps in the numbers of records", dir, n, len(a.Missing)), hint: "keep this directory as it is, and compare it with a backup"}
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
