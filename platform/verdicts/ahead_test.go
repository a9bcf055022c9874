package verdicts_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

var down = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })

// TestAhead: what was read ahead is an answer without a registry, for those who may read the image,
// and it is read again before it counts no more.
func TestAhead(t *testing.T) {
	c := newScene(t)
	c.p.CAUntil = c.start.Add(100 * time.Hour)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	pod := c.question(r.Image)
	ahead := pod
	ahead.Ahead = true
	c.expect("ahead", ahead, verify.Accepted)
	c.later(15 * time.Hour)
	if c.expect("ahead again", ahead, verify.Accepted); c.store.Stats().Reads != 1 {
		t.Errorf("got %d readings after 15 hours, want 1", c.store.Stats().Reads)
	}
	c.answer(down)
	if a := c.expect("a pod", pod, verify.Accepted); !a.Known {
		t.Error("the registry was asked")
	}
	c.expect("another tenant", c.question(r.Image, authn.AuthConfig{Username: "other", Password: "secret"}), verify.Undecided)
	c.later(6 * time.Hour)
	c.expect("ahead, the registry is down", ahead, verify.Undecided)
	if a := c.expect("a pod after a failure", pod, verify.Accepted); !a.Known {
		t.Error("what was read ahead in vain took the answer away")
	}
	c.guard.Store(nil)
	for c.expect("ahead after 21 hours", ahead, verify.Accepted); c.store.Stats().Reads == 1; { // the pod's look at news may still go on
		c.expect("ahead after 21 hours", ahead, verify.Accepted)
	}
	c.answer(down)
	c.later(10 * time.Hour)
	if a := c.expect("a pod after 31 hours", pod, verify.Accepted); !a.Known || c.store.Stats().Reads != 2 {
		t.Errorf("got known %v after %d readings, want an answer from the second one", a.Known, c.store.Stats().Reads)
	}
}

// TestAheadOfTrustRoots: where a policy demands fresh trust roots, what was read ahead is read again
// under the roots that were refreshed, and counts as long as those are fresh.
func TestAheadOfTrustRoots(t *testing.T) {
	c := newScene(t)
	c.p.CAUntil = c.start.Add(100 * time.Hour)
	_, r := c.release(prooftest.Kinds...)
	refreshed := func() {
		root := *c.p.Root()
		root.Repository = &trust.Repository{Refreshed: c.time()}
		c.use(strings.Replace(rules, "      accept", "      trust: {maxAge: 2h}\n      accept", 1), &root)
	}
	pod := c.question(r.Image)
	ahead := pod
	ahead.Ahead = true
	refreshed()
	c.expect("ahead", ahead, verify.Accepted)
	c.later(90 * time.Minute)
	refreshed()
	if c.expect("ahead, refreshed", ahead, verify.Accepted); c.store.Stats().Reads != 2 {
		t.Errorf("got %d readings, want 2", c.store.Stats().Reads)
	}
	c.answer(down)
	c.later(90 * time.Minute)
	c.expect("a pod after 3 hours", pod, verify.Accepted)
	c.later(time.Hour)
	c.expect("a pod after 4 hours, without a refresh for 2.5", pod, verify.Undecided)
}
