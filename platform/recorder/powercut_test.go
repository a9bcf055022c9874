package recorder

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/test/powercut"
)

// powercutDir is the environment variable with a directory. If it is set, the test binary keeps records in
// a spool there, prints the hash of each that is acknowledged, and ends.
const powercutDir = "COLOPHON_TEST_RECORDER_POWERCUT"

func TestMain(m *testing.M) {
	dir := os.Getenv(powercutDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := spoolSome(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func spoolSome(dir string) error {
	s, err := openSpool(filepath.Join(dir, "spool"), func(_ context.Context, all []sealed) []error {
		return slices.Repeat([]error{errors.New("nobody answers")}, len(all))
	}, func() {}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	signer, err := audit.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), "gate", "", nil)
	if err != nil {
		return err
	}
	for range 30 {
		e, err := signer.Seal(verdict(), time.Now())
		if err == nil {
			err = s.add(e.Marshal())
		}
		if err != nil {
			return err
		}
		fmt.Println(audit.ID(e.Envelope))
	}
	return s.close()
}

// TestPowerCut: if the power is cut at any moment, and any of what was not synced is lost, the spool has
// every record that was kept.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powercutDir+"="+dir)
	tr := powercut.Record(t, dir, cmd)
	if n := len(tr.Acknowledged(tr.Len())); n != 30 {
		t.Fatalf("%d records were kept", n)
	}
	tr.Cuts(t, dir, 200, rand.New(rand.NewPCG(3, 5)), func(left string, kept []string) error {
		sent := map[string]bool{}
		s := &spool{dir: filepath.Join(left, "spool")}
		parts, err := s.parts()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, n := range parts {
			data, err := os.ReadFile(s.path(n))
			if err != nil {
				return err
			}
			for line := range bytes.SplitSeq(data, []byte("\n")) {
				if e, _, _, err := audit.ParseEntry(line); err == nil {
					sent[audit.ID(e.Envelope)] = true
				}
			}
		}
		for _, id := range kept {
			if !sent[id] {
				return fmt.Errorf("%s was kept, and is gone", id)
			}
		}
		return nil
	})
}
