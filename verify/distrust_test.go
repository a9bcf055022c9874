package verify_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// distrustScene is an image with all its proofs, and an issuer of a list.
type distrustScene struct {
	t      *testing.T
	p      *prooftest.Platform
	store  *prooftest.Store
	r      *prooftest.Release
	issuer *distrusttest.Issuer
}

func newDistrustScene(t *testing.T) *distrustScene {
	c := &distrustScene{t: t, p: prooftest.New(t), store: prooftest.NewStore(t), issuer: distrusttest.New(t)}
	c.r = c.p.Release(c.store)
	more := []attest.ResourceDescriptor{
		{URI: "pkg:docker/debian@12?platform=linux%2Famd64", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}},
		{URI: "https://dl.example.com/tool.tgz", Digest: map[string]string{"sha256": strings.Repeat("cd", 32)}},
	}
	c.r.Provenance.BuildDefinition.ResolvedDependencies = append(c.r.Provenance.BuildDefinition.ResolvedDependencies, more...)
	c.r.SPDX["packages"] = append(c.r.SPDX["packages"].([]map[string]any), map[string]any{"SPDXID": "SPDXRef-log4j", "name": "log4j-core", "versionInfo": "2.14.1", "downloadLocation": "NOASSERTION"})
	c.r.Attach(prooftest.Kinds...)
	return c
}

// verdict is that of one policy, with the list as it is now.
func (c *distrustScene) verdict(d verify.Distrust) *verify.Verdict {
	c.t.Helper()
	opts := verify.Options{Policy: demanded(c.t, policy.Document{Source: prooftest.Source}), Trust: []*trust.Root{c.p.Root()}, Distrust: d}
	return verify.Image(context.Background(), c.store, "v1.2.0", time.Now(), opts)
}

// decide is the decision of a rule.
func (c *distrustScene) decide(more string, lists distrust.Lists, now time.Time) *verify.Decision {
	c.t.Helper()
	sets, err := policy.ParseSets([]byte(setHead + "  - name: a\n    images: [{glob: '**'}]\n    " + more + "\n    accept:\n    - built: {source: git.example.com/team/app}\n"))
	if err != nil {
		c.t.Fatal(err)
	}
	image := policy.Image{Name: "reg.example.com/app", Digest: c.r.Image.Digest.String()}
	ask := verify.AskFor(sets, image)
	ask.Distrust = ask.Distrust || len(lists) > 0
	ev := verify.Gather(context.Background(), c.store, image.Digest, time.Now(), verify.Options{Trust: []*trust.Root{c.p.Root()}}, ask)
	return ev.DecideAt(sets, image, now, verify.With{Lists: lists})
}

// TestDistrustBreaksAVerdict: an image that proves itself is rejected because of what its proofs rest
// on, and the verdict names the entry.
func TestDistrustBreaksAVerdict(t *testing.T) {
	c := newDistrustScene(t)
	v := c.verdict(verify.Distrust{Lists: distrust.Lists{c.issuer.Known("shop")}, MaxAge: time.Hour})
	if l := link(t, v, verify.LinkDistrust); v.Outcome != verify.Accepted || l.Status != verify.Holds || !strings.Contains(l.Claim, "shop (0 entries") {
		t.Fatalf("got %s, %+v, want it accepted", v.Outcome, l)
	}
	for what, tt := range map[string]struct {
		scope distrust.Scope
		is    bool
	}{
		"commit":          {distrust.Scope{Commit: prooftest.Commit}, true},
		"another commit":  {distrust.Scope{Commit: prooftest.Tree}, false},
		"source":          {distrust.Scope{Source: prooftest.Source}, true},
		"builder":         {distrust.Scope{Builder: prooftest.Builder, Wide: true}, true},
		"builder, later":  {distrust.Scope{Builder: prooftest.Builder, From: new(time.Now().UTC().Add(time.Hour).Truncate(time.Second))}, false},
		"builder, before": {distrust.Scope{Builder: prooftest.Builder, Until: new(time.Now().UTC().Add(time.Hour).Truncate(time.Second))}, true},
		"identity":        {distrust.Scope{Identity: prooftest.Builder, Issuer: prooftest.URL}, true},
		"digest":          {distrust.Scope{Digest: c.r.Image.Digest.String()}, true},
		"base":            {distrust.Scope{Base: "debian:12"}, true},
		"another base":    {distrust.Scope{Base: "debian:11"}, false},
		"fetched":         {distrust.Scope{Fetched: "https://dl.example.com/tool.tgz"}, true},
		"fetched content": {distrust.Scope{Fetched: "sha256:" + strings.Repeat("cd", 32)}, true},
		"another package": {distrust.Scope{Package: "log4j-core@2.14.10"}, false},
		"package":         {distrust.Scope{Package: "log4j-core@2.14.1"}, true},
	} {
		i := distrusttest.New(t)
		i.Add(tt.scope)
		lists := distrust.Lists{i.Known("shop")}
		v, d := c.verdict(verify.Distrust{Lists: lists}), c.decide("mode: enforce", lists, time.Now())
		want := map[bool]verify.Outcome{true: verify.Rejected, false: verify.Accepted}[tt.is]
		if v.Outcome != want || d.Outcome != want {
			t.Errorf("%s: got %s (%s) and %s (%s), want %s", what, v.Outcome, v.Why(), d.Outcome, d.Reason, want)
			continue
		}
		if l := link(t, v, verify.LinkDistrust); tt.is && (l.Cause.Kind != verify.CauseDistrust || l.Cause.Authority != "shop" || !strings.Contains(l.Reason, "entry 0 of shop") || !strings.Contains(d.Reason, "entry 0 of shop") ||
			!strings.Contains(link(t, d.Verdict(), verify.LinkDistrust).Reason, "taken")) {
			t.Errorf("%s: got %+v and %q, want the entry named", what, l, d.Reason)
		}
	}
}

