package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestDecideAt: evidence answers at a later time as it would if it were gathered then.
func TestDecideAt(t *testing.T) {
	p, s := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(s)
	r.Attach(prooftest.Kinds...)
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
	sets, err := policy.ParseSets([]byte(`apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "**"}]
      enforceFrom: ` + at(10*time.Minute) + `
      exemptions: [{images: [{glob: "**"}], reason: moving, owner: ada, until: ` + at(20*time.Minute) + `}]
      accept: [{built: {source: https://git.example.com/team/lib}}]
    - name: fresh
      images: [{glob: "**"}]
      accept: [{built: {source: https://git.example.com/team/app}}]
      trust: {maxAge: 30m}
`))
	if err != nil {
		t.Fatal(err)
	}
	image, err := policy.ParseImage(s.Name() + "@" + r.Image.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	root := p.Root()
	root.Repository = &trust.Repository{Refreshed: now}
	opts := verify.Options{Trust: []*trust.Root{root}}
	kept := verify.Gather(t.Context(), s, image.Digest, now, opts, verify.AskFor(sets, image))
	if d, again := kept.Decide(sets, image), kept.DecideAt(sets, image, now, verify.With{}); d.Outcome != verify.Accepted || again.Outcome != d.Outcome {
		t.Fatalf("got %s (%s), and %s at the same time", d.Outcome, d.Reason, again.Outcome)
	}
	for later, want := range map[time.Duration]string{0: "", 25 * time.Minute: `rule "app"`, 40 * time.Minute: `rule "app"`} {
		then := now.Add(later)
		anew := verify.Gather(t.Context(), s, image.Digest, then, opts, verify.AskFor(sets, image)).Decide(sets, image)
		got := kept.DecideAt(sets, image, then, verify.With{})
		if got.Outcome != anew.Outcome || got.Reason != anew.Reason || !strings.Contains(got.Reason, want) {
			t.Errorf("after %s: got %s (%s), want %s (%s)", later, got.Outcome, got.Reason, anew.Outcome, anew.Reason)
		}
		for i := range got.Rules {
			if got.Rules[i].Outcome != anew.Rules[i].Outcome {
				t.Errorf("after %s: rule %s: got %s, want %s", later, got.Rules[i].Rule, got.Rules[i].Outcome, anew.Rules[i].Outcome)
			}
		}
	}
	if got := kept.DecideAt(sets[:1], image, now.Add(40*time.Minute), verify.With{}).Rules[1]; got.Outcome == verify.Accepted {
		t.Error("a trust root that was not refreshed for 40 minutes still counts")
	}
}

// TestSize: the estimate is of the order of what evidence takes, also if strangers attach much.
func TestSize(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	p := demanded(t, c.wants)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	gather := func() *verify.Evidence {
		return verify.Gather(t.Context(), c.s, c.r.Image.Digest.String(), time.Now(), c.opts, verify.Ask{Policies: []policy.Policy{p}, Packages: true})
	}
	gather()
	for _, junk := range []int{0, 200} {
		for i := range junk {
			c.s.Attach(c.r.Image, []byte(strings.Repeat("x", 1000+i)), "https://example.com/junk")
		}
		const n = 8
		var all [n]*verify.Evidence
		before := heap()
		for i := range n {
			all[i] = gather()
		}
		each := (heap() - before) / n
		if got := all[n-1].Size(); got < each/2 || got > 8*each {
			t.Errorf("with %d junk items: got %d, and it takes %d", junk, got, each)
		}
	}
}
