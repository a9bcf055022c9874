package test

import (
	"testing"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/linttest"
)

// TestLintFindsNothingHere: what colophon lint demands of others, this repository has, or .colophon.yaml says why not.
func TestLintFindsNothingHere(t *testing.T) {
	r := linttest.Run(t, harness.Root(t), lint.Checkers(&pins.Resolver{Offline: true})...)
	if r.Checked < 50 {
		t.Errorf("%d files were checked, expected at least 50", r.Checked)
	}
	for _, f := range r.Findings {
		t.Errorf("%s: %s: %s [%s]", f.Position, f.Severity, f.Message, f.Rule)
	}
}