// TestDistrustedManifest: an index is rejected if an entry is about a manifest in it, also if only the index was read.
func TestDistrustedManifest(t *testing.T) {
	c := newDistrustScene(t)
	raw, _, err := c.store.Manifest(t.Context(), c.r.Image.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) == 0 {
		t.Fatal(err, len(index.Manifests))
	}
	c.issuer.Add(distrust.Scope{Digest: index.Manifests[len(index.Manifests)-1].Digest.String()})
	for _, pinned := range []bool{false, true} {
		opts := verify.Options{Policy: demanded(t, policy.Document{Source: prooftest.Source}), Trust: []*trust.Root{c.p.Root()}, Pinned: pinned}
		if v := verify.Image(t.Context(), c.store, "v1.2.0", time.Now(), opts); v.Outcome != verify.Accepted {
			t.Errorf("pinned %t, without the list: got %s, %s", pinned, v.Outcome, v.Why())
		}
		opts.Distrust.Lists = distrust.Lists{c.issuer.Known("shop")}
		if v := verify.Image(t.Context(), c.store, "v1.2.0", time.Now(), opts); v.Outcome != verify.Rejected {
			t.Errorf("pinned %t: got %s, %s, want it rejected", pinned, v.Outcome, v.Why())
		}
	}
}

// TestDistrustNotAskedFor: evidence that was gathered without asking for what entries are about knows
// neither the packages nor what the build used, so that the image is undecided.
func TestDistrustNotAskedFor(t *testing.T) {
	c := newDistrustScene(t)
	sets, err := policy.ParseSets([]byte(setHead + ruleOf("a", "", "team/app")))
	if err != nil {
		t.Fatal(err)
	}
	image := policy.Image{Name: "reg.example.com/app", Digest: c.r.Image.Digest.String()}
	c.issuer.Add(distrust.Scope{Fetched: "https://dl.example.com/other"})
	lists := distrust.Lists{c.issuer.Known("shop")}
	plain := verify.Gather(t.Context(), c.store, image.Digest, time.Now(), verify.Options{Trust: []*trust.Root{c.p.Root()}}, verify.Ask{Policies: sets[0].Rules[0].Accept})
	if d := plain.DecideWith(sets, image, verify.With{Lists: lists}); d.Outcome != verify.Undecided {
		t.Errorf("got %s, %s, want it undecided", d.Outcome, d.Reason)
	}
}

