package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// What a platform says cannot look like what we say.
func TestLinesOfAnErrorAreSetIn(t *testing.T) {
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
		var e *exitError
		if err := exitFor(outcome); !errors.As(err, &e) || e.code != want {
			t.Errorf("outcome %d: got %v, want exit code %d", int(outcome), err, want)
		}
	}
}
