package operation

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// TestUnitRestartsCrash: the unit does not start a platform again whose configuration is wrong, and does after a crash. A
// program in Go that crashes ends with 2 by itself, as it does at SIGQUIT.
func TestUnitRestartsCrash(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(harness.Root(t), "deploy/systemd/colophond.service"))
	if err != nil {
		t.Fatal(err)
	}
	var never []string
	for line := range strings.Lines(string(unit)) {
		if codes, ok := strings.CutPrefix(strings.TrimSpace(line), "RestartPreventExitStatus="); ok {
			never = strings.Fields(codes)
		}
		if pair, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			name, value, _ := strings.Cut(pair, "=")
			t.Setenv(name, value)
		}
	}
	wrong := filepath.Join(t.TempDir(), "wrong.json")
	if err := os.WriteFile(wrong, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), harness.Bin(t, "colophond"), "serve", "--data", t.TempDir(), "--config", wrong)
	_ = cmd.Run()
	if status := cmd.ProcessState.String(); !slices.Contains(never, strings.TrimPrefix(status, "exit status ")) {
		t.Errorf("a configuration that is wrong: %s is not among %q", status, never)
	}
	p := harness.Start(t)
	p.Signal(syscall.SIGQUIT)
	status, ok := errors.AsType[*exec.ExitError](p.Wait())
	if !ok || slices.Contains(never, strings.TrimPrefix(status.String(), "exit status ")) {
		t.Errorf("after a crash, with %v, the platform is not started again", status)
	}
}
