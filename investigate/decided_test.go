package investigate

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

func lists(known ...distrust.Known) Asker {
	return DistrustAsker(func(context.Context, time.Time) (distrust.Lists, error) { return known, nil })
}

// TestDistrusted: an entry about what the proofs show breaks the case, and the advice does not ask for
// what is done.
func TestDistrusted(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.git("tag", "v1.2.0")
	s.release("refs/tags/v1.2.0", commit).Attach(prooftest.Kinds...)
	run := func(known ...distrust.Known) *Case {
		t.Helper()
		in := s.inquiry()
		in.Askers[AskDistrust] = lists(known...)
		c := s.run(in)
		s.recheck(c, in.Evidence)
		return c
	}
	if a := run().Answer(AskDistrust); a.Outcome != NotAsked || !strings.Contains(a.Why, "issuer add") {
		t.Errorf("without an issuer: got %+v", a)
	}
	digest := run().Subject.Digest
	for what, c := range map[string]struct {
		scope distrust.Scope
		want  State
	}{
		"the digest":     {distrust.Scope{Digest: digest}, Broken},
		"the commit":     {distrust.Scope{Commit: commit}, Broken},
		"another commit": {distrust.Scope{Commit: prooftest.Tree}, Whole},
		"the builder":    {distrust.Scope{Builder: prooftest.Builder, Wide: true}, Broken},
	} {
		issuer := distrusttest.New(t)
		issuer.Add(c.scope)
		got := run(issuer.Known("shop"))
		if got.Conclusion.State != c.want || (c.want == Broken) != strings.HasPrefix(got.Conclusion.Line, "broken link: distrust: shop distrusts ") {
			t.Errorf("%s: got %s, %q", what, got.Conclusion.State, got.Conclusion.Line)
		}
		if strings.Contains(strings.Join(got.Conclusion.Do, "\n"), "distrust add") {
			t.Errorf("%s: got the advice %q", what, got.Conclusion.Do)
		}
		if c.want == Whole {
			continue
		}
		late := issuer.Known("shop")
		late.Problem = "no route"
		if got := run(late); got.Conclusion.State != Broken || !strings.Contains(strings.Join(got.Conclusion.Open, "\n"), "not searched whole: the list of shop is not up to date: no route") {
			t.Errorf("%s, from a list that cannot be read now: got %q, %q", what, got.Conclusion.Line, got.Conclusion.Open)
		}
		issuer.Lift(0)
		late = issuer.Known("shop")
		late.Problem = "no route"
		if got := run(late); got.Conclusion.State != Undecided || got.Conclusion.Link != string(AskDistrust) {
			t.Errorf("%s, lifted in a list that cannot be read now: got %q", what, got.Conclusion.Line)
		}
		if got := run(issuer.Known("shop")); got.Conclusion.State != Whole {
			t.Errorf("%s, lifted: got %q", what, got.Conclusion.Line)
		}
	}
	if a := run(distrust.Known{Issuer: distrust.Issuer{Name: "far"}, Problem: "no answer"}).Answer(AskDistrust); a.Outcome != Failed || !strings.Contains(a.Why, "far") {
		t.Errorf("a list that was not read: got %+v", a)
	}

	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Commit: commit})
	in := &Inquiry{Subject: Subject{Kind: Commit, Name: commit}, At: s.platform.Now, Evidence: &Evidence{}, Askers: map[ID]Asker{AskDistrust: lists(issuer.Known("shop"))}}
	if c := s.run(in); len(c.Answer(AskDistrust).Facts.Distrust.Entries) != 1 {
		t.Errorf("the commit itself: got %+v", c.Answer(AskDistrust))
	}
}

