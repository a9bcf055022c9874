package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

// TestOneCommandIsMade: a command line that begins with a command's name gets that command alone, and
// it is the same as among all others. Any other command line gets all.
func TestOneCommandIsMade(t *testing.T) {
	helpOf := func(root *cobra.Command, args ...string) string {
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append(args, "--help"))
		if code := execute(t.Context(), root); code != exitOK {
			t.Errorf("%q: got exit code %d", args, code)
		}
		return out.String()
	}
	var look func(path []string, c *cobra.Command)
	look = func(path []string, c *cobra.Command) {
		if got, want := helpOf(rootFor(path), path...), helpOf(newRootCommand(), path...); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", path, got, want)
		}
		for _, sub := range c.Commands() {
			look(append(path[:len(path):len(path)], sub.Name()), sub)
		}
	}
	for _, c := range commands {
		made := slices.DeleteFunc(slices.Clone(rootFor([]string{c.name}).Commands()), func(c *cobra.Command) bool {
			return c.Name() == "help" || c.Name() == "completion" // cobra's
		})
		if len(made) != 1 || made[0].Name() != c.name || len(made[0].Aliases) > 0 {
			t.Errorf("%s: got %d commands, the first %q with aliases %q, want it alone and without", c.name, len(made), made[0].Name(), made[0].Aliases)
		}
		look([]string{c.name}, made[0])
	}
	for _, args := range [][]string{nil, {""}, {"--help"}, {"help", "verify"}, {"verfy"}, {"--ca-file", "ca.pem", "verify"}, {"__complete", "verify", ""}, {"man", "."}, {"environment"}} {
		if got := len(rootFor(args).Commands()); got < len(commands) {
			t.Errorf("%q: got %d commands, want all", args, got)
		}
	}
}

// TestMissingFiles: a file that the command line names and that is not there is an error of the command line.
func TestMissingFiles(t *testing.T) {
	s := newStage(t)
	gone := filepath.Join(t.TempDir(), "gone")
	for _, args := range [][]string{
		{"verify", s.image, "--policy", gone}, {"sign", gone, "--key", gone}, {"lint", gone}, {"pin", gone}, {"case", "show", gone},
		{"trust", "add", gone}, {"policy", "convert", gone}, {"sbom", gone}, {"level", gone}, {"inspect", s.image, "--bundle", gone},
	} {
		s.run(exitUsage, args)
	}
}
