package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/verify"
)

func newWhyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "why IMAGE|LAYOUT|FILE --source URI",
		Short: "explain why verify does not accept an image, and what to do",
		Long: `Why verifies an image like verify does, with the same flags, and names the likely
causes if it is not accepted: first what is wrong, then the two or three most likely
reasons, each with what to check or the command to run.

Exit codes are those of verify: 0 accepted, 3 rejected, 4 undecided, 2 usage error,
1 failure.`,
		Example: `  colophon why registry.example.com/team/app:v1.2.0 --source git.example.com/team/app
  colophon why registry.example.com/team/app:v1.2.0 --policy policy.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.why = true
			return runVerify(cmd, args, o)
		},
	}
	o.flags(cmd)
	for _, name := range []string{"file", "all-tags", "parallel", "report", "quiet", "explain", "vsa", "verifier", "sign-key", "identity-token-file", "resource"} {
		_ = cmd.Flags().MarkHidden(name)
	}
	return cmd
}

// explained is the answer of why for programs.
type explained struct {
	Image   string         `json:"image"`
	Outcome verify.Outcome `json:"outcome"`
	Link    string         `json:"link,omitempty"`   // the first link that does not hold
	Reason  string         `json:"reason,omitempty"` // of that link
	Likely  []likely       `json:"likely"`           // most likely first; empty if it was accepted
}

// printWhy prints why an image was not accepted.
func (o verifyOptions) printWhy(w io.Writer, v *verify.Verdict) error {
	e := explained{Image: v.Image, Outcome: v.Outcome, Likely: []likely{}}
	if l, ok := v.Fault(); ok {
		e.Link, e.Reason, e.Likely = l.Name, l.Reason, causesOf(v, l)
	}
	if !o.output.text() {
		return o.output.print(w, e)
	}
	mark := outcomeMark(v.Outcome)
	fmt.Fprintf(w, "%s %s\n", paint(w, mark[0], v.Outcome.String()+":"), printable.Text(v.Image))
	if e.Link == "" {
		fmt.Fprintln(w, "every link that you demand holds: see colophon verify")
		return nil
	}
	fmt.Fprintf(w, "  %s %-11s %s\n\n", paint(w, mark[0], mark[1]), e.Link, printable.Text(e.Reason))
	for i, c := range e.Likely {
		fmt.Fprintf(w, "%d. %s\n", i+1, printable.Text(c.Cause))
		if c.Check != "" {
			fmt.Fprintf(w, "   check  %s\n", printable.Text(c.Check))
		}
		if c.Run != "" {
			fmt.Fprintf(w, "   run    %s\n", printable.Text(c.Run))
		}
	}
	return nil
}
