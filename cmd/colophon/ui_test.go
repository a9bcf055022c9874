package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// TestErrorLinesAreIndented: text from a platform cannot imitate the CLI's own output.
func TestErrorLinesAreIndented(t *testing.T) {
	var b strings.Builder
	(&exitError{msg: "it differs:\naccepted\x1b[2J"}).print(&b)
	if got, want := b.String(), "colophon: it differs:\n    accepted�[2J\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExitCodes(t *testing.T) {
	for kind, want := range map[api.Kind]int{
		api.Failure: exitFailure, api.Usage: exitUsage,
		"success": exitFailure, "accepted": exitFailure, "0": exitFailure, "rejected": exitFailure,
	} {
		e := platformExit(&api.Error{Message: "m", Hint: "h", Kind: kind})
		if e.code != want || e.msg != "m" || e.hint != "h" {
			t.Errorf("the kind %q: got %+v, want exit code %d", kind, e, want)
		}
	}
	if err := exitFor(verify.Accepted); err != nil {
		t.Errorf("accepted: got %v", err)
	}
	for outcome, want := range map[verify.Outcome]int{verify.Rejected: exitRejected, verify.Undecided: exitUndecided, -1: exitUndecided, 99: exitUndecided} {
		err := exitFor(outcome)
		if e, ok := errors.AsType[*exitError](err); !ok || e.code != want {
			t.Errorf("outcome %d: got %v, want exit code %d", int(outcome), err, want)
		}
	}
}

// TestUsage: an error from cobra is a usage error, whatever its text. An error from a
// command is not.
func TestUsage(t *testing.T) {
	for _, args := range []string{
		"nonsense", "verify --nonsense", "inspect", "inspect a b", "copy a", "trust nonsense", "release a b", "version a",
		"inspect --provenance --json example.com/a", "inspect --timeout x example.com/a",
	} {
		if got := run(t.Context(), strings.Fields(args)); got != exitUsage {
			t.Errorf("%s: got exit code %d, want %d", args, got, exitUsage)
		}
	}
	c := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return errors.New("accepts nothing") }}
	c.SetArgs(nil)
	if got := execute(t.Context(), c); got != exitFailure {
		t.Errorf("a command that fails: got exit code %d, want %d", got, exitFailure)
	}
}
