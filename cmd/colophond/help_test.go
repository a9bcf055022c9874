package main

import (
	"bytes"
	"strings"
	"testing"
)

// Help lists each command below a task.
func TestHelpGroups(t *testing.T) {
	for _, c := range newRootCommand().Commands() {
		if c.IsAvailableCommand() && c.GroupID == "" {
			t.Errorf("%s has no group", c.Name())
		}
	}
}

// Shells complete the values of flags.
func TestCompletion(t *testing.T) {
	for words, want := range map[string]string{
		"serve --log-level":  "debug\ninfo\nwarn\nerror\n",
		"check --log-format": "text\njson\n",
		"serve --config":     "json\n:8\n", // names of files that end so
		"api --log-level":    "debug\n",
		"serve --url":        ":4\n", // nothing
	} {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(new(bytes.Buffer))
		root.SetArgs(append(append([]string{"__complete"}, strings.Fields(words)...), ""))
		if err := root.Execute(); err != nil || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: got %q, %v, want %q", words, &out, err, want)
		}
	}
}