// TestAdvisedCommand: what evidence chose cannot leave its word in a command.
func TestAdvisedCommand(t *testing.T) {
	const want = `colophon distrust add --identity 'a'\''; rm -rf / #' --reason REASON`
	if got := distrustCommand("--identity", "a'; rm -rf / #"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

type fakeLedger map[string][]Decision

func (fakeLedger) Name() string { return "ledger" }

func (l fakeLedger) Decisions(_ context.Context, f audit.Filter, limit int) ([]Decision, bool, error) {
	all, ok := l[f.Digest+f.Commit+f.Builder]
	if !ok {
		return nil, false, errors.New("another digest")
	}
	return all[:min(len(all), limit)], len(all) > limit, nil
}

// TestDecided: decisions are in the time line; more than a case keeps are counted as left out.
func TestDecided(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.release("refs/heads/main", commit).Attach(prooftest.Kinds...)
	in := s.inquiry()
	digest := s.run(in).Subject.Digest
	at := s.platform.Now.Add(-time.Hour)
	all := []Decision{{Index: 7, Time: at, Kind: "admission", Role: "admission", Outcome: "rejected", Effect: "refused", Digest: digest, Where: "prod/shop/Pod/web"}}
	in.Askers[AskDecided] = LedgerAskers(fakeLedger{digest: all})[AskDecided]
	c := s.run(in)
	s.recheck(c, in.Evidence)
	found := false
	for _, e := range c.Conclusion.Timeline {
		found = found || e.Basis == Said && e.Time.Equal(at) && strings.Contains(e.What, "admission refused prod/shop/Pod/web") && strings.Contains(e.What, "ledger entry 7")
	}
	if !found || c.Conclusion.State != Whole && c.Conclusion.State != Broken || c.Answer(AskDecided).Facts.Decided.More {
		t.Errorf("got %+v, %+v", c.Answer(AskDecided), c.Conclusion.Timeline)
	}
	for range maxDecisions {
		all = append(all, all[0])
		all[len(all)-1].Index += int64(len(all))
	}
	in.Askers[AskDecided] = LedgerAskers(fakeLedger{digest: all})[AskDecided]
	if d := s.run(in).Answer(AskDecided).Facts.Decided; len(d.Records) != maxDecisions || !d.More || !strings.Contains(d.finding(), "older ones were not read") {
		t.Errorf("got %d, more %v", len(d.Records), d.More)
	}
	in.Askers[AskDecided] = LedgerAskers(fakeLedger{})[AskDecided]
	if a := s.run(in).Answer(AskDecided); a.Outcome != Failed {
		t.Errorf("a ledger that does not answer: got %+v", a)
	}
}

// TestDistrustCommandShown: a command that a line would cut or change is not printed.
func TestDistrustCommandShown(t *testing.T) {
	for _, hostile := range []string{"a\nb", "a\x1b[2Jb", "a\u202eb", strings.Repeat("a", maxCommand)} {
		if got := distrustCommand("--identity", hostile); strings.Contains(got, hostile) || !strings.Contains(got, "in the JSON of the case") {
			t.Errorf("%q: got the command %q", hostile, got)
		}
	}
}

// TestExpiredList: a list that has expired leaves open whether there are entries by now; the entries that it has count.
func TestExpiredList(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.release("refs/heads/main", commit).Attach(prooftest.Kinds...)
	issuer := distrusttest.New(t)
	issuer.Now, issuer.Life = func() time.Time { return s.platform.Now.Add(-2 * time.Hour) }, time.Hour
	issuer.Add()
	ask := func() *Case {
		t.Helper()
		in := s.inquiry()
		in.Askers[AskDistrust] = lists(issuer.Known("shop"))
		c := s.run(in)
		s.recheck(c, in.Evidence)
		return c
	}
	const open = "not searched whole: the list of shop is not up to date: it expired at "
	c := ask()
	if c.Conclusion.State != Undecided || c.Conclusion.Link != string(AskDistrust) || !strings.Contains(strings.Join(c.Conclusion.Open, "\n"), open) {
		t.Errorf("without an entry: got %q, open %q", c.Conclusion.Line, c.Conclusion.Open)
	}
	issuer.Add(distrust.Scope{Commit: commit})
	if c := ask(); c.Conclusion.State != Broken || c.Conclusion.Link != string(AskDistrust) || !strings.Contains(strings.Join(c.Conclusion.Open, "\n"), open) {
		t.Errorf("with an entry: got %q, open %q", c.Conclusion.Line, c.Conclusion.Open)
	}
}

// TestOlderDecisions: what the ledger has beyond what was read is an open question of the case.
func TestOlderDecisions(t *testing.T) {
	for _, more := range []bool{true, false} {
		c := &Case{Subject: Subject{Kind: Commit, Name: prooftest.Commit}, Answers: []Answer{{ID: AskDecided, Question: "Which decisions?", Outcome: Answered, Facts: Facts{Decided: &Decided{More: more}}}}}
		if got := strings.Join(Conclude(c).Open, "\n"); (got == "Which decisions? not searched whole: the ledger has older decisions, which were not read") != more {
			t.Errorf("more %t: got %q", more, got)
		}
	}
}

// TestAdviceForOthers: the advice about what is no image is the command that takes trust in it back, unless a list says so already.
func TestAdviceForOthers(t *testing.T) {
	since := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	until := since.Add(time.Hour)
	for _, c := range []struct {
		subject Subject
		want    string
	}{
		{Subject{Kind: Commit, Name: prooftest.Commit, Source: prooftest.Source}, "distrust add --commit " + prooftest.Commit + " --source " + prooftest.Source + " --reason REASON"},
		{Subject{Kind: Builder, Name: prooftest.Builder, Since: &since, Until: &until}, "distrust add --builder " + prooftest.Builder + " --from 2026-11-20T00:00:00Z --until 2026-11-20T01:00:00Z --reason REASON"},
		{Subject{Kind: Builder, Name: prooftest.Builder}, "distrust add --builder " + prooftest.Builder + " --from TIME --reason REASON"},
		{Subject{Kind: Identity, Name: "a b"}, "distrust add --identity 'a b' --issuer ISSUER --from TIME --reason REASON"},
		{Subject{Kind: Package, Name: "log4j-core@2.14.1"}, "distrust add --package log4j-core@2.14.1 --reason REASON"},
		{Subject{Kind: Base, Name: "sha256:" + strings.Repeat("a", 64)}, "distrust add --base sha256:" + strings.Repeat("a", 64) + " --reason REASON"},
		{Subject{Kind: Fetched, Name: "https://files.example/a"}, "distrust add --fetched https://files.example/a --reason REASON"},
		{Subject{Kind: Host, Name: "builder-1"}, ""},
	} {
		one := &Case{Subject: c.subject, Answers: []Answer{{ID: AskDistrust, Outcome: Answered, Facts: Facts{Distrust: &Distrusted{}}}}}
		got := strings.Join(Conclude(one).Do, "\n")
		if c.want == "" && strings.Contains(got, "distrust add") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.subject.Kind, got, c.want)
		}
		one.Answers[0].Facts.Distrust.Entries = []DistrustedBy{{Issuer: "shop"}}
		if got := strings.Join(Conclude(one).Do, "\n"); strings.Contains(got, "distrust add") {
			t.Errorf("%s is distrusted already: got %q", c.subject.Kind, got)
		}
	}
}

