package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/policy"
)

func help(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	if code := execute(t.Context(), root); code != exitOK {
		t.Errorf("%q: got exit code %d", args, code)
	}
	return out.String()
}

// TestHelpIsGroupedByTask: each command that a person sees has a task.
func TestHelpIsGroupedByTask(t *testing.T) {
	text := help(t, "--help")
	for _, want := range []string{"Release images:\n  login ", "Decide about images:\n  audit ", "Choose whom to trust:\n  distrust ", "Other:\n  completion ", "Additional help topics:\n  colophon environment "} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q", text, want)
		}
	}
	if strings.Contains(text, "Additional Commands:") {
		t.Errorf("a command has no group:\n%s", text)
	}
}

// TestHelpReads: no line of help is too long for a terminal, and the help of each flag names its default once, and
// in words.
func TestHelpReads(t *testing.T) {
	flags := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Long) {
			if len(line) > 110 {
				t.Errorf("%s: a line of %d columns: %s", cmd.CommandPath(), len(line), line)
			}
		}
		for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
			if flags++; strings.Count(line, "(default") > 1 || strings.Contains(line, "(default [])") || strings.Contains(line, "(default )") {
				t.Errorf("%s: %s", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRootCommand())
	if flags < 500 {
		t.Errorf("got %d flags, want those of all commands", flags)
	}
}

func TestHelpTopics(t *testing.T) {
	for topic, want := range map[string]string{
		"policy":      `"minLevel": 3`,
		"exit-codes":  "4  undecided",
		"environment": "COLOPHON_PLATFORM",
	} {
		if got := help(t, "help", topic); !strings.Contains(got, want) {
			t.Errorf("help %s: got\n%s", topic, got)
		}
	}
	if _, err := policy.Parse([]byte(examplePolicy)); err != nil {
		t.Errorf("the policy in the help: %v", err)
	}
}

// TestVersionsCompare: what is no release has no order.
func TestVersionsCompare(t *testing.T) {
	for _, tt := range []struct {
		ours, theirs, order string
		older               bool
	}{
		{"v1.2.0", "v1.2.0", "same", false},
		{"devel", "devel", "same", false},
		{"v1.2.0", "v1.10.0", "newer", true},
		{"v1.10.0", "v1.2.0", "older", false},
		{"v1.2.0", "v1.2.0-5-gabcdef0", "only releases", false},
		{"v1.2.0-dirty", "v1.3.0", "only releases", false},
		{"v1.2.0", "v2", "only releases", false},
		{"abc", "", "only releases", false},
	} {
		if order, older := compareVersions(tt.ours, tt.theirs); !strings.Contains(order, tt.order) || older != tt.older {
			t.Errorf("%s and %s: got %q, %v", tt.ours, tt.theirs, order, older)
		}
	}
}