// TestDistrustDemanded: a rule that demands lists passes nothing without them, or if they are old. What
// an old list says counts all the same.
func TestDistrustDemanded(t *testing.T) {
	c := newDistrustScene(t)
	fresh := distrust.Lists{c.issuer.Known("shop")}
	c.issuer.Add(distrust.Scope{Commit: prooftest.Commit})
	told := distrust.Lists{c.issuer.Known("shop")}
	unread := distrust.Lists{{Issuer: fresh[0].Issuer, Problem: "no route to host"}}
	now := time.Now()
	const demand = "distrust: {maxAge: 10m, otherwise: undecided}"
	for what, tt := range map[string]struct {
		more  string
		lists distrust.Lists
		now   time.Time
		want  verify.Outcome
		says  string
	}{
		"fresh":                            {demand, fresh, now, verify.Accepted, ""},
		"no issuer":                        {demand, nil, now, verify.Undecided, "no issuer"},
		"never read":                       {demand, unread, now, verify.Undecided, "no route to host"},
		"old":                              {demand, fresh, now.Add(11 * time.Minute), verify.Undecided, "demands at most 10m"},
		"expired":                          {demand, fresh, now.Add(16 * time.Minute), verify.Undecided, "expired"},
		"the clock jumped back":            {demand, fresh, now.Add(-time.Hour), verify.Undecided, "ahead of this clock"},
		"told":                             {demand, told, now, verify.Rejected, "entry 0 of shop"},
		"told, and old":                    {demand, told, now.Add(time.Hour), verify.Rejected, "entry 0 of shop"},
		"one of two was never read":        {demand, append(unread, fresh...), now, verify.Undecided, "never read"},
		"not demanded, and never read":     {"mode: enforce", unread, now, verify.Accepted, ""},
		"not demanded, and told":           {"mode: enforce", told, now.Add(time.Hour), verify.Rejected, "entry 0 of shop"},
		"not demanded, and no list at all": {"mode: enforce", nil, now, verify.Accepted, ""},
		"exempt":                           {demand + "\n    exemptions: [{images: [{glob: '**'}], reason: moved, owner: ops, until: 2099-12-31}]", told, now, verify.Accepted, ""},
		"only watched":                     {"mode: warn\n    " + demand, told, now, verify.Accepted, ""},
	} {
		if d := c.decide(tt.more, tt.lists, tt.now); d.Outcome != tt.want || !strings.Contains(d.Reason, tt.says) {
			t.Errorf("%s: got %s, %q, want %s, %q", what, d.Outcome, d.Reason, tt.want, tt.says)
		}
	}
	if d := c.decide("mode: warn", told, now); len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "entry 0 of shop") {
		t.Errorf("only watched: got the warnings %q", d.Warnings)
	}
	for _, bad := range []string{"distrust: {maxAge: 0s}", "distrust: {maxAge: 1h, otherwise: accepted}"} {
		if _, err := policy.ParseSets([]byte(setHead + ruleOf("a", bad, "good"))); err == nil {
			t.Errorf("%s: got no error", bad)
		}
	}
}

