package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/investigate/casefile"
	"github.com/colophon-build/colophon/investigate/report"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func newCaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "case",
		Short: "check and read the case files of colophon investigate",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCaseVerifyCommand(), newCaseShowCommand(), newCaseReportCommand())
	return cmd
}

type caseVerifyOptions struct {
	signer   signerOptions
	root     string
	unsigned bool
	output   output
}

func newCaseVerifyCommand() *cobra.Command {
	var o caseVerifyOptions
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "check a case file on a machine that has seen nothing of it, without a network",
		Long: `Verify checks a case file, a zip or a directory, and asks nobody. It checks the digest of each
member, and who signed the case and when (--key, or --identity and --issuer). It verifies the
evidence again under the trust roots of this machine, or --trust-root, computes the conclusions
and the reports anew, and rejects the case if one of them differs.

For each answer it says how far that goes: "recomputed" from the evidence, or only "said" by
whoever was asked. What was only said rests on whoever signed the case. The layers of an image
are no evidence, so that the link "image" is said too.

Exit codes: 0 accepted, 3 rejected, 4 undecided, 2 usage error, 1 failure.`,
		Example: `  colophon case verify incident.zip --key responders.pub
  colophon case verify incident.zip --identity ada@example.com --issuer https://accounts.example.com --trust-root root.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runCaseVerify(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.signer.Identity, "identity", "", "identity that must have signed the case; needs --issuer")
	f.StringVar(&o.signer.IdentityRegexp, "identity-regexp", "", "regular expression (RE2) that must match the whole identity, in place of --identity")
	f.StringVar(&o.signer.Issuer, "issuer", "", "OIDC issuer that must have authenticated --identity")
	f.StringVar(&o.signer.key, "key", "", "`FILE` with the public key (PEM) that must have signed the case")
	f.BoolVar(&o.unsigned, "unsigned", false, "dangerous: accept a case that nobody signed, so that anybody may have made up what was only said")
	f.StringVar(&o.root, "trust-root", "", "`FILE` with the trust document of a platform, in place of the trust roots on this machine")
	o.output.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("key", "identity", "identity-regexp", "unsigned")
	cmd.MarkFlagsMutuallyExclusive("key", "issuer")
	cmd.MarkFlagsOneRequired("key", "identity", "identity-regexp", "unsigned")
	return cmd
}

// caseVerdict is the JSON of case verify.
type caseVerdict struct {
	Outcome  verify.Outcome `json:"outcome"`
	Reason   string         `json:"reason,omitempty"`
	Manifest string         `json:"manifest,omitempty"` // digest of what is signed
	Signer   string         `json:"signer,omitempty"`   // identity; empty: a key, or nobody
	Signed   []time.Time    `json:"signed,omitempty"`   // when, as logs and timestamp authorities prove it
	LogIndex *int64         `json:"logIndex,omitempty"`
	Line     string         `json:"line,omitempty"` // what the case says
	Answers  []checked      `json:"answers,omitempty"`
}

type checked struct {
	Question string             `json:"question"`
	Result   investigate.Result `json:"result"`
	Why      string             `json:"why,omitempty"`
}

func runCaseVerify(cmd *cobra.Command, path string, o caseVerifyOptions) error {
	if _, err := os.Stat(path); err != nil {
		return usageError("", "%v", err)
	}
	opts := casefile.Options{Now: time.Now(), By: program()}
	var err error
	if opts.Signer, err = o.read(); err != nil {
		return err
	}
	if opts.Roots, err = o.roots(); err != nil {
		return err
	}
	logs := logsIn(opts.Roots)
	opts.Logs = func(name string) (log, index note.Verifier, ok bool) {
		for _, l := range logs {
			if l.URL == name {
				index, err := l.index(indexOptions{})
				if err != nil {
					return nil, nil, false
				}
				return l.Verifier, index.key, true
			}
		}
		return nil, nil, false
	}
	r := casefile.Verify(cmd.Context(), path, opts)
	v := caseVerdict{Outcome: r.Outcome, Reason: r.Reason, Manifest: r.Manifest}
	if r.Signed != nil {
		v.Signer, v.Signed = r.Signed.Identity.SubjectAlternativeName, r.Signed.Times
		if r.Signed.Index >= 0 {
			v.LogIndex = &r.Signed.Index
		}
	}
	if r.Case != nil {
		v.Line = r.Case.Conclusion.Line
	}
	for _, x := range r.Checked {
		v.Answers = append(v.Answers, checked{string(x.ID), x.Result, x.Why})
	}
	if o.output.text() {
		v.print(cmd)
	} else {
		err = o.output.print(cmd.OutOrStdout(), v)
	}
	return exitWith(r.Outcome, err)
}

// read returns who must have signed; nil with --unsigned.
func (o caseVerifyOptions) read() (*bundle.Signer, error) {
	if o.unsigned {
		return nil, nil
	}
	d, err := o.signer.read()
	if err != nil {
		return nil, err
	}
	s, err := d.Signer()
	if err != nil {
		return nil, usageError("", "%v", err)
	}
	expected := verify.SignerOf(s)
	return &expected, nil
}

// roots returns the trust roots that count.
func (o caseVerifyOptions) roots() ([]*trust.Root, error) {
	if o.root == "" {
		var opts verify.Options
		_, err := loadTrust(&opts)
		return opts.Trust, err
	}
	raw, err := strict.ReadFile(o.root, limits.TrustRoot)
	if err != nil {
		return nil, usageError("", "--trust-root: %v", err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		return nil, usageError("expected the document that a platform serves at /.well-known/colophon.json", "--trust-root: %s: %v", o.root, err)
	}
	return []*trust.Root{r}, nil
}

func (v caseVerdict) print(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	colour := map[verify.Outcome]string{verify.Accepted: green, verify.Rejected: red, verify.Undecided: yellow}[v.Outcome]
	fmt.Fprint(w, paint(w, colour, v.Outcome.String()))
	if v.Reason != "" {
		fmt.Fprintf(w, ": %s", printable.Line(v.Reason))
	}
	fmt.Fprintln(w)
	if v.Line != "" {
		fmt.Fprintf(w, "the case says: %s\n", printable.Line(v.Line))
	}
	if len(v.Signed) > 0 || v.LogIndex != nil {
		fmt.Fprintf(w, "signed by %s", printable.Line(cmp.Or(v.Signer, "the key given")))
		for _, t := range v.Signed {
			fmt.Fprintf(w, ", %s", t.UTC().Format("2006-01-02 15:04:05Z"))
		}
		if v.LogIndex != nil {
			fmt.Fprintf(w, ", log entry %d", *v.LogIndex)
		}
		fmt.Fprintln(w)
	}
	for _, a := range v.Answers {
		fmt.Fprintf(w, "  %-13s %-12s %s\n", printable.Line(a.Question), a.Result, printable.Line(a.Why))
	}
}

func newCaseShowCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "print a case as investigate printed it",
		Long: `Show prints the case in a case file. It checks the digests of the members, and neither who
signed the case nor whether it is true: see "colophon case verify".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := openCase(cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			if !o.text() {
				return o.print(cmd.OutOrStdout(), c)
			}
			printCase(cmd.OutOrStdout(), c, "")
			printHint(cmd.ErrOrStderr(), "nothing of it was verified: colophon case verify "+args[0])
			return nil
		},
	}
	o.flags(cmd)
	return cmd
}

