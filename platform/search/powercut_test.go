package search

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/powercut"
)

// powercutDir is the environment variable with the directory of a rig. If it is set, the test binary
// logs and indexes some entries, and ends.
const powercutDir = "COLOPHON_SEARCH_POWERCUT_DIR"

// someEntries prints the content of each entry that the log acknowledged, and each number of entries
// that the index has.
func someEntries(dir string, n int) error {
	r, err := openRig(dir)
	if err != nil {
		return err
	}
	s := New(r.config())
	for i := range n {
		content := fmt.Sprint("entry ", i)
		if err := addTo(r.mux, content); err != nil {
			return err
		}
		fmt.Println(content)
		if err := s.step(context.Background()); err != nil {
			return err
		}
		fmt.Println("indexed", i+1)
		if err := s.save(); err != nil {
			return err
		}
	}
	return r.close()
}

// TestPowerCut: if the power is cut at any moment, and any of what was not synced is lost, the log has
// every acknowledged entry, the index log has every state from which questions were answered, and an
// audit finds nothing wrong. A log that does not start again is right only if it acknowledged nothing.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powercutDir+"="+dir)
	tr := powercut.Record(t, dir, cmd)
	tr.Cuts(t, dir, 40, rand.New(rand.NewPCG(16, 8)), func(left string, acknowledged []string) error { return afterPowerCut(t, left, acknowledged) })
}

func afterPowerCut(t *testing.T, dir string, acknowledged []string) error {
	r, err := openRig(dir)
	if err != nil {
		return err
	}
	defer r.close()
	indexed, entries := int64(0), int64(0)
	for _, line := range acknowledged {
		if n, _ := fmt.Sscanf(line, "indexed %d", &indexed); n == 0 {
			entries++
		}
	}
	signed, err := r.index.Source().Checkpoint(t.Context())
	if indexed > 0 && err != nil {
		return fmt.Errorf("the index log: %w", err)
	}
	s := New(r.config())
	run(t, s, entries)
	a, err := r.audit(t)
	if err != nil || a.Indexed.Size < indexed {
		return fmt.Errorf("audit: got %+v, %v, want at least %d entries; %s", a, err, indexed, signed)
	}
	for _, line := range acknowledged {
		if strings.HasPrefix(line, "indexed") {
			continue
		}
		found, _, err := ask(s, search.Digest, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(line))))
		if err != nil || len(found) != 1 {
			return errors.Join(fmt.Errorf("%s: got the entries %v", line, found), err)
		}
	}
	return nil
}