// TestLedgerQuestions: a commit and a builder are asked about by their names, in the time of the subject, and all
// subjects by the digests that are concerned.
func TestLedgerQuestions(t *testing.T) {
	since, until := testTime, testTime.Add(time.Hour)
	for _, c := range []struct {
		subject Subject
		want    []audit.Filter
	}{
		{Subject{Kind: Commit, Name: prooftest.Commit, Since: &since}, []audit.Filter{{Commit: prooftest.Commit, From: since}, {Digest: "sha256:aa", From: since}}},
		{Subject{Kind: Builder, Name: prooftest.Builder, Since: &since, Until: &until}, []audit.Filter{{Builder: prooftest.Builder, From: since, To: until}, {Digest: "sha256:aa", From: since, To: until}}},
		{Subject{Kind: Image}, []audit.Filter{{Digest: "sha256:aa"}}},
		{Subject{Kind: Host, Name: "h", Until: &until}, []audit.Filter{{Digest: "sha256:aa", To: until}}},
	} {
		in := &Inquiry{Subject: c.subject, digests: []string{"sha256:aa"}}
		if got, _ := in.decisions(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.subject.Kind, got, c.want)
		}
	}
	// A rule without provenance let the image in, so that the record names no commit.
	digest := "sha256:" + strings.Repeat("1", 64)
	named := Decision{Index: 3, Time: since, Role: "gate", Kind: "gate", Effect: audit.Allowed, Digest: digest}
	ledger := fakeLedger{prooftest.Commit: {named}, digest: {{Index: 4, Time: since, Role: "admission", Kind: "admission", Effect: audit.Allowed, Digest: digest}, named}}
	askers := LedgerAskers(ledger)
	askers[AskReleases] = func(context.Context, *Inquiry) (Reply, error) {
		return Reply{Facts: Facts{Releases: []Release{{Digest: digest}}}}, nil
	}
	c, err := Run(t.Context(), &Inquiry{Subject: Subject{Kind: Commit, Name: prooftest.Commit}, At: testTime, Evidence: &Evidence{}, Askers: askers})
	if err != nil || len(c.Answer(AskDecided).Facts.Decided.Records) != 2 {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestRebuilders: each rebuilder's newest word is a fact of the case, and no link.
func TestRebuilders(t *testing.T) {
	a := Answer{ID: AskRebuilder, Outcome: Answered, Facts: Facts{Decided: &Decided{Records: []Decision{
		{Who: "debian", Role: "rebuilder", Outcome: "rejected"}, {Who: "debian", Role: "rebuilder", Outcome: "accepted"}, {Role: "rebuilder", Outcome: "accepted"},
	}}}}
	got := findings(&Case{}, a)
	if len(got) != 1 || got[0].Status != verify.NotAsked || got[0].Says != "2 rebuilders recorded what they found: debian: rejected, rebuilder: accepted" {
		t.Errorf("got %+v", got)
	}
	if err := onlyFacts(a); err != nil {
		t.Error(err)
	}
	// A good word about another image, or by another role of the same name, covers no bad one.
	a.Facts.Decided.Records = []Decision{{Who: "debian", Role: "rebuilder", Digest: "sha256:aa", Outcome: "accepted"}, {Who: "debian", Role: "rebuilder", Digest: "sha256:bb", Outcome: "rejected"}, {Who: "debian", Role: "rebuilder", Digest: "sha256:bb", Outcome: "undecided"}}
	if got := findings(&Case{}, a); got[0].Says != "1 rebuilders recorded what they found: debian: accepted, debian: rejected" {
		t.Errorf("got %+v", got)
	}
	a.Facts.Decided.Records = []Decision{{Who: "debian", Role: "gate", Outcome: "accepted"}, {Who: "debian", Role: "rebuilder", Outcome: "rejected"}}
	if got := findings(&Case{}, a); got[0].Says != "2 rebuilders recorded what they found: debian: accepted, debian: rejected" {
		t.Errorf("got %+v", got)
	}
	a.Facts.Decided.Records = nil
	if got := findings(&Case{}, a); got[0].Says != "no rebuilder recorded anything" {
		t.Errorf("got %+v", got)
	}
}

// TestUnreadImage: an image that could not be read is looked for by the digest in its name: whoever must stop it has no
// time to repair the registry first.
func TestUnreadImage(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for name, want := range map[string]int{"registry.example.com/app@" + digest: 1, "registry.example.com/app:v1@" + digest: 1, "registry.example.com/app:v1": 0} {
		in := &Inquiry{Subject: Subject{Kind: Image, Name: name}, At: testTime, Evidence: &Evidence{}}
		in.Askers = map[ID]Asker{
			AskChain: func(context.Context, *Inquiry) (Reply, error) { return Reply{}, errors.New("no route") },
			AskRunning: func(_ context.Context, in *Inquiry) (Reply, error) {
				r := Reply{}
				for _, d := range in.Digests() {
					r.Facts.Running = append(r.Facts.Running, Running{Where: "Pod shop/web", Digest: d})
				}
				return r, nil
			},
		}
		c, err := Run(t.Context(), in)
		if err != nil || len(c.Answer(AskRunning).Facts.Running) != want || (want == 1) != strings.Contains(strings.Join(c.Conclusion.Do, "\n"), "stop what runs: Pod shop/web") {
			t.Errorf("%s: got %+v, do %q, %v", name, c.Answer(AskRunning), c.Conclusion.Do, err)
		}
	}
}

// TestWhereItRan: the records of clusters say where an image ran and what was evicted, and are no decisions to admit it.
func TestWhereItRan(t *testing.T) {
	running := Decision{Index: 5, Kind: "running", Role: "admission", Outcome: "rejected", Effect: "none", Digest: "sha256:aa", Where: "prod/shop"}
	evicting, evicted, kept := running, running, running
	evicting.Effect, evicting.Where = "refused", "prod/shop/Pod/web"
	evicted.Kind, evicted.Outcome, evicted.Effect, evicted.Where = "evict", "done", "", "prod/shop/Pod/web"
	kept.Kind, kept.Outcome, kept.Effect, kept.Where = "evict", "failed", "", "prod/shop/Pod/db"
	d := &Decided{Records: []Decision{kept, evicted, evicting, running, {Kind: "admission", Role: "admission", Outcome: "accepted", Effect: "allowed"}}}
	const want = "5 decisions recorded: 1 allowed, 0 refused; it ran in prod/shop; evicted pods: 1"
	if got := d.finding(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for want, one := range map[string]Decision{
		"admission found that prod/shop runs sha256:aa: rejected (ledger entry 5)":        running,
		"admission decided to evict prod/shop/Pod/web of sha256:aa (ledger entry 5)":      evicting,
		"admission evicted prod/shop/Pod/web of sha256:aa (ledger entry 5)":               evicted,
		"admission tried to evict prod/shop/Pod/db of sha256:aa: failed (ledger entry 5)": kept,
	} {
		if got := one.event(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
