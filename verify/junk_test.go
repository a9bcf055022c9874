package verify_test

import (
	"fmt"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestJunkHidesNoProof: whoever may push attaches what he likes, in any order and
// number, and the proof beside it is found.
func TestJunkHidesNoProof(t *testing.T) {
	stranger := prooftest.New(t)
	for name, junk := range map[string]func(c *scene, i int){
		"files": func(c *scene, i int) {
			c.s.AttachFile(c.r.Image, fmt.Append(nil, "junk ", i), "application/octet-stream")
		},
		"no bundles, with that name": func(c *scene, i int) {
			c.s.Attach(c.r.Image, fmt.Append(nil, "junk ", i), attest.PredicateSLSA1)
		},
		"proofs by a stranger with the builder's name": func(c *scene, i int) {
			c.s.Attach(c.r.Image, stranger.Sign(c.r.Identity, c.r.Statement(attest.PredicateSLSA1)), attest.PredicateSLSA1)
		},
	} {
		c := newScene(t)
		for i := range 520 {
			junk(c, i)
		}
		c.r.Attach(prooftest.Kinds...)
		if v := c.verdict(); v.Outcome != verify.Accepted {
			t.Errorf("%s: got %s: %s", name, v.Outcome, v.Why())
		}
	}
	// Nobody reads without end.
	c := newScene(t)
	for i := range limits.Referrers {
		c.s.AttachFile(c.r.Image, fmt.Append(nil, "junk ", i), "application/octet-stream")
	}
	c.r.Attach(prooftest.Kinds...)
	c.want(verify.Undecided, verify.LinkProvenance, verify.Unknown, "more than")
}
