package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/verify"
)

// exitError ends the program with an exit code, a message and a hint what to do.
// The message is empty if the command has already printed everything.
type exitError struct {
	code int
	msg  string
	hint string
}

func (e *exitError) Error() string {
	if e.msg == "" {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.msg
}

func (e *exitError) print(w io.Writer) {
	if e.msg != "" {
		// Indent all lines but the first: text from others cannot imitate ours.
		for i, line := range strings.Split(e.msg, "\n") {
			lead := "colophon: "
			if i > 0 {
				lead = "    "
			}
			fmt.Fprintf(w, "%s%s\n", lead, printable.Text(line))
		}
	}
	printHint(w, e.hint)
}

func printHint(w io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", printable.Text(hint))
	}
}

func usageError(hint, format string, args ...any) error {
	return &exitError{code: exitUsage, msg: fmt.Sprintf(format, args...), hint: hint}
}

// Terminal colours, as SGR parameters.
const (
	green, red, yellow, faint = "32", "31", "33", "2"
)

// paint colours s if w is a terminal and NO_COLOR is not set (no-color.org).
func paint(w io.Writer, sgr, s string) string {
	if os.Getenv("NO_COLOR") != "" || !isTerminal(w) {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

// isTerminal reports whether w is a terminal with colours and cursor movement.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// marks holds the colour and the symbol of each link status.
var marks = map[verify.Status][2]string{
	verify.Holds:    {green, "✓"},
	verify.Broken:   {red, "✗"},
	verify.Absent:   {red, "✗"},
	verify.Unknown:  {yellow, "?"},
	verify.NotAsked: {faint, "·"},
}

// explainer returns how a link is checked. It is nil without --explain.
type explainer func(link string) verify.Explanation

// printVerdict prints the chain, one link per line, and the outcome.
func printVerdict(w io.Writer, v *verify.Verdict, explain explainer) {
	fmt.Fprintln(w, printable.Text(v.Image))
	if v.Digest != "" {
		fmt.Fprintln(w, v.Digest)
	}
	fmt.Fprintln(w)
	printLinks(w, "  ", v.Links, explain)
	for _, c := range v.Unsigned {
		fmt.Fprintf(w, "  %s %-11s %s\n", paint(w, faint, "·"), "unsigned", printable.Text(fmt.Sprintf("%s: %s about %s; it proves nothing", c.Form, c.Type, c.About)))
	}
	if explain != nil {
		printRequirements(w, "  ", v.Level, v.Requirements)
	}
	fmt.Fprintf(w, "\n%s\n", paint(w, outcomeMark(v.Outcome)[0], v.Outcome.String()))
	if v.Decision != nil {
		for _, warning := range v.Decision.Warnings {
			fmt.Fprintf(w, "%s %s\n", paint(w, yellow, "warning:"), printable.Text(warning))
		}
	}
	printDangers(w, v.Dangers)
	printHint(w, v.Hint)
}

// printQuiet prints the name and digest of what was accepted, or why it was not.
func printQuiet(out, errs io.Writer, v *verify.Verdict) {
	if v.Outcome == verify.Accepted {
		fmt.Fprintln(out, printable.Text(withDigest(v.Image, v.Digest)))
		return
	}
	fmt.Fprintf(errs, "colophon: %s: %s: %s\n", printable.Text(v.Image), v.Outcome, printable.Text(v.Why()))
}

// withDigest names exactly one image or file: NAME@DIGEST, without the tag, because not
// all tools read a name that has both. A directory of files has no digest.
func withDigest(name, digest string) string {
	ref, err := oci.ParseReference(name)
	switch {
	case digest == "":
		return name
	case err == nil && ref.Dir == "":
		name = ref.Repository
	case err == nil:
		if head, isTagged := strings.CutSuffix(name, ":"+ref.Tag); ref.Tag != "" && isTagged {
			name = head
		}
		name, _, _ = strings.Cut(name, "@sha256:")
	}
	return name + "@" + digest
}

func printDangers(w io.Writer, dangers []string) {
	for _, d := range dangers {
		fmt.Fprintf(w, "%s %s\n", paint(w, yellow, "dangerous:"), printable.Text(d))
	}
}

// printLinks prints the chain, one link per line.
func printLinks(w io.Writer, indent string, links []verify.Link, explain explainer) {
	for _, l := range links {
		mark, ok := marks[l.Status]
		if !ok {
			mark = marks[verify.Unknown]
		}
		text := l.Claim
		if l.Status != verify.Holds {
			text = l.Reason
		}
		fmt.Fprintf(w, "%s%s %-11s %s\n", indent, paint(w, mark[0], mark[1]), l.Name, printable.Text(text))
		if explain == nil {
			continue
		}
		e := explain(l.Name)
		for _, part := range [][2]string{{"checked", e.Checked}, {"against", e.Against}, {"rule", e.Rule}} {
			fmt.Fprintf(w, "%s    %s %s\n", indent, paint(w, faint, fmt.Sprintf("%-9s", part[0])), printable.Text(part[1]))
		}
	}
}

// printRequirements prints the SLSA Build level, and below it the requirements that
// decide it, one per line.
func printRequirements(w io.Writer, indent string, level int, rs []provenance.Requirement) {
	if len(rs) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s%s\n", indent, levelName(level))
	for _, r := range rs {
		mark := marks[verify.Unknown]
		switch r.Status {
		case provenance.IsMet:
			mark = marks[verify.Holds]
		case provenance.NotMet:
			mark = marks[verify.Broken]
		}
		fmt.Fprintf(w, "%s%s L%d  %-26s  %s\n", indent, paint(w, mark[0], mark[1]), r.Level, r.Name, printable.Text(r.Evidence))
	}
}

func levelName(level int) string {
	if level == 0 {
		return "no SLSA Build level"
	}
	return fmt.Sprintf("SLSA Build L%d", level)
}

// outcomeMark returns the colour and the symbol of an outcome.
func outcomeMark(o verify.Outcome) [2]string {
	switch o {
	case verify.Accepted:
		return marks[verify.Holds]
	case verify.Rejected:
		return marks[verify.Broken]
	}
	return marks[verify.Unknown]
}
