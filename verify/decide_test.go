package verify_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

func decisionText(t testing.TB, d *verify.Decision) string {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range d.Rules {
		for _, a := range r.Alternatives {
			more, err := json.Marshal(a.Verdict)
			if err != nil {
				t.Fatal(err)
			}
			raw = append(append(raw, '\n'), more...)
		}
	}
	return string(raw)
}

func setsOf(t testing.TB, text string) []*policy.Set {
	t.Helper()
	sets, err := policy.ParseSets([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sets
}

// TestDecisionsAreAsJudgedAnew: the verdicts that Decide finds are, to the byte, those that it
// would get if the evidence was judged anew, whatever it is asked for and in which order.
func TestDecisionsAreAsJudgedAnew(t *testing.T) {
	w, now := matrix.Serve(t), time.Now()
	var opts verify.Options
	var err error
	if opts.Trust, err = w.Trust(); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i, c := range w.Cases {
		sets := setsOf(t, string(c.Policy))
		image, err := policy.ParseImage(c.Image)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := oci.ParseReference(c.Image)
		if err != nil {
			t.Fatal(err)
		}
		src, err := ref.Open(oci.RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := src.Resolve(t.Context(), ref.Identifier())
		if err != nil {
			t.Fatal(err)
		}
		image.Digest = d.Digest.String()
		// Beside the rules of another case, and with alternatives that are there twice.
		beside := setsOf(t, string(w.Cases[(i+7)%len(w.Cases)].Policy))
		all := slices.Concat(sets, beside, sets)
		ev := verify.Gather(t.Context(), src, image.Digest, now, opts, verify.AskFor(all, image))
		turned := slices.Clone(all)
		slices.Reverse(turned)
		for name, asked := range map[string][]*policy.Set{"alone": sets, "all": all, "turned": turned, "again": setsOf(t, string(c.Policy))} {
			got, want := decisionText(t, ev.Decide(asked, image)), decisionText(t, verify.DecideAgain(ev, asked, image, now))
			if got != want {
				t.Errorf("%s, %s: got\n%s\nwant\n%s", c.Name, name, got, want)
			}
			for _, later := range []time.Duration{0, time.Minute, 48 * time.Hour, 10_000 * time.Hour, -time.Hour} {
				at := now.Add(later)
				if got, want := decisionText(t, ev.DecideAt(asked, image, at, verify.With{})), decisionText(t, verify.DecideAgain(ev, asked, image, at)); got != want {
					t.Errorf("%s, %s, %s later: got\n%s\nwant\n%s", c.Name, name, later, got, want)
				}
			}
			compared++
		}
	}
	if compared < 400 {
		t.Errorf("compared %d decisions", compared)
	}
}

// TestChangedPolicyIsAnother: a rule that was changed after the evidence was gathered gets no
// verdict of the rule before it.
func TestChangedPolicyIsAnother(t *testing.T) {
	store, opts, _ := gallery(t)
	sets := setsOf(t, setHead+ruleOf("a", "", "team/app"))
	d, err := store.Resolve(t.Context(), "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	image := policy.Image{Name: "reg.example.com/app", Digest: d.Digest.String()}
	ev := verify.Gather(t.Context(), store, image.Digest, time.Now(), opts, verify.AskFor(sets, image))
	if got := ev.Decide(sets, image); got.Outcome != verify.Accepted {
		t.Fatalf("got %v: %s", got.Outcome, got.Reason)
	}
	o := sets[0].Rules[0].Accept[0].Origin.(policy.BuilderProvenance)
	if o.Source, err = policy.ParseSource("git.example.com/team/lib"); err != nil {
		t.Fatal(err)
	}
	sets[0].Rules[0].Accept[0].Origin = o
	if got := ev.Decide(sets, image); got.Outcome != verify.Rejected {
		t.Errorf("got %v, want it rejected", got.Outcome)
	}
}

// TestUncheckedSetsAreUndecided: a set that no parser made, and that Check refuses, never lets an
// image pass: nor does a rule that says nothing about its mode only warn.
func TestUncheckedSetsAreUndecided(t *testing.T) {
	image := policy.Image{Name: "reg.example.com/app", Digest: setDigest}
	good := func() *policy.Set { return setsOf(t, setHead+ruleOf("a", "", "good"))[0] }
	for name, change := range map[string]func(*policy.Set){
		"nothing": func(s *policy.Set) { *s = policy.Set{} },
		"unmatched": func(s *policy.Set) {
			s.Unmatched = ""
		},
		"another word for unmatched": func(s *policy.Set) { s.Unmatched = "Allow" },
		"no mode":                    func(s *policy.Set) { s.Rules[0].Mode = "" },
		"another mode":               func(s *policy.Set) { s.Rules[0].Mode = "Warn" },
		"no alternatives":            func(s *policy.Set) { s.Rules[0].Accept = nil },
	} {
		for outcome, verdict := range map[string]verify.Outcome{"accepted": verify.Accepted, "rejected": verify.Rejected} {
			s := good()
			change(s)
			d := verify.Decide([]*policy.Set{s}, image, time.Now(), func(policy.Policy) *verify.Verdict {
				return &verify.Verdict{Digest: setDigest, Outcome: verdict}
			})
			if d.Outcome != verify.Undecided || !strings.Contains(d.Reason, "did not pass its check") {
				t.Errorf("%s, %s: got %v: %s", name, outcome, d.Outcome, d.Reason)
			}
		}
	}
}

// hundred returns a set of 100 rules about an image, or all but one about others.
func hundred(t testing.TB, about string, source func(i int) string) []*policy.Set {
	rules := setHead
	for i := range 100 {
		rules += strings.Replace(ruleOf(fmt.Sprint("r", i), "", source(i)), "reg.example.com/**", strings.ReplaceAll(about, "N", fmt.Sprint(i)), 1)
	}
	return setsOf(t, rules)
}

// BenchmarkDecide: one image against 100 rules, once its evidence was read for them.
func BenchmarkDecide(b *testing.B) {
	store, opts, _ := gallery(b)
	d, err := store.Resolve(b.Context(), "v1.2.0")
	if err != nil {
		b.Fatal(err)
	}
	image := policy.Image{Name: "reg.example.com/team/app0", Digest: d.Digest.String()}
	same := func(int) string { return strings.TrimPrefix(prooftest.Source, "https://git.example.com/") }
	other := func(i int) string { return fmt.Sprint("team/app", i) }
	for _, tt := range []struct {
		name string
		sets []*policy.Set
	}{
		{"one of 100 is about it", hundred(b, "reg.example.com/team/appN@*", same)},
		{"all are about it, and accept", hundred(b, "reg.example.com/**", same)},
		{"all are about it, with 100 sources", hundred(b, "reg.example.com/**", other)},
	} {
		gather := func() *verify.Evidence {
			return verify.Gather(b.Context(), store, image.Digest, time.Now(), opts, verify.AskFor(tt.sets, image))
		}
		b.Run(tt.name+"/decide", func(b *testing.B) {
			b.ReportAllocs()
			ev := gather()
			for b.Loop() {
				ev.Decide(tt.sets, image)
			}
		})
		b.Run(tt.name+"/decide later", func(b *testing.B) {
			b.ReportAllocs()
			ev := gather()
			for b.Loop() {
				ev.DecideAt(tt.sets, image, time.Now(), verify.With{})
			}
		})
		b.Run(tt.name+"/gather", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				gather()
			}
		})
	}
}
