package main

import (
	"strings"
	"testing"
)

// What a platform says cannot look like what we say.
func TestLinesOfAnErrorAreSetIn(t *testing.T) {
	var b strings.Builder
	(&exitError{msg: "it differs:\naccepted\x1b[2J"}).print(&b)
	if got, want := b.String(), "colophon: it differs:\n    accepted�[2J\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
