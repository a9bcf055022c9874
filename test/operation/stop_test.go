package operation

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// TestStoppedWhileItStarts: Ctrl-C, which reaches all processes of a terminal, stops a platform that is not
// ready yet, without an error. It starts again after that.
func TestStoppedWhileItStarts(t *testing.T) {
	p := harness.Reserve(t)
	for _, after := range []time.Duration{0, 20, 40, 80, 120, 160, 200, 300} {
		var log harness.Log
		cmd := exec.Command(harness.Bin(t, "colophond"), "serve", "--data", p.Data, "--listen", p.Addr)
		cmd.Stderr = &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := filepath.Join(p.Data, "run", api.PIDFile)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(pid); err == nil {
				break
			}
			if time.Now().After(deadline) {
				syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				t.Fatalf("it announces itself nowhere: %v\n%s", cmd.Wait(), &log)
			}
		}
		time.Sleep(after * time.Millisecond)
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "colophond: ") {
			t.Errorf("Ctrl-C %d ms after the start: got %v\n%s", after, err, &log)
		}
	}
	p.Up()
}
