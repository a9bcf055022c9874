package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/verify"
)

const (
	setDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	setHead   = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: prod}\nspec:\n  unmatched: deny\n  rules:\n"
)

// rule returns a rule whose alternatives are repositories: by their names, the fake of
// TestDecide answers accepted, rejected or undecided.
func ruleOf(name, more string, repositories ...string) string {
	out := "  - name: " + name + "\n    images: [{glob: reg.example.com/**}]\n"
	if more != "" {
		out += "    " + more + "\n"
	}
	out += "    accept:\n"
	for _, r := range repositories {
		out += "    - built: {source: git.example.com/" + r + "}\n"
	}
	return out
}

// TestDecide: all rules, any alternative, modes, exemptions, conditions and what is undecided.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
	image := policy.Image{Name: "reg.example.com/app", Tag: "v1", Digest: setDigest}
	fake := func(p policy.Policy) *verify.Verdict {
		v := &verify.Verdict{Digest: setDigest, Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Holds}}, Level: 2}
		uri := p.Provenance().Source.URI()
		switch {
		case strings.HasSuffix(uri, "/good"):
			v.Outcome = verify.Accepted
			v.Facts = &verify.Facts{Build: &provenance.Facts{Source: uri}} // without a ref
		case strings.HasSuffix(uri, "/other"):
			v.Outcome, v.Digest = verify.Accepted, "sha256:1"
		case strings.HasSuffix(uri, "/bad"):
			v.Outcome = verify.Rejected
			v.Links = append(v.Links, verify.Link{Name: verify.LinkProvenance, Status: verify.Broken, Reason: "of another source"})
		default:
			v.Links = append(v.Links, verify.Link{Name: verify.LinkProvenance, Status: verify.Unknown, Reason: "no answer"})
		}
		return v
	}
	exempt := func(until string) string {
		return "exemptions: [{images: [{glob: '**'}], reason: moved, owner: ops, until: " + until + "}]"
	}
	condition := func(e string) string { return "conditions: [{expression: '" + e + "', message: sorry}]" }
	for _, tt := range []struct {
		what, rules string
		want        verify.Outcome
		says        string // in the reason or a warning
	}{
		{"one", ruleOf("a", "", "good"), verify.Accepted, ""},
		{"any alternative", ruleOf("a", "", "bad", "none", "good"), verify.Accepted, ""},
		{"no alternative", ruleOf("a", "", "bad"), verify.Rejected, `rule "a" of policy "prod": rejected: provenance: of another source`},
		{"one may still be met", ruleOf("a", "", "bad", "none"), verify.Undecided, "no answer"},
		{"all rules", ruleOf("a", "", "good") + ruleOf("b", "", "bad"), verify.Rejected, `rule "b"`},
		{"rejected wins", ruleOf("a", "", "none") + ruleOf("b", "", "bad"), verify.Rejected, `rule "b"`},
		{"undecided", ruleOf("a", "", "none") + ruleOf("b", "", "good"), verify.Undecided, `rule "a"`},
		{"warn", ruleOf("a", "mode: warn", "bad"), verify.Accepted, `rule "a" of policy "prod": rejected`},
		{"audit", ruleOf("a", "mode: audit", "none"), verify.Accepted, `rule "a" of policy "prod": undecided`},
		{"warn beside enforce", ruleOf("a", "mode: warn", "good") + ruleOf("b", "", "bad"), verify.Rejected, `rule "b"`},
		{"before its date", ruleOf("a", "enforceFrom: 2026-12-11", "bad"), verify.Accepted, "enforced from 2026-12-11T00:00:00Z"},
		{"from its date", ruleOf("a", "{mode: audit, enforceFrom: 2026-12-10}", "bad"), verify.Rejected, `rule "a"`},
		{"exempt", ruleOf("a", exempt("2026-12-10"), "bad"), verify.Accepted, ""},
		{"exempt until yesterday", ruleOf("a", exempt("2026-12-09"), "bad"), verify.Rejected, "ended on 2026-12-10"},
		{"condition", ruleOf("a", condition("level >= 2"), "good"), verify.Accepted, ""},
		{"condition that is false", ruleOf("a", condition("level >= 3"), "good"), verify.Rejected, "condition: sorry"},
		{"condition over a missing fact", ruleOf("a", condition(`source.ref != "refs/heads/evil"`), "good"), verify.Undecided, "source.ref is missing"},
		{"condition does not help", ruleOf("a", condition("true"), "bad"), verify.Rejected, "of another source"},
		{"rebuilds", ruleOf("a", "rebuilds: {atLeast: 1, by: ['https://b.example']}", "good"), verify.Undecided, "rebuilds"},
		{"distrust", ruleOf("a", "distrust: {maxAge: 1h}", "good"), verify.Undecided, "no longer trusted"},
		{"a verdict about another image", ruleOf("a", "", "other"), verify.Undecided, "the verdict is about sha256:1"},
	} {
		rules := strings.Replace(tt.rules, "{mode: audit, enforceFrom: 2026-12-10}", "mode: audit\n    enforceFrom: 2026-12-10", 1)
		sets, err := policy.ParseSets([]byte(setHead + rules))
		if err != nil {
			t.Errorf("%s: %v", tt.what, err)
			continue
		}
		d := verify.Decide(sets, image, now, fake)
		if d.Outcome != tt.want || !strings.Contains(d.Reason+strings.Join(d.Warnings, ";"), tt.says) {
			t.Errorf("%s: got %s, %q, warnings %q, want %s, %s", tt.what, d.Outcome, d.Reason, d.Warnings, tt.want, tt.says)
		}
		v := d.Verdict()
		if v.Outcome != d.Outcome || (v.Outcome == verify.Accepted) != (v.Why() == "") {
			t.Errorf("%s: got a verdict %s, %q", tt.what, v.Outcome, v.Why())
		}
		proved := d.Outcome == verify.Accepted && strings.Contains(rules, "good")
		if v.Outcome == verify.Accepted && (v.Level > 0) != proved {
			t.Errorf("%s: got level %d of an image of which nothing was proved", tt.what, v.Level)
		}
	}
	// What no rule is about, and what cannot be decided.
	for unmatched, want := range map[string]verify.Outcome{"deny": verify.Rejected, "warn": verify.Accepted, "allow": verify.Accepted} {
		sets, err := policy.ParseSets([]byte(strings.Replace(setHead+ruleOf("a", "", "good"), "deny", unmatched, 1)))
		if err != nil {
			t.Fatal(err)
		}
		other := policy.Image{Name: "evil.example.com/app", Digest: setDigest}
		d := verify.Decide(sets, other, now, fake)
		if d.Outcome != want || (len(d.Warnings) > 0) != (unmatched == "warn") || d.Verdict().Level != 0 {
			t.Errorf("unmatched %s: got %+v", unmatched, d)
		}
		for what, got := range map[string]*verify.Decision{
			"no sets": verify.Decide(nil, image, now, fake), "no digest": verify.Decide(sets, policy.Image{Name: image.Name}, now, fake),
			"no time": verify.Decide(sets, image, time.Time{}, fake), "a set that demands nothing": verify.Decide([]*policy.Set{{}}, image, now, fake), "zero": {},
		} {
			if got.Outcome != verify.Undecided || got.Verdict().Outcome != verify.Undecided {
				t.Errorf("%s: got %+v", what, got)
			}
		}
	}
	strict, err := policy.ParseSets([]byte(strings.Replace(setHead, "deny", "allow", 1) + ruleOf("a", "", "good") + "---\n" + strings.Replace(setHead, "name: prod", "name: b", 1) + ruleOf("a", "", "good")))
	if err != nil {
		t.Fatal(err)
	}
	if d := verify.Decide(strict, policy.Image{Name: "evil.example.com/app", Digest: setDigest}, now, fake); d.Outcome != verify.Rejected {
		t.Errorf("two policies, one of which denies: got %+v", d)
	}
}

