package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/colophon-build/colophon/internal/usage"
	"github.com/colophon-build/colophon/platform"
)

// TestExitCodes: they are those of colophon.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{errors.New("no disk"), 1, "colophond: no disk\n"},
		{fmt.Errorf("x: %w", &usage.Error{Message: "--data is required", Hint: "see colophond serve --help"}), 2, "colophond: x: --data is required\nhint: see colophond serve --help\n"},
		{&platform.ConfigError{Err: errors.New("c.json:1:2: no")}, 2, "colophond: c.json:1:2: no\nhint: colophond check, with the same flags, reads the same and starts nothing\n"},
	} {
		var out bytes.Buffer
		if code := report(&out, c.err); code != c.code || out.String() != c.text {
			t.Errorf("%v: got exit code %d and %q, want %d and %q", c.err, code, &out, c.code, c.text)
		}
	}
}
