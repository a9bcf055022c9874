// Package every does something again and again, until a context is done.
package every

import (
	"context"
	"iter"
	"time"
)

// Period yields the time each time a period of d has passed, until ctx is done. It does not
// yield at once. A loop whose body takes longer than d misses what would have come meanwhile.
func Period(ctx context.Context, d time.Duration) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if ctx.Err() != nil || !yield(now) {
					return
				}
			}
		}
	}
}
