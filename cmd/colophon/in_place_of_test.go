package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestInPlaceOf checks that each command that docs/sign.md names in place of another tool's
// exists, with its flags.
func TestInPlaceOf(t *testing.T) {
	text, err := os.ReadFile("../../docs/sign.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## In place of\n")
	if !ok {
		t.Fatal("the section is gone")
	}
	commands := 0
	for _, m := range regexp.MustCompile("`colophon ([^`]+)`").FindAllStringSubmatch(section, -1) {
		commands++
		words := strings.Fields(m[1])
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
	if commands < 30 {
		t.Errorf("got %d commands, want those of all tables", commands)
	}
}
