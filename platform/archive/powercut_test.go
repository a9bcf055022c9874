package archive

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
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
	r := rand.New(rand.NewPCG(16, 8))
	cuts := 60
	if os.Getenv("COLOPHON_LONG") == "1" {
		cuts = 3000
	}
	for i := range cuts {
		moment := r.IntN(tr.Len() + 1)
		into := filepath.Join(t.TempDir(), "disk")
		tr.Cut(t, dir, moment, []powercut.Loss{powercut.All, powercut.None, powercut.Some(r)}[i%3], into)
		a, err := Open(Config{Dir: into, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("cut %d, at %d of %d calls: %v", i, moment, tr.Len(), err)
			continue
		}
		for _, text := range tr.Acknowledged(moment) {
			a.wants(t, "sha256:"+sumOf([]byte(text)), []byte(text))
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("cut %d, at %d of %d calls, after %q", i, moment, tr.Len(), tr.Acknowledged(moment))
		}
	}
}
