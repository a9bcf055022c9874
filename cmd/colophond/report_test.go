package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/usage"
	"github.com/colophon-build/colophon/platform"
)

// TestWrongSettings: settings that are wrong are a usage error in each server, and a file that is missing is not.
func TestWrongSettings(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte(`{"nonsense": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"gate": {2, "upstream: expected https://HOST"}, "witness": {2, "--name and --dir"}, "mirror": {2, "--name and --dir"}, "follow": {2, "--dir"}, "audit": {2, "--config"},
		"gate --log-format x": {2, `log format: got "x"`}, "witness --name w --dir d": {2, "logs: expected the verifier keys"},
		"audit --config BAD":     {2, `there is no member "nonsense"`},
		"gate --config BAD":      {2, `there is no member "nonsense"`},
		"witness --config BAD":   {2, `there is no member "nonsense"`},
		"mirror --config BAD":    {2, `there is no member "nonsense"`},
		"follow --config BAD":    {2, `there is no member "nonsense"`},
		"admission --config BAD": {2, `there is no member "nonsense"`},
		"gate --config NONE":     {1, "no such file"}, "admission --config NONE": {1, "no such file"},
	} {
		root := newRootCommand()
		root.SetArgs(strings.Fields(strings.NewReplacer("BAD", bad, "NONE", filepath.Join(dir, "none")).Replace(line)))
		var out bytes.Buffer
		err := root.ExecuteContext(t.Context())
		if err == nil {
			t.Errorf("%s: started", line)
		} else if code := report(&out, err); code != want.code || !strings.Contains(out.String(), want.says) {
			t.Errorf("%s: got exit code %d and %q, want %d and %q", line, code, &out, want.code, want.says)
		}
	}
}

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