// TestUnmatchedOfSeveralSets: a rule that only watches, or one of a namespace, lifts no denial of
// another set.
func TestUnmatchedOfSeveralSets(t *testing.T) {
	now := time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
	image := policy.Image{Name: "reg.example.com/app", Digest: setDigest}
	const namespaced = "kind: NamespacedImagePolicy\nmetadata: {name: shop, namespace: shop}"
	elsewhere := strings.Replace(setHead+ruleOf("a", "", "good"), "reg.example.com", "elsewhere.example.com", 1)
	for _, tt := range []struct {
		what, other string
		want        verify.Outcome
	}{
		{"enforced elsewhere", setHead + ruleOf("a", "", "good"), verify.Accepted},
		{"watched elsewhere", setHead + ruleOf("a", "mode: audit", "good"), verify.Rejected},
		{"enforced later", setHead + ruleOf("a", "enforceFrom: 2026-12-11", "good"), verify.Rejected},
		{"enforced in a namespace", strings.Replace(setHead, "kind: ImagePolicy\nmetadata: {name: prod}", namespaced, 1) + ruleOf("a", "", "good"), verify.Rejected},
	} {
		other := strings.Replace(tt.other, "{name: prod}", "{name: other}", 1)
		sets, err := policy.ParseSets([]byte(elsewhere + "---\n" + other))
		if err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		d := verify.Decide(sets, image, now, func(policy.Policy) *verify.Verdict {
			return &verify.Verdict{Digest: setDigest, Outcome: verify.Accepted}
		})
		if d.Outcome != tt.want || (d.Unmatched == policy.DenyUnmatched) != (tt.want == verify.Rejected) {
			t.Errorf("%s: got %v: %s", tt.what, d.Outcome, d.Reason)
		}
	}
}

// TestNoSummaryOfAnExemption: a summary says nothing of warnings and has no end, so that there is
// none of an image that is exempt, or accepted with a warning.
func TestNoSummaryOfAnExemption(t *testing.T) {
	now := time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
	for more, want := range map[string]bool{
		"": true,
		"exemptions: [{images: [{glob: '**'}], reason: moved, owner: ops, until: 2026-12-31}]": false,
		"mode: warn": false,
	} {
		sets, err := policy.ParseSets([]byte(setHead + ruleOf("a", more, "good")))
		if err != nil {
			t.Fatal(err)
		}
		outcome := verify.Accepted
		if more == "mode: warn" {
			outcome = verify.Rejected
		}
		v := verify.Decide(sets, policy.Image{Name: "reg.example.com/app", Digest: setDigest}, now, func(policy.Policy) *verify.Verdict {
			return &verify.Verdict{Digest: setDigest, Outcome: outcome}
		}).Verdict()
		v.Digest = setDigest
		if _, err := v.Summary("https://v.example.com", "https://example.com/app", attest.ResourceDescriptor{URI: "https://example.com/policy"}, now); v.Outcome != verify.Accepted || (err == nil) != want {
			t.Errorf("%q: got %v, %v", more, v.Outcome, err)
		}
	}
}
