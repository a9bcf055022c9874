package archive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/powercut"
)

// powercutDir is the environment variable with the directory of an archive. If it is set, the test
// binary keeps some pieces of evidence, prints each that is acknowledged, and ends.
const powercutDir = "ARCHIVE_POWERCUT_DIR"

func keepSome(dir string, n int) error {
	a, err := Open(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for i := range n {
		text := fmt.Sprint("piece ", i)
		if _, err := a.keep(context.Background(), api.FormBundle, []byte(text), nil, "sha256:"+sumOf([]byte(text))); err != nil {
			return err
		}
		fmt.Println(text)
	}
	return a.Close()
}

// TestPowerCut: if the power is cut at any moment, and any of what was not synced is lost, the archive
// opens, and everything that was acknowledged is there and found.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powercutDir+"="+dir)
	tr := powercut.Record(t, dir, cmd)
	if n := len(tr.Acknowledged(tr.Len())); n != 40 {
		t.Fatalf("%d pieces were acknowledged", n)
	}
	tr.Cuts(t, dir, 60, rand.New(rand.NewPCG(16, 8)), func(left string, acknowledged []string) error {
		a, err := Open(Config{Dir: left, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		for _, text := range acknowledged {
			a.wants(t, "sha256:"+sumOf([]byte(text)), []byte(text))
		}
		return a.Close()
	})
}
