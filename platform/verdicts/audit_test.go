package verdicts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
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
	if r.Outcome != audit.Rejected || len(r.Rules) < 64 {
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

// acts records as recorder.Recorder does: each change once.
type acts struct {
	counts map[string]string
	got    []audit.Record
	fail   error
	failed string // what fails; empty: all
}

func (a *acts) Replace(_ context.Context, name, digest string, act func(string) audit.Record) error {
	before := a.counts[name]
	switch {
	case digest == before:
		return nil
	case a.fail != nil && (a.failed == "" || a.failed == name):
		return a.fail
	}
	a.counts[name] = digest
	a.got = append(a.got, act(before))
	return nil
}

// Other policies and trust roots count only when that is recorded, and the record has the digest that their
// verdicts name. What could not be recorded is tried again.
func TestRecordedPolicies(t *testing.T) {
	s := New(Config{})
	l := NewLoader(s, slog.New(slog.DiscardHandler), nil)
	ledger := &acts{counts: map[string]string{}}
	l.WithActs(ledger)
	named := func(name string) []Document {
		return []Document{{Name: name, Raw: []byte("apiVersion: " + policy.APIVersion + "\nkind: " + policy.KindPolicy + "\nmetadata: {name: " + name + "}\nspec:\n  unmatched: deny\n  rules: []\n")}}
	}
	basis := func() audit.Basis { return s.Record(audit.KindGate, s.Ask(t.Context(), Question{})).Basis }
	l.Tell(PolicyDocuments, named("p"))
	l.Tell(TrustDocuments, nil)
	first := basis()
	if len(ledger.got) != 2 || ledger.got[0].Kind != audit.KindPolicy || ledger.got[0].Basis.Policy != first.Policy || ledger.got[1].Kind != audit.KindTrust || ledger.got[1].Basis.Trust != first.Trust {
		t.Fatalf("got %+v, want that the policies and trust roots of %+v count", ledger.got, first)
	}
	l.Tell(PolicyDocuments, []Document{{Name: "bad", Raw: []byte("no policy")}})
	if len(ledger.got) != 2 {
		t.Errorf("policies that do not count are recorded: %+v", ledger.got[2:])
	}
	l.Tell(PolicyDocuments, nil)
	if _, problem := l.Ready(); len(ledger.got) != 2 || problem != "there is no policy" {
		t.Errorf("what does not count is recorded: %+v, %q", ledger.got[2:], problem)
	}
	l.Tell(PolicyDocuments, named("p"))
	ledger.fail = errors.New("the disk of the audit ledger is full")
	l.Tell(PolicyDocuments, named("q"))
	if now := basis(); now != first {
		t.Errorf("policies count that are not recorded: %+v", now)
	}
	if _, problem := l.Ready(); !strings.Contains(problem, "full") {
		t.Errorf("the problem: got %q", problem)
	}
	l.Retry()
	ledger.fail = nil
	l.Retry()
	if now := basis(); len(ledger.got) != 3 || now.Policy != ledger.got[2].Basis.Policy || ledger.got[2].Basis.Before != first.Policy {
		t.Errorf("got %+v, and %+v counts", ledger.got, now)
	}
}

// If policies are recorded, and the trust roots that come with them are not, neither counts. If the operator takes both
// back, the ledger says so.
func TestRecordedHalf(t *testing.T) {
	s := New(Config{})
	l := NewLoader(s, slog.New(slog.DiscardHandler), nil)
	ledger := &acts{counts: map[string]string{}}
	l.WithActs(ledger)
	named := func(name string) []Document {
		return []Document{{Name: name, Raw: []byte("apiVersion: " + policy.APIVersion + "\nkind: " + policy.KindPolicy + "\nmetadata: {name: " + name + "}\nspec:\n  unmatched: deny\n  rules: []\n")}}
	}
	l.Tell(PolicyDocuments, named("p"))
	l.Tell(TrustDocuments, nil)
	counts := s.Record(audit.KindGate, s.Ask(t.Context(), Question{})).Basis
	ledger.fail, ledger.failed = errors.New("the audit ledger does not answer"), "trust"
	l.Tell(TrustDocuments, []Document{{Name: "root", Raw: prooftest.New(t).Document()}})
	l.Tell(PolicyDocuments, named("q"))
	ledger.failed = ""
	l.Tell(PolicyDocuments, named("p"))
	l.Tell(TrustDocuments, nil)
	ledger.fail = nil
	l.Retry()
	if now := s.Record(audit.KindGate, s.Ask(t.Context(), Question{})).Basis; now != counts || ledger.counts["policies"] != now.Policy || ledger.counts["trust"] != now.Trust {
		t.Errorf("%+v counts, and the ledger says %v", now, ledger.counts)
	}
}

// slow is an audit ledger that does not answer.
type slow struct{ asked, answer chan struct{} }

func (s slow) Replace(context.Context, string, string, func(string) audit.Record) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.answer
	return nil
}

// While new policies wait for the audit ledger, those from before count, and a probe gets its answer.
func TestReadyWhileRecording(t *testing.T) {
	l := NewLoader(New(Config{}), slog.New(slog.DiscardHandler), nil)
	ledger := slow{make(chan struct{}, 1), make(chan struct{})}
	l.WithActs(ledger)
	l.Tell(TrustDocuments, nil)
	told := make(chan struct{})
	go func() {
		l.Tell(PolicyDocuments, []Document{{Name: "p", Raw: []byte("apiVersion: " + policy.APIVersion + "\nkind: " + policy.KindPolicy + "\nmetadata: {name: p}\nspec:\n  unmatched: deny\n  rules: []\n")}})
		close(told)
	}()
	<-ledger.asked
	answered := make(chan bool, 1)
	go func() { ok, _ := l.Ready(); answered <- ok }()
	if await.Value(t, "the answer to a probe, which does not wait for the audit ledger", answered) {
		t.Error("it is ready before any policies count")
	}
	close(ledger.answer)
	<-told
	if ok, problem := l.Ready(); !ok || problem != "" {
		t.Errorf("got %t, %q", ok, problem)
	}
}
