package main

import (
	"path/filepath"
	"testing"
)

// TestLoginTakesAFile: what is no client.json is said to be none, and so is what COLOPHON_PLATFORM names.
func TestLoginTakesAFile(t *testing.T) {
	s := newStage(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir := t.TempDir()
	for _, arg := range []string{"http://127.0.0.1:8471", dir, filepath.Join(dir, "missing")} {
		s.run(exitUsage, []string{"login", arg}, "expected the file client.json", arg, "hint: ", "--data")
	}
	t.Setenv("COLOPHON_PLATFORM", filepath.Join(dir, "missing"))
	s.run(exitFailure, []string{"releases"}, "COLOPHON_PLATFORM: open "+dir, "hint: ", "unset it")
}
