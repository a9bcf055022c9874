package verify

import "github.com/colophon-build/colophon/policy"

// DecideAgain decides as Evidence.Decide does, and judges the evidence anew for each alternative.
func DecideAgain(ev *Evidence, sets []*policy.Set, image policy.Image) *Decision {
	return decide(sets, asked{image: image, now: ev.now, verdict: ev.Verdict, more: ev.addFacts})
}
