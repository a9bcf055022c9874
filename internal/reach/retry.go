package reach

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	Attempts = 3               // of a request that may be repeated, without those that the server put off
	Patience = 5 * time.Minute // longest that the waits for a server that puts requests off may take together
)

// Retry says how requests to a server are repeated. Its requests must be safe to repeat.
type Retry struct {
	Server  string             // for people: "the registry"
	Pause   time.Duration      // after the first failure; four times as long after the second
	MayPass func(error) bool   // whether a failure may be temporary
	After   func(error) string // header Retry-After of the answer that is this failure, if any
	Jitter  bool               // vary each pause by up to half, for clients that start together
}

// Do calls do again while its failure may be temporary. A server that says when to come back
// (Retry-After, RFC 9110 section 10.2.3) is asked then, as often as it says so within
// Patience and before the deadline of ctx. If the server asks for more time than that, or ctx
// ends, Do returns the last failure at once.
func (r *Retry) Do(ctx context.Context, do func() error) error {
	var waited time.Duration
	for failed := 1; ; {
		err := do()
		if err == nil || ctx.Err() != nil || !r.MayPass(err) {
			return err
		}
		wait, putOff := RetryAfter(r.After(err), time.Now())
		if wait = max(wait, 4*r.Pause); !putOff {
			if failed == Attempts {
				return err
			}
			wait = r.Pause << (2 * (failed - 1))
			if r.Jitter && wait > 0 {
				wait = wait/2 + rand.N(wait)
			}
			failed++
		}
		// Not waited+wait: a date far away is the longest Duration, and the sum would be negative.
		if putOff && (wait > Patience-waited || !inTime(ctx, wait)) {
			return fmt.Errorf("%w; %s asks to wait %s, which is too long", err, r.Server, wait.Round(time.Second))
		}
		waited += wait
		if Sleep(ctx, wait) != nil {
			return fmt.Errorf("%w; %w", err, context.Cause(ctx))
		}
	}
}

// RetryAfter returns how long a header Retry-After asks to wait from now on; ok is false if
// it does not say that.
func RetryAfter(header string, now time.Time) (wait time.Duration, ok bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(header)
	return at.Sub(now), err == nil
}

func inTime(ctx context.Context, wait time.Duration) bool {
	end, ok := ctx.Deadline()
	return !ok || time.Until(end) > wait
}

// Sleep waits for d. It returns the cause of ctx if that ends earlier.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
