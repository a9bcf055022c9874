package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestInstead checks that each command that docs/instead.md names in place of another tool's
// exists, with its flags.
func TestInstead(t *testing.T) {
	text, err := os.ReadFile("../../docs/instead.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, m := range regexp.MustCompile("`colophon ([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		commands++
		words := strings.Fields(m[1])
		if words[0] == "help" || m[1] == "policy convert" {
			continue
		}
		cmd, rest, err := newRootCommand().Find(words)
		if err != nil || !cmd.Runnable() {
			t.Errorf("colophon %s: there is no such command (%v)", m[1], err)
			continue
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("colophon %s: %v", m[1], err)
			continue
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Errorf("colophon %s: %v", m[1], err)
		}
	}
	if commands < 75 {
		t.Errorf("got %d commands, want those of all tables", commands)
	}
}
