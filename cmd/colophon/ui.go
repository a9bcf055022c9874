package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/colophon-build/colophon/verify"
)

// exitError ends the program with a code, a message and what to do about it.
// Where the message is empty everything has been said already.
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
		fmt.Fprintf(w, "colophon: %s\n", printable(e.msg))
	}
	printHint(w, e.hint)
}

func printHint(w io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", printable(hint))
	}
}

func usageError(hint, format string, args ...any) error {
	return &exitError{code: exitUsage, msg: fmt.Sprintf(format, args...), hint: hint}
}

// isUsage recognises cobra's own complaints, which have no type.
func isUsage(err error) bool {
	for _, prefix := range []string{"unknown command", "accepts ", "requires at least", "required flag", "if any flags in the group"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// Colours of the terminal, as SGR parameters.
const (
	green, red, yellow, faint = "32", "31", "33", "2"
)

// paint colours s where w is a terminal and nobody asked for no colour
// (no-color.org).
func paint(w io.Writer, sgr, s string) string {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	return "\x1b[" + sgr + "m" + s + "\x1b[0m"
}

// marks show a link's status at a glance.
var marks = map[verify.Status][2]string{
	verify.Holds:    {green, "✓"},
	verify.Broken:   {red, "✗"},
	verify.Absent:   {red, "✗"},
	verify.Unknown:  {yellow, "?"},
	verify.NotAsked: {faint, "·"},
}

// printVerdict prints the chain, one link a line, and the outcome.
func printVerdict(w io.Writer, v *verify.Verdict) {
	fmt.Fprintln(w, printable(v.Image))
	if v.Digest != "" {
		fmt.Fprintln(w, v.Digest)
	}
	fmt.Fprintln(w)
	for _, l := range v.Links {
		mark, ok := marks[l.Status]
		if !ok {
			mark = marks[verify.Unknown]
		}
		text := l.Claim
		if l.Status != verify.Holds {
			text = l.Reason
		}
		fmt.Fprintf(w, "  %s %-11s %s\n", paint(w, mark[0], mark[1]), l.Name, printable(text))
	}
	sgr := map[verify.Outcome]string{verify.Accepted: green, verify.Rejected: red}[v.Outcome]
	if sgr == "" {
		sgr = yellow
	}
	fmt.Fprintf(w, "\n%s\n", paint(w, sgr, v.Outcome.String()))
	printHint(w, v.Hint)
}
