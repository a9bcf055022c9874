package verdicts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/distrusttest"
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

// TestRecordedBasis: a record says by which policies and trust roots it was decided, also if lists of what is no
// longer trusted count.
func TestRecordedBasis(t *testing.T) {
	s := New(Config{})
	l := NewLoader(s, slog.New(slog.DiscardHandler), func() {})
	l.Tell(PolicyDocuments, []Document{{Name: "p", Raw: []byte("apiVersion: " + policy.APIVersion + "\nkind: " + policy.KindPolicy + "\nmetadata: {name: p}\nspec:\n  unmatched: deny\n  rules: []\n")}})
	l.Tell(TrustDocuments, nil)
	for _, lists := range []distrust.Lists{nil, {}, {distrusttest.New(t).Known("shop")}} {
		want := ""
		if lists != nil {
			s.Distrust(lists)
			want = lists.ID()
		}
		a := s.Ask(t.Context(), Question{})
		if r := s.Record(audit.KindGate, a); a.Policies == "" || r.Basis.Policy == "" || r.Basis.Trust == "" || r.Basis.Distrust != want {
			t.Errorf("with %d lists: got the basis %+v of %q", len(lists), r.Basis, a.Policies)
		}
	}
}
