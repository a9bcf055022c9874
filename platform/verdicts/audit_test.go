package verdicts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/verify"
)

// Whatever a policy is called and says, its decision can be recorded.
func TestRecord(t *testing.T) {
	s := New(Config{})
	d := &verify.Decision{Outcome: verify.Rejected, Reason: strings.Repeat("why\n", 4000)}
	for range 300 {
		d.Rules = append(d.Rules, verify.RuleDecision{Policy: strings.Repeat("p", 200), Rule: strings.Repeat("r", 200), Outcome: verify.Rejected})
	}
	r := s.Record(audit.KindGate, Answer{Decision: d})
	r.Effect = audit.Refused
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.NewSigner(key, "gate", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Seal(r, time.Now()); err != nil {
		t.Error(err)
	}
	if r.Outcome != audit.Rejected || len(r.Rules) != maxRules {
		t.Errorf("got %s and %d rules", r.Outcome, len(r.Rules))
	}
	a := s.Ask(context.Background(), Question{})
	if got := s.Record(audit.KindAdmission, a); got.Outcome != audit.Undecided || got.Reason.Value == "" {
		t.Errorf("without policies: got %+v", got)
	}
}
