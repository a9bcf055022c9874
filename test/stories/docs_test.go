package stories

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// TestVerifyPage types what docs/verify.md tells a newcomer to, as it stands
// there, at the top of the repository, as somebody who believes nobody yet.
func TestVerifyPage(t *testing.T) {
	root := harness.Root(t)
	harness.Bin(t, "colophon")
	page, err := os.ReadFile(filepath.Join(root, "docs/verify.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 3 {
		t.Fatalf("got %d blocks of commands, want 3: GitHub, Colophon, without a network", len(blocks))
	}
	script := ""
	for _, b := range blocks {
		script += b[1]
	}
	cmd := exec.Command("sh", "-euxc", script)
	cmd.Dir = root
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "NO_COLOR=1"}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\naccepted\n") != len(blocks) {
		t.Errorf("%v\n%s", err, out)
	}
}
