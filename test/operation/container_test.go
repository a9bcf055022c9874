package operation

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// TestFirstProcess: serve works as process 1, which it is in a container that has no init.
// There, a role whose parent is process 1 is no orphan.
func TestFirstProcess(t *testing.T) {
	needsRoot(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	p := harness.Reserve(t)
	p.Program = filepath.Join(t.TempDir(), "colophond")
	harness.Write(t, filepath.Dir(p.Program), map[string]string{"colophond": "#!/bin/sh\nexec " + unshare + " --pid --fork --mount-proc --kill-child " + harness.Bin(t, "colophond") + ` "$@"` + "\n"})
	if err := exec.Command("chmod", "+x", p.Program).Run(); err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"--config", harness.Config(t, nil)}
	p.Up()
	if !ready(p) {
		t.Errorf("the platform is not ready: %s", p.Log)
	}
}
