package verify

import (
	"time"

	"github.com/colophon-build/colophon/policy"
)

// DecideAgain decides as Evidence.DecideAt does, and judges the evidence anew for each alternative.
func DecideAgain(ev *Evidence, sets []*policy.Set, image policy.Image, now time.Time) *Decision {
	later := *ev
	later.now = now
	return decide(sets, asked{image: image, now: now, verdict: later.Verdict, more: later.addFacts})
}
