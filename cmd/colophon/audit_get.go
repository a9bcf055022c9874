package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
)

func newAuditGetCommand() *cobra.Command {
	var o output
	var l ledgerOptions
	var opened bool
	cmd := &cobra.Command{
		Use:   "get INDEX|ID",
		Short: "get one record, with its proof verified",
		Long: `Get asks a ledger for one record, and verifies that the ledger's tree has it and that the
tree extends the newest tree that this machine has seen. INDEX is the number of its entry, from 0;
ID is sha256:HEX as "colophon audit list --json" prints it, 12 hex digits or more.

With --open, the values of hidden fields are shown, unless they were erased.

Exit codes: 3 if the ledger contradicts what it signed; 4 if it could not be read, or says
that it has no such record.`,
		Example: `  colophon audit get 4711
  colophon audit get sha256:8ed52a29b6ee --open --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, p, err := l.getRecord(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r, err := newAuditRecord(*p, opened)
			if err != nil {
				return err
			}
			if !o.text() {
				return o.print(cmd.OutOrStdout(), r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	o.flags(cmd)
	l.flags(cmd, 30*time.Second)
	cmd.Flags().BoolVar(&opened, "open", false, "show the values of hidden fields")
	return cmd
}

// print prints the whole record for people.
func (r auditRecord) print(w io.Writer) {
	x := r.Record
	line := func(name string, values ...string) {
		if value := strings.Join(slices.DeleteFunc(values, func(s string) bool { return s == "" }), " "); value != "" {
			fmt.Fprintf(w, "%-9s %s\n", name, printable.Line(value))
		}
	}
	field := func(f audit.Field) string {
		if f.Hidden != "" {
			return "(hidden)"
		}
		return f.Value
	}
	line("entry", fmt.Sprint(r.Index), r.ID)
	line("decided", x.Time.UTC().Format(time.RFC3339), "received", r.Received.UTC().Format(time.RFC3339))
	line("kind", string(x.Kind))
	line("outcome", x.Outcome, x.Effect)
	line("reason", field(x.Reason))
	line("role", x.By.Role, x.By.Instance)
	line("run", x.By.Run, fmt.Sprint(x.By.Number))
	line("user", field(x.By.User))
	line("image", field(x.About.Image), x.About.Digest)
	line("source", x.About.Source, x.About.Commit, x.About.Ref)
	line("builder", x.About.Builder)
	line("where", x.Where.Cluster, field(x.Where.Namespace), x.Where.Kind, field(x.Where.Name), x.Where.UID)
	line("policies", x.Basis.Policy)
	line("trust", x.Basis.Trust)
	line("distrust", x.Basis.Distrust)
	line("before", x.Basis.Before)
	for _, rule := range x.Rules {
		line("rule", rule.Policy+"/"+rule.Rule, rule.Outcome)
	}
	for _, link := range x.Links {
		line("link", link.Name, link.State)
	}
	for _, e := range x.Evidence {
		line("evidence", e)
	}
	for _, e := range x.Entries {
		line("entries", fmt.Sprintf("%d to before %d", e.From, e.To))
	}
	if x.Writer != nil {
		line("writer", x.Writer.Role, x.Writer.Instance, audit.KeyID(x.Writer.Key))
	}
	if x.Statement != nil {
		line("statement", x.Statement.MediaType, base64.StdEncoding.EncodeToString(x.Statement.Data))
	}
}

func newAuditProveCommand() *cobra.Command {
	var l ledgerOptions
	var opened bool
	cmd := &cobra.Command{
		Use:   "prove INDEX|ID",
		Short: "print a proof of one record that verifies offline",
		Long: `Prove prints one record with the proof that the ledger's tree has it, and the signed
checkpoint of the tree, as JSON (an answer of spec/audit/v1). "colophon audit verify FILE"
verifies it on another machine, with the ledger's key and without a network.

The values of hidden fields are left out unless --open is given.`,
		Example: `  colophon audit prove 4711 > record.json
  colophon audit verify record.json --key audit.example.com+1a2b3c4d+AaBb…`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, _, err := l.getRecord(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !opened {
				a.Records[0].Openings = nil
			}
			o := output{format: "json"}
			return o.print(cmd.OutOrStdout(), a)
		},
	}
	l.flags(cmd, 30*time.Second)
	cmd.Flags().BoolVar(&opened, "open", false, "include the values of hidden fields")
	return cmd
}
