// Package await waits in tests, for a condition and never for a time: a machine that is busy may take a hundred times as
// long as one that is idle, and a test that fails then says nothing about the program.
package await

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience is how long a test waits before it fails. Nothing takes as long, also on a busy machine: who waits in
// vain found a fault.
const Patience = 3 * time.Minute

// True waits until ok returns true, or ends the test, which says what did not come true. It asks often at first, and then
// ten times a second.
func True(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(Patience)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		time.Sleep(pause)
	}
}

// Value waits for a value from c, or until c is closed, or ends the test, which says what did not come.
func Value[T any](t testing.TB, what string, c <-chan T) (value T) {
	t.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case value = <-c:
	case <-timer.C:
		t.Fatalf("not within %s: %s", Patience, what)
	}
	return value
}

// Quick runs do until it takes less than limit, or fails the test when its patience ends. A busy machine can make do
// slower, and nothing can make it faster: so one quick run proves that do waits for nothing that takes as long as limit.
func Quick(t testing.TB, what string, limit time.Duration, do func()) {
	t.Helper()
	for end := time.Now().Add(Patience); ; {
		began := time.Now()
		do()
		took := time.Since(began)
		if took < limit || t.Failed() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s took %s, want less than %s: %s", what, took, limit, what)
		}
	}
}

// Background runs run until the test ends, or until stop is called: either ends the context of run, and waits for run, so
// that nothing of it outlives the test's directories. stop returns the error of run, also when it is called again; if the
// test does not call it, an error fails the test.
func Background(t testing.TB, run func(ctx context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	end := sync.OnceValue(func() error { cancel(); return <-ended })
	var asked atomic.Bool
	t.Cleanup(func() {
		t.Helper()
		if err := end(); err != nil && !asked.Load() {
			t.Error(err)
		}
	})
	return func() error { asked.Store(true); return end() }
}
