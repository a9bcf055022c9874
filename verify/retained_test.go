package verify_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestEvidenceForgetsContent: evidence keeps next to nothing of what strangers attach, however
// large it is, and of whatever form.
func TestEvidenceForgetsContent(t *testing.T) {
	const (
		n    = 8
		size = 4 << 20
		most = 4 << 20 // of n*size
	)
	long, err := json.Marshal(strings.Repeat("x", size))
	if err != nil {
		t.Fatal(err)
	}
	stranger := prooftest.New(t)
	for name, statement := range map[string]func(*scene) string{
		"predicate": func(c *scene) string {
			return `{"_type":"` + attest.StatementType + `","subject":[{"digest":{"sha256":"` + c.r.Image.Digest.Hex + `"}}],"predicateType":"` + attest.PredicateSLSA1 + `","predicate":{"x":` + string(long) + `}}`
		},
		"predicate type": func(c *scene) string {
			return `{"_type":"` + attest.StatementType + `","subject":[{"digest":{"sha256":"` + c.r.Image.Digest.Hex + `"}}],"predicateType":` + string(long) + `,"predicate":{}}`
		},
		"statement type": func(c *scene) string {
			return `{"_type":` + string(long) + `,"subject":[{"digest":{"sha256":"` + c.r.Image.Digest.Hex + `"}}],"predicateType":"` + attest.PredicateSLSA1 + `","predicate":{}}`
		},
		"subject": func(c *scene) string {
			return `{"_type":"` + attest.StatementType + `","subject":[{"digest":{"sha256":` + string(long) + `}}],"predicateType":"` + attest.PredicateSLSA1 + `","predicate":{}}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(prooftest.Kinds...)
			forged := stranger.Sign(c.r.Identity, []byte(statement(c)))
			for range n {
				c.s.Attach(c.r.Image, forged, attest.PredicateSLSA1)
				forged = append(forged, ' ') // another digest
			}
			p := demanded(t, c.wants)
			c.opts.Trust = []*trust.Root{c.p.Root()}
			before := heap()
			ev := verify.Gather(t.Context(), c.s, c.r.Image.Digest.String(), time.Now(), c.opts, verify.Ask{Policies: []policy.Policy{p}})
			if kept := heap() - before; kept > most {
				t.Errorf("%d bundles of %d bytes: the evidence keeps %d bytes, want at most %d", n, len(forged), kept, most)
			}
			if v := ev.Verdicts()[0]; v.Outcome != verify.Accepted {
				t.Errorf("got %s: %s", v.Outcome, v.Why())
			}
			if v := ev.Verdict(p); v.Outcome != verify.Accepted {
				t.Errorf("asked again: got %s: %s", v.Outcome, v.Why())
			}
		})
	}
}

// heap returns how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