// TestSignedList: a list counts only if its issuer signed it, and it has all that it had before.
func TestSignedList(t *testing.T) {
	ours, stranger := distrusttest.New(t), distrusttest.New(t)
	issuer := ours.Issuer("shop", "list")
	old := ours.Add(distrust.Scope{Commit: prooftest.Commit})
	first, err := verify.SignedList(t.Context(), issuer, old, nil, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	grown := ours.Lift(0)
	second, err := verify.SignedList(t.Context(), issuer, grown, &first.Head, time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fork := ours.Fork()
	fork.Add(distrust.Scope{Source: prooftest.Source}, distrust.Scope{Commit: prooftest.Commit}, distrust.Scope{Commit: prooftest.Tree})
	lines := strings.SplitAfter(string(grown), "\n")
	theirs := strings.SplitAfter(string(stranger.Raw()), "\n")
	future := ours.Fork()
	future.Now = func() time.Time { return time.Now().Add(time.Hour) }
	for what, tt := range map[string]struct {
		raw    []byte
		before *distrust.Head
		says   string
	}{
		"rolled back":                        {old, &second.Head, "rolled back"},
		"forked":                             {fork.Raw(), &second.Head, "forked"},
		"of another issuer":                  {stranger.Raw(), nil, "not signed by"},
		"with the signature of another list": {[]byte(lines[0] + theirs[1] + strings.Join(lines[2:], "")), nil, "not signed by"},
		"with a head of another issuer":      {[]byte(theirs[0] + lines[1]), nil, "not signed by"},
		"with an older head of its own":      {[]byte(strings.SplitAfter(string(old), "\n")[0] + lines[1] + lines[2]), nil, "not signed by"},
		"without its signature":              {[]byte(lines[0] + "{}\n" + strings.Join(lines[2:], "")), nil, "not signed by"},
		"from the future":                    {future.Add(), nil, "ahead of this clock"},
	} {
		if _, err := verify.SignedList(t.Context(), issuer, tt.raw, tt.before, time.Now(), nil); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", what, err, tt.says)
		}
	}
}

// TestDistrustedAttestation: a signer of an attestation that the policy demands can be in a list, and the time of that
// attestation says nothing about the build.
func TestDistrustedAttestation(t *testing.T) {
	c := newDistrustScene(t)
	const kind = "https://example.com/scan/v1"
	scanner := prooftest.Identity{SAN: c.p.URL + "/users/scanner", Issuer: c.p.URL}
	c.store.Attach(c.r.Image, c.p.Sign(scanner, statement(t, c.r.Image.Digest.Hex, kind, map[string]any{"passed": true})), kind)
	want := policy.Document{Source: prooftest.Source, Attestations: []policy.DocumentAttestation{{PredicateType: kind, Signer: &policy.DocumentSigner{Identity: scanner.SAN, Issuer: scanner.Issuer}}}}
	for what, tt := range map[string]struct {
		scope distrust.Scope
		want  verify.Outcome
	}{
		"its signer":    {distrust.Scope{Identity: scanner.SAN, Issuer: scanner.Issuer}, verify.Rejected},
		"somebody else": {distrust.Scope{Identity: scanner.SAN + "2", Issuer: scanner.Issuer}, verify.Accepted},
	} {
		i := distrusttest.New(t)
		i.Add(tt.scope)
		opts := verify.Options{Policy: demanded(t, want), Trust: []*trust.Root{c.p.Root()}, Distrust: verify.Distrust{Lists: distrust.Lists{i.Known("shop")}}}
		if v := verify.Image(t.Context(), c.store, "v1.2.0", time.Now(), opts); v.Outcome != tt.want {
			t.Errorf("%s: got %s, %s, want %s", what, v.Outcome, v.Why(), tt.want)
		}
	}
}

// TestDistrustAndAnotherSet: of an image with two sets of proofs, only that counts on which the verdict rests.
func TestDistrustAndAnotherSet(t *testing.T) {
	c := newDistrustScene(t)
	again := strings.Repeat("ab", 20)
	c.r.Again(again, "refs/tags/v1.2.1").Attach(prooftest.Kinds...)
	rested := c.verdict(verify.Distrust{}).Facts.Build.Commit
	for _, commit := range []string{prooftest.Commit, again} {
		i := distrusttest.New(t)
		i.Add(distrust.Scope{Commit: commit})
		want := verify.Accepted
		if commit == rested {
			want = verify.Rejected
		}
		if v := c.verdict(verify.Distrust{Lists: distrust.Lists{i.Known("shop")}}); v.Outcome != want {
			t.Errorf("%s: got %s, %s, want %s", commit, v.Outcome, v.Why(), want)
		}
	}
}

// TestDistrustedDigest: an entry about the image's digest counts also where no proof is asked for: for an exempt
// image, one that another kind of policies accepts, and one that no rule is about. A rule that only warns goes on
// to warn.
func TestDistrustedDigest(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	image := policy.Image{Name: "r.example/team/app", Digest: digest}
	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Digest: digest})
	listed := distrust.Lists{issuer.Known("shop")}
	exempt := func(mode policy.Mode) []*policy.Set {
		return []*policy.Set{{Name: "p", Unmatched: policy.DenyUnmatched, Rules: []policy.Rule{{Name: "r", Mode: mode, Images: []policy.ImagePattern{{Glob: "r.example/**"}}, Accept: []policy.Policy{{}},
			Exemptions: []policy.Exemption{{Images: []policy.ImagePattern{{Glob: "r.example/**"}}, Reason: "old", Owner: "a", Until: time.Now().Add(time.Hour)}}}}}}
	}
	others := &verify.Others{Kind: "ClusterImagePolicies", Rules: []verify.RuleDecision{{Policy: "c", Rule: "c", Mode: policy.Enforce, Outcome: verify.Accepted}}, Unmatched: policy.DenyUnmatched}
	for what, tt := range map[string]struct {
		sets   []*policy.Set
		others *verify.Others
		warns  bool
	}{
		"exempt":               {exempt(policy.Enforce), nil, false},
		"exempt, only audited": {exempt(policy.Audit), nil, true},
		"of another kind":      {nil, others, false},
		"no rule":              {[]*policy.Set{{Name: "p", Unmatched: policy.AllowUnmatched}}, nil, false},
	} {
		for _, lists := range []distrust.Lists{nil, listed} {
			d := verify.DecideWith(tt.sets, image, time.Now(), verify.With{Others: tt.others, Lists: lists}, func(policy.Policy) *verify.Verdict { t.Fatal("a verdict was asked for"); return nil })
			want := verify.Accepted
			if lists != nil && !tt.warns {
				want = verify.Rejected
			}
			if d.Outcome != want || want == verify.Rejected && !strings.Contains(d.Reason, "entry 0 of shop") || tt.warns && (len(d.Warnings) > 0) != (lists != nil) {
				t.Errorf("%s, %d lists: got %s, %q, %q, want %s", what, len(lists), d.Outcome, d.Reason, d.Warnings, want)
			}
		}
		if tt.others != nil && tt.others.Rules[0].Outcome != verify.Accepted {
			t.Errorf("%s: the caller's rules were changed", what)
		}
	}
}
