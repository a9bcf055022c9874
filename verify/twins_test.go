package verify

import (
	"fmt"
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// TestTwins: equal policies are judged once. Of a source with many different ones, those past the
// limit are judged by themselves.
func TestTwins(t *testing.T) {
	demand := func(commit int) policy.Policy {
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: policy.AnySource(), Commit: fmt.Sprint(commit)}}}
	}
	var all []policy.Policy
	for i := range maxTwins + 1 {
		all = append(all, demand(i))
	}
	all = append(all, demand(0), demand(maxTwins))
	got := twins(all)
	for i := range maxTwins + 1 {
		if got[i] != i {
			t.Errorf("policy %d is unlike every other one, got the twin %d", i, got[i])
		}
	}
	if got[maxTwins+1] != 0 || got[maxTwins+2] != maxTwins+2 {
		t.Errorf("got %v for a policy within the limit and one past it", got[maxTwins+1:])
	}
}
