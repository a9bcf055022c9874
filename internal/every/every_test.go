package every

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestPeriod: the first time is a period away, a slow body misses times, and nothing is yielded
// after the end of the context.
func TestPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		began := time.Now()
		var got []time.Duration
		for range Period(ctx, 10*time.Second) {
			at := time.Since(began)
			if got = append(got, at); at == 20*time.Second {
				time.Sleep(35 * time.Second)
			}
		}
		want := []time.Duration{10, 20, 55, 60, 70, 80, 90}
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v (seconds)", got, want)
		}
		for i := range want {
			if got[i] != want[i]*time.Second {
				t.Errorf("got %v, want %v (seconds)", got, want)
			}
		}
		if at := time.Since(began); at != 95*time.Second {
			t.Errorf("the loop ended after %v, want the end of its context", at)
		}
	})
}

// TestPeriodEnds: a loop that is left stops its ticker, and one whose context is done does nothing.
func TestPeriodEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range Period(t.Context(), time.Second) {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range Period(ctx, time.Nanosecond) {
			t.Error("it yields after the context is done")
		}
	})
}
