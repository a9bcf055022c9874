package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// listed is a list for programs.
type listedDistrust struct {
	Issuer  string           `json:"issuer"` // name on this machine, or file
	Problem string           `json:"problem,omitempty"`
	Head    *distrust.Head   `json:"head,omitempty"` // absent: the list was never read
	Entries []listedStanding `json:"entries"`
}

// listedStanding is an entry, and whether it counts here.
type listedStanding struct {
	*distrust.Entry
	LiftedBy *int   `json:"liftedBy,omitempty"` // number of the entry that lifts it
	Ignored  string `json:"ignored,omitempty"`  // why it does not count on this machine
}

func listedOf(k distrust.Known, now time.Time) listedDistrust {
	out := listedDistrust{Issuer: k.Issuer.Name, Problem: k.Problem, Entries: []listedStanding{}}
	if k.List == nil {
		return out
	}
	out.Head = &k.List.Head
	if err := k.List.Counts(now); err != nil && out.Problem == "" {
		out.Problem = err.Error()
	}
	for _, e := range k.List.All() {
		s := listedStanding{Entry: e}
		if by := k.List.Lifted(e.Number); by != nil {
			s.LiftedBy = &by.Number
		}
		if e.Scope != nil {
			if err := k.Issuer.May(e.Scope); err != nil {
				s.Ignored = err.Error()
			}
		}
		out.Entries = append(out.Entries, s)
	}
	return out
}

func newDistrustListCommand() *cobra.Command {
	var o output
	var all bool
	cmd := &cobra.Command{
		Use:   "list [ISSUER|./FILE]",
		Short: "list what is no longer trusted",
		Long: `List reads the lists of this machine's issuers, or one of them, or a FILE, and prints their
entries: number, since when, what is no longer trusted, and why. With --all, also those that
were lifted, and those that lift.

It says of a list if it cannot be read now, has expired, was rolled back or forked; then it
exits with 4. Of a FILE, the signature is not verified.`,
		Example: `  colophon distrust list
  colophon distrust list shop --all
  colophon distrust list -o template='{{range .}}{{range .entries}}{{.reason}}{{end}}{{end}}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runDistrustList(cmd, args, all, o) },
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also entries that were lifted, and those that lift")
	return cmd
}

func runDistrustList(cmd *cobra.Command, args []string, all bool, o output) error {
	now := time.Now()
	known, err := knownLists(cmd.Context(), args, now)
	if err != nil {
		return err
	}
	out, unsure := []listedDistrust{}, false
	for _, k := range known {
		l := listedOf(k, now)
		unsure = unsure || l.Problem != "" && k.Issuer.Signer != nil
		if !all {
			l.Entries = slices.DeleteFunc(l.Entries, func(e listedStanding) bool { return e.Lift != nil || e.LiftedBy != nil })
		}
		out = append(out, l)
	}
	switch {
	case !o.text():
		err = o.print(cmd.OutOrStdout(), out)
	case len(out) == 0:
		printNoIssuer(cmd)
	default:
		err = printLists(cmd.OutOrStdout(), out)
	}
	if unsure {
		return exitWith(verify.Undecided, err)
	}
	return err
}

func knownLists(ctx context.Context, args []string, now time.Time) (distrust.Lists, error) {
	if len(args) == 1 {
		k, err := readList(ctx, args[0], now)
		return distrust.Lists{k}, err
	}
	issuers, dir, err := loadIssuers()
	if err != nil {
		return nil, err
	}
	var opts verify.Options
	if _, err := loadTrust(&opts); err != nil {
		return nil, err
	}
	return follow.New(dir, issuers).Refresh(ctx, now, opts.Trust), nil
}

func printLists(w io.Writer, all []listedDistrust) error {
	for _, l := range all {
		line := l.Issuer
		if l.Head != nil {
			line += fmt.Sprintf(": %s, %d entries, issued %s, expires %s", l.Head.List, l.Head.Entries, trust.FormatTime(l.Head.Issued), trust.FormatTime(l.Head.Expires))
		}
		fmt.Fprintln(w, printable.Text(line))
		if l.Problem != "" {
			fmt.Fprintf(w, "  %s %s\n", paint(w, yellow, "not up to date:"), printable.Text(l.Problem))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, e := range l.Entries {
			what := ""
			switch {
			case e.Lift != nil:
				what = fmt.Sprintf("lifts %d", *e.Lift)
			default:
				what = e.Scope.String()
			}
			why := e.Reason
			switch {
			case e.LiftedBy != nil:
				why += fmt.Sprintf(" (lifted by %d)", *e.LiftedBy)
			case e.Ignored != "":
				why += " (does not count: " + e.Ignored + ")"
			}
			fmt.Fprintf(t, "  %d\t%s\t%s\t%s\n", e.Number, trust.FormatTime(e.Time), cell(what), cell(why))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func newDistrustShowCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show ISSUER|./FILE NUMBER",
		Short: "show one entry of a list",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return usageError("", "NUMBER: expected a number from 0, found %q", args[1])
			}
			now := time.Now()
			k, err := readList(cmd.Context(), args[0], now)
			if err != nil {
				return err
			}
			l := listedOf(k, now)
			if n >= len(l.Entries) {
				return &exitError{code: exitFailure, msg: fmt.Sprintf("%s has %d entries, and none with the number %d", args[0], len(l.Entries), n), hint: "colophon distrust list " + args[0] + " --all"}
			}
			if !o.text() {
				return o.print(cmd.OutOrStdout(), l.Entries[n])
			}
			return printEntry(cmd.OutOrStdout(), l.Entries[n])
		},
	}
	o.flags(cmd)
	return cmd
}

func printEntry(w io.Writer, e listedStanding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, cell(value))
		}
	}
	row("number", strconv.Itoa(e.Number))
	row("time", trust.FormatTime(e.Time))
	row("by", e.By)
	if e.Scope != nil {
		row("no longer trusted", e.Scope.String())
	}
	if e.Lift != nil {
		row("lifts", strconv.Itoa(*e.Lift))
	}
	row("reason", e.Reason)
	row("replace with", e.Replace)
	if e.VEX != nil {
		row("more about it", e.VEX.Format+" "+e.VEX.Digest+" "+e.VEX.URL)
	}
	if e.LiftedBy != nil {
		row("lifted by", strconv.Itoa(*e.LiftedBy))
	}
	row("does not count", e.Ignored)
	return t.Flush()
}

func newDistrustExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export ISSUER FILE",
		Short: "write a verified list to a file, for a mirror or a network without internet",
		Long: `Export reads the list of an issuer, verifies it as every verdict does, and writes its bytes
to FILE. Whoever names the same signer can use the file in place of the URL:
"colophon distrust issuer add NAME FILE". It counts until its head expires.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := readList(cmd.Context(), args[0], time.Now())
			switch {
			case err != nil:
				return err
			case k.Issuer.Signer == nil:
				return usageError("colophon distrust issuer list", "expected the name of an issuer, found the file %s", args[0])
			case k.Problem != "":
				return &exitError{code: exitUndecided, msg: "the list of " + args[0] + " is not up to date: " + k.Problem}
			}
			if err := replaceable("FILE", args[1], ""); err != nil {
				return err
			}
			_, dir, err := loadIssuers()
			if err != nil {
				return err
			}
			raw, err := strict.ReadFile(follow.File(dir, args[0]), distrust.MaxList)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(args[1], raw, os.FileMode(0o644)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s has %d entries and counts until %s\n", printable.Text(args[1]), k.List.Entries, trust.FormatTime(k.List.Expires))
			return nil
		},
	}
}