// program names this program in cases.
func program() string { return "colophon " + version }

// openCase reads a case whose conclusions follow from its answers. Another version may have drawn
// others from them: then those of this version take their place.
func openCase(stderr io.Writer, path string) (*investigate.Case, string, error) {
	m, err := casefile.Open(path)
	if err != nil {
		return nil, "", err
	}
	c, _, err := m.Case()
	if err != nil {
		return nil, "", err
	}
	if err := investigate.CheckConclusion(c); err != nil {
		if c.By == program() {
			return nil, "", err
		}
		printHint(stderr, fmt.Sprintf("%s made this case and concluded otherwise; these are the conclusions of %s from its answers", c.By, program()))
		c.Conclusion = investigate.Conclude(c)
	}
	return c, casefile.Digest(m[casefile.ManifestName]), nil
}

func newCaseReportCommand() *cobra.Command {
	var kind string
	var o output
	cmd := &cobra.Command{
		Use:   "report FILE --kind early|72h|final",
		Short: "draft a report of the Cyber Resilience Act from a case",
		Long: `Report fills a draft of the report that Article 14(4) of the Cyber Resilience Act, Regulation
(EU) 2024/2847, asks of a manufacturer about a severe incident: the early warning (24 hours), the
notification (72 hours) or the final report (a month later). A person must check, complete and
send it: what the case cannot know is marked TO FILL IN. It is no legal advice.

The draft is Markdown, or JSON with --json. Verify the case first.`,
		Example: `  colophon case report incident.zip --kind early > early-warning.md`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, manifest, err := openCase(cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			d, err := report.CRA(c, report.Kind(kind), manifest)
			if err != nil {
				return usageError("the kinds are early, 72h and final", "--kind: %v", err)
			}
			if !o.text() {
				return o.print(cmd.OutOrStdout(), d)
			}
			_, err = cmd.OutOrStdout().Write(d.Markdown())
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of report: early, 72h or final")
	_ = cmd.MarkFlagRequired("kind")
	o.flags(cmd)
	return cmd
}
