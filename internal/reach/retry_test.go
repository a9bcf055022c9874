package reach

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRetry: a failure that may pass is repeated, and one of a server that says when to come
// back as often as it says so, within the patience and the deadline.
func TestRetry(t *testing.T) {
	down, busy, wrong := errors.New("down"), errors.New("busy"), errors.New("wrong")
	for name, tt := range map[string]struct {
		answers []error // the last one stays
		header  string
		within  time.Duration // deadline; 0: none
		want    string        // in the error
		asked   int
		waits   time.Duration
	}{
		"at once":             {answers: []error{nil}, asked: 1},
		"down once":           {answers: []error{down, nil}, asked: 2, waits: time.Second},
		"down":                {answers: []error{down}, want: "down", asked: 3, waits: 5 * time.Second},
		"wrong":               {answers: []error{wrong}, want: "wrong", asked: 1},
		"busy, and says when": {answers: []error{busy, busy, busy, busy, nil}, header: "30", asked: 5, waits: 2 * time.Minute},
		"busy, and says now":  {answers: []error{busy, nil}, header: "0", asked: 2, waits: 4 * time.Second},
		"busy for ever":       {answers: []error{busy}, header: "100", want: "busy; the server asks to wait 1m40s, which is too long", asked: 4, waits: 5 * time.Minute},
		"an hour":             {answers: []error{busy}, header: "3600", want: "1h0m0s, which is too long", asked: 1},
		"past the deadline":   {answers: []error{busy}, header: "20", within: 10 * time.Second, want: "too long", asked: 1},
		"absurd":              {answers: []error{busy}, header: "99999999999999999999", want: "busy", asked: 3, waits: 5 * time.Second},
		"negative":            {answers: []error{busy}, header: "-1", want: "busy", asked: 3, waits: 5 * time.Second},
		"a date in 300 years": {answers: []error{down, busy}, header: "Fri, 31 Dec 9999 23:59:59 GMT", want: "too long", asked: 2, waits: time.Second},
		"a date long ago":     {answers: []error{busy, nil}, header: "Mon, 02 Jan 1995 15:04:05 GMT", asked: 2, waits: 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if tt.within > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.within)
				defer cancel()
			}
			r := Retry{Server: "the server", Pause: time.Second, MayPass: func(err error) bool { return err != wrong }, After: func(err error) string {
				if err == busy {
					return tt.header
				}
				return ""
			}}
			asked, began := 0, time.Now()
			err := r.Do(ctx, func() error {
				asked++
				return tt.answers[min(asked, len(tt.answers))-1]
			})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || asked != tt.asked || time.Since(began) != tt.waits {
				t.Errorf("%s: got %v after %d requests and %s, want %q after %d and %s", name, err, asked, time.Since(began), tt.want, tt.asked, tt.waits)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	r := Retry{MayPass: func(error) bool { return true }, After: func(error) string { return "" }}
	if err := r.Do(ctx, func() error { asked++; cancel(); return down }); err != down || asked != 1 {
		t.Errorf("ended: got %v after %d requests", err, asked)
	}
}

// TestJitter: pauses vary, around those without jitter.
func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			r := Retry{Pause: time.Second, Jitter: true, MayPass: func(error) bool { return true }, After: func(error) string { return "" }}
			began := time.Now()
			r.Do(t.Context(), func() error { return errors.New("down") })
			waited := time.Since(began)
			if waited < 2500*time.Millisecond || waited > 7500*time.Millisecond {
				t.Errorf("waited %s, want 5s with at most half of it more or less", waited)
			}
			seen[waited] = true
		})
	}
	if len(seen) < 2 {
		t.Error("pauses are all the same")
	}
}
