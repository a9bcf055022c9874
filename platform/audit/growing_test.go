package audit

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/test/needs"
)

// A ledger is verified while writers append to it, in batches and alone, and finds nothing: no tile of another tree, no record
// that another one overtook.
func TestVerifyWhileItGrows(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir(), Segment: 256})
	public, err := files.PublicKey(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	url := serving(t, l)
	r := recording(t, l, url, t.TempDir(), true)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	for range 8 {
		wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := r.Record(context.Background(), verdict(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	grown, rounds := int64(0), 3
	if needs.AskedForLong() {
		rounds = 10
	}
	for n := 0; n < rounds || grown == 0; n++ { // a slow disk may let one be verified between two checkpoints
		from := l.current.Load().Size
		for l.current.Load().Size == from {
			time.Sleep(time.Millisecond)
		}
		report, err := files.VerifyDir(ctx, files.Dir(l.dir), l.verifier, public, time.Minute)
		if err != nil || len(report.Findings) > 0 || len(report.Missing) > 0 {
			t.Fatalf("at %d entries: %v, %v, missing %v", report.Checkpoint.Size, err, report.Findings, report.Missing)
		}
		grown += l.current.Load().Size - report.Checkpoint.Size
	}
	// What is wrong is found all the same, and named.
	full := filepath.Join(l.dir, "tile", "entries", "000")
	for l.current.Load().Size < 256 {
		time.Sleep(time.Millisecond)
	}
	raw, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	raw[100] ^= 1
	if err := os.WriteFile(full, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	report, err := files.VerifyDir(ctx, files.Dir(l.dir), l.verifier, public, time.Minute)
	if err != nil || len(report.Findings) == 0 {
		t.Errorf("a flipped bit: got %v, %v", report.Findings, err)
	}
}

// A record that another one overtakes is not missing; one that never comes is.
func TestVerifyOvertaken(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir()})
	public, err := files.PublicKey(l.Key())
	if err != nil {
		t.Fatal(err)
	}
	w := enrolled(t, l, "gate", "")
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	var lose atomic.Bool
	wait.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			first, second := w.entry(t, verdict(n)), w.entry(t, verdict(n))
			for _, data := range [][]byte{second, first} { // each has a checkpoint of its own
				added, err := l.Append(context.Background(), data)
				if err == nil {
					err = l.Await(context.Background(), added.Index+1)
				}
				if err != nil {
					t.Error(err)
				}
			}
			if lose.Swap(false) {
				w.entry(t, verdict(n))
			}
		}
	})
	verify := func() []files.Missing {
		t.Helper()
		report, err := files.VerifyDir(ctx, files.Dir(l.dir), l.verifier, public, time.Minute)
		if err != nil || len(report.Findings) > 0 {
			t.Fatal(err, report.Findings)
		}
		return report.Missing
	}
	for range 12 {
		for l.current.Load().Size%2 == 1 { // who may write, and pairs: nothing was overtaken
			time.Sleep(time.Millisecond)
		}
		if missing := verify(); len(missing) > 0 {
			t.Fatalf("while records overtake each other: got %v", missing)
		}
	}
	lose.Store(true)
	for lose.Load() {
		time.Sleep(time.Millisecond)
	}
	size := l.current.Load().Size
	if err := l.Await(ctx, size+6); err != nil {
		t.Fatal(err)
	}
	if missing := verify(); len(missing) != 1 || missing[0].From != missing[0].To || missing[0].From%2 != 1 {
		t.Errorf("one is lost: got %v", missing)
	}
}
