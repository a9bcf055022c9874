package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/test/powercut"
)

// powercutDir is the environment variable with the directory of a ledger. If it is set, the test
// binary adds entries, many of them together, prints each that is acknowledged, and ends.
const powercutDir = "COLOPHON_TEST_AUDIT_POWERCUT"

func addSome(dir string) error {
	l, err := tryOpen(Config{Dir: dir, Segment: 256})
	if err != nil {
		return err
	}
	t := &testing.T{}
	w := enrolled(t, l, "gate", "")
	for round := range 5 {
		var wait sync.WaitGroup
		for n := range 70 {
			data := w.entry(t, verdict(70*round+n))
			wait.Go(func() {
				if a, err := l.Append(context.Background(), data); err == nil {
					_, _ = os.Stdout.WriteString(a.ID + "\n")
				}
			})
		}
		wait.Wait()
		if err := l.do(context.Background(), l.settle); err != nil {
			return err
		}
	}
	return l.Close()
}

// TestPowerCut: if the power is cut at any moment, and any of what was not synced is lost, the ledger
// opens, has everything that was acknowledged, and verifies.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), powercutDir+"="+dir)
	tr := powercut.Record(t, dir, cmd)
	if n := len(tr.Acknowledged(tr.Len())); n != 350 {
		t.Fatalf("%d entries were acknowledged", n)
	}
	tr.Cuts(t, dir, 60, rand.New(rand.NewPCG(17, 4)), func(left string, ids []string) error { return surviving(t, left, ids) })
}

// surviving fails unless the ledger in dir opens, has these IDs, once each, and verifies.
func surviving(t *testing.T, dir string, ids []string) error {
	l, err := tryOpen(Config{Dir: dir, Segment: 256})
	if err != nil {
		return err
	}
	defer l.Close()
	have := map[string]int{}
	for _, e := range whole(t, l) {
		have[e.Leaf.ID()]++
	}
	for _, id := range ids {
		if have[id] != 1 {
			return fmt.Errorf("%s was acknowledged, and is there %d times", id, have[id])
		}
	}
	if err := l.Close(); err != nil {
		return err
	}
	key, err := note.NewVerifier(l.Key())
	if err != nil {
		return err
	}
	public, err := files.PublicKey(l.Key())
	if err != nil {
		return err
	}
	list, err := files.Dir(l.dir).List()
	if err != nil {
		return err
	}
	report, err := files.Verify(context.Background(), files.Dir(l.dir), key, public, list)
	if err == nil && len(report.Findings) > 0 {
		err = fmt.Errorf("found %v", report.Findings)
	}
	return err
}
