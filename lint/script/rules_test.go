package script_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/workflow"
	"github.com/colophon-build/colophon/test/linttest"
)

// The examples of scripts are workflows.
func TestRules(t *testing.T) {
	c, in := script.Checker(), workflow.Checker(nil)
	c.Wants = in.Wants
	c.Check = func(ctx context.Context, tree *finding.Tree, f *finding.File) []finding.Finding {
		return slices.DeleteFunc(in.Check(ctx, tree, f), func(f finding.Finding) bool { return !strings.HasPrefix(f.Rule, "script/") })
	}
	linttest.Rules(t, c)
}
