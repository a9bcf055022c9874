package await_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// failing is a test that notes why it failed, and ends as Fatalf ends a test.
type failing struct {
	testing.TB
	why string
}

func (f *failing) Helper() {}
func (f *failing) Fatalf(_ string, args ...any) {
	f.why = args[len(args)-1].(string)
	runtime.Goexit()
}

// outcome returns why do failed, or "", and how long it took.
func outcome(t *testing.T, do func(t testing.TB)) (why string, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began, f, ended := time.Now(), &failing{TB: t}, make(chan struct{})
		go func() {
			defer close(ended)
			do(f)
		}()
		<-ended
		why, took = f.why, time.Since(began)
	})
	return why, took
}

// A condition that comes true ends the wait at once; one that does not fails the test when its patience ends.
func TestAwait(t *testing.T) {
	after := func(d time.Duration) func(testing.TB) {
		return func(t testing.TB) {
			began := time.Now()
			await.True(t, "the condition", func() bool { return time.Since(began) >= d })
		}
	}
	value := func(d time.Duration) func(testing.TB) {
		return func(t testing.TB) {
			c := make(chan string, 1)
			time.AfterFunc(d, func() { c <- "value" })
			if got := await.Value(t, "the value", c); got != "value" {
				t.Errorf("got %q", got)
			}
		}
	}
	for name, c := range map[string]struct {
		do  func(testing.TB)
		why string
		in  time.Duration
	}{
		"at once":          {after(0), "", 0},
		"late":             {after(time.Minute), "", time.Minute},
		"never":            {after(time.Hour), "the condition", await.Patience},
		"a value":          {value(time.Minute), "", time.Minute},
		"no value":         {value(time.Hour), "the value", await.Patience},
		"a closed channel": {func(t testing.TB) { c := make(chan int); close(c); await.Value(t, "the end", c) }, "", 0},
	} {
		why, took := outcome(t, c.do)
		if !strings.Contains(why, c.why) || (why == "") != (c.why == "") || took < c.in || took > c.in+200*time.Millisecond {
			t.Errorf("%s: got %q after %s, want %q after %s", name, why, took, c.why, c.in)
		}
	}
}

// What runs in the background has ended when the test has, also if nobody stopped it; its error fails the test, unless
// the test asked for it.
func TestBackground(t *testing.T) {
	for _, c := range []struct {
		name  string
		stops int
		err   error
		fails bool
	}{{"stopped", 2, nil, false}, {"not stopped", 0, nil, false}, {"an error that was asked for", 1, errors.New("refused"), false}, {"an error that nobody sees", 0, errors.New("refused"), true}} {
		t.Run(c.name, func(t *testing.T) {
			f, ended := &ending{TB: t}, false
			stop := await.Background(f, func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(10 * time.Millisecond) // writes its last file
				ended = true
				return c.err
			})
			for range c.stops {
				if err := stop(); err != c.err {
					t.Errorf("stop: got %v, want %v", err, c.err)
				}
			}
			for _, cleanup := range slices.Backward(f.cleanups) {
				cleanup()
			}
			if !ended || f.failed != c.fails {
				t.Errorf("got ended %v, failed %v; want true, %v", ended, f.failed, c.fails)
			}
		})
	}
}

// ending is a test whose end can be played.
type ending struct {
	testing.TB
	cleanups []func()
	failed   bool
}

func (e *ending) Helper()          {}
func (e *ending) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }
func (e *ending) Error(...any)     { e.failed = true }
