package verify

import (
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/provenance"
)

// Whatever the evidence says, the verdict can be recorded: nobody stays out of the ledger with a long name. It names
// the proofs on which it rests, each once.
func TestVerdictRecord(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	long := strings.Repeat("x", 1<<20)
	v := &Verdict{
		Outcome: Rejected, Digest: a, Level: 3,
		Facts: &Facts{Build: &provenance.Facts{Source: "git+https://example.com/" + long, Commit: long, Ref: long, Builder: long}, Signed: []Signed{{Digest: a}, {}, {Digest: b}, {Digest: a}, {Digest: "sha512:" + long}}},
	}
	for range 300 {
		v.Links = append(v.Links, Link{Name: LinkAttestation, Status: Broken, Reason: long})
	}
	v.Decision = &Decision{Outcome: Rejected, Reason: strings.Repeat("<", 1<<20)}
	for range 300 {
		v.Decision.Rules = append(v.Decision.Rules, RuleDecision{Policy: strings.Repeat("<", 200), Rule: strings.Repeat(`"`, 200), Outcome: Rejected})
	}
	r := v.Record(audit.KindVerify)
	if size := sizeOf(r); size > 30<<10 {
		t.Errorf("got a record of %d bytes, want at most 30 KiB", size)
	}
	r.Effect = audit.Refused
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.NewSigner(key, "gate", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal(r, time.Now()); err != nil {
		t.Error(err)
	}
	if !slices.Equal(r.Evidence, []string{a, b}) || r.About.Source != "" || r.About.Commit != "" || len(r.Links) != maxRecordedLinks || r.About.Digest != a {
		t.Errorf("got %+v", r)
	}
	if empty := (&Verdict{}).Record(audit.KindVerify); empty.Outcome != audit.Undecided || empty.Reason.Value == "" {
		t.Errorf("an empty verdict: got %+v", empty)
	}
}
