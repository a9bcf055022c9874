package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// requirement of a verdict, which must have it.
func requirement(t testing.TB, v *verify.Verdict, name string) provenance.Requirement {
	t.Helper()
	for _, r := range v.Requirements {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("verdict has no requirement %q: %+v", name, v.Requirements)
	return provenance.Requirement{}
}

const sealedRoom = `{"zones":"separate users","namespaces":"user mount pid ipc uts cgroup network","reach":"public","cacheMounts":"empty"}`

// TestLevelOfPlatform: the level that the trust document gives a builder is the
// highest that can follow, and what the provenance says can lower it.
func TestLevelOfPlatform(t *testing.T) {
	for name, tt := range map[string]struct {
		trusted  int
		room     string
		levels   map[string]int
		want     int
		short    string // the requirement that fails at the next level
		evidence string
	}{
		"all of it":               {3, sealedRoom, nil, 3, "", ""},
		"trusted for less":        {2, sealedRoom, nil, 2, "provenance unforgeable", "trusted for Build L2"},
		"trusted for L1":          {1, sealedRoom, nil, 1, "build hosted", "trusted for Build L1"},
		"trusted for nothing":     {0, sealedRoom, nil, 0, "appropriate build platform", "neither a trust root nor the policy"},
		"one user":                {3, strings.Replace(sealedRoom, "separate users", "one user", 1), nil, 2, "provenance unforgeable", `"one user"`},
		"users of other spelling": {3, strings.Replace(sealedRoom, "separate users", "Separate users", 1), nil, 2, "provenance unforgeable", `want "separate users"`},
		"says nothing of users":   {3, `{"namespaces":"user mount pid ipc","reach":"public","cacheMounts":"empty"}`, nil, 2, "provenance unforgeable", "does not say"},
		"says nothing":            {3, ``, nil, 2, "build isolated", "does not say"},
		"no string":               {3, `{"zones":["separate users"],"namespaces":"user mount pid ipc","reach":"public","cacheMounts":"empty"}`, nil, 2, "provenance unforgeable", "does not say"},
		"shares a namespace":      {3, strings.Replace(sealedRoom, " pid", "", 1), nil, 2, "build isolated", `want "pid"`},
		"namespaces in one word":  {3, strings.Replace(sealedRoom, "mount pid", "mountpid", 1), nil, 2, "build isolated", `want "mount"`},
		"the policy says more":    {2, sealedRoom, map[string]int{prooftest.Builder: 3}, 3, "", ""},
		"the policy says less":    {3, sealedRoom, map[string]int{prooftest.Builder: 1}, 1, "build hosted", "by the policy"},
		"not even the policy":     {2, `{"zones":"one user"}`, map[string]int{prooftest.Builder: 3}, 2, "provenance unforgeable", `"one user"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.p.Level = tt.trusted
			if c.wants.Levels = tt.levels; tt.levels != nil {
				c.wants.Builders = []string{prooftest.Builder}
			}
			c.r.Provenance.BuildDefinition.InternalParameters = json.RawMessage(tt.room)
			c.r.Attach(prooftest.Kinds...)
			v := c.verdict()
			if v.Outcome != verify.Accepted || v.Level != tt.want || v.Level != provenance.BuildLevel(v.Requirements) || len(v.Requirements) != 8 {
				t.Fatalf("got %s, level %d, want accepted, level %d: %+v", v.Outcome, v.Level, tt.want, v.Requirements)
			}
			if tt.short != "" {
				if r := requirement(t, v, tt.short); r.Status == provenance.IsMet || r.Level != tt.want+1 || !strings.Contains(r.Evidence, tt.evidence) {
					t.Errorf("got %+v, want it short, for %q", r, tt.evidence)
				}
			}
			for _, r := range v.Requirements {
				if r.Evidence == "" || r.Level <= tt.want && r.Status != provenance.IsMet {
					t.Errorf("got %+v below the level of %d", r, tt.want)
				}
			}
			// Demanding what follows changes nothing; demanding more rejects.
			c.wants.MinLevel = tt.want
			c.want(verify.Accepted, verify.LinkProvenance, verify.Holds)
			if tt.want < 3 {
				c.wants.MinLevel = tt.want + 1
				c.want(verify.Rejected, verify.LinkProvenance, verify.Broken, "Build level")
			}
		})
	}
}

// TestLevelWithoutProof: without valid evidence there is no level, whoever is trusted.
func TestLevelWithoutProof(t *testing.T) {
	c := newScene(t)
	c.p.Level = 3
	c.r.Attach(missing(attest.PredicateSLSA1)...)
	v := c.verdict()
	if r := requirement(t, v, "provenance exists"); v.Level != 0 || r.Status != provenance.NotMet {
		t.Errorf("no provenance: got level %d, %+v", v.Level, r)
	}
	c = newScene(t)
	c.r.Attach(prooftest.Kinds...)
	c.s.Fail[c.r.Blobs[attest.PredicateSLSA1].Digest.String()] = errors.New("connection reset")
	v = c.verdict()
	if r := requirement(t, v, "provenance exists"); v.Level != 0 || r.Status != provenance.NotKnown {
		t.Errorf("a provenance that could not be read: got level %d, %+v", v.Level, r)
	}
	c = newScene(t)
	c.r.Identity.SAN += "x"
	c.r.Attach(prooftest.Kinds...)
	if v := c.verdict(); v.Level != 0 || v.Outcome != verify.Rejected {
		t.Errorf("an unknown builder: got level %d, %s", v.Level, v.Outcome)
	}
	// Valid evidence for another source than demanded still has its level.
	c = newScene(t)
	c.r.Attach(prooftest.Kinds...)
	c.wants.Source = "git.example.com/team/other"
	if v := c.verdict(); v.Level != 2 || v.Outcome != verify.Rejected {
		t.Errorf("another source: got level %d, %s", v.Level, v.Outcome)
	}
	if provenance.BuildLevel(nil) != 0 {
		t.Error("no requirements at all make a level")
	}
}

// TestLevelOfPlainRoot: under a root that speaks for no platform, the policy
// names the builder, and its level if there is to be one.
func TestLevelOfPlainRoot(t *testing.T) {
	c := newScene(t)
	c.opts.Trust = []*trust.Root{c.p.PlainRoot(prooftest.URL)}
	c.wants.Builders = []string{prooftest.Builder}
	c.r.Attach(prooftest.Kinds...)
	v := c.verdict()
	if r := requirement(t, v, "appropriate build platform"); v.Level != 0 || r.Status != provenance.NotKnown {
		t.Errorf("got level %d, %+v", v.Level, r)
	}
	c.want(verify.Accepted, verify.LinkProvenance, verify.Holds, "no Build level")
	c.wants.Levels = map[string]int{prooftest.Builder: 2}
	if v := c.verdict(); v.Level != 2 {
		t.Errorf("by the policy: got level %d", v.Level)
	}
}

// TestLevelOfWorkflows: the table of builders, the kind of runner, and the policy.
func TestLevelOfWorkflows(t *testing.T) {
	v := githubVerdict(t, "v2.0.0", policy.Document{Source: example}, nil)
	if r := requirement(t, v, "build isolated"); v.Level != 3 || !strings.Contains(r.Evidence, "the table of public builders") {
		t.Errorf("slsa-github-generator: got level %d, %+v", v.Level, r)
	}
	if r := requirement(t, v, "provenance exists"); !strings.Contains(r.Evidence, "about the index") {
		t.Errorf("slsa-github-generator: got %+v", r)
	}
	p := policy.Document{Source: example, Builders: []string{generator}, Levels: map[string]int{generator: 2}}
	if v := githubVerdict(t, "v2.0.0", p, nil); v.Level != 2 {
		t.Errorf("trusted for less by the policy: got level %d", v.Level)
	}
	p.Builders = []string{generator + "@refs/tags/v2.0.0", generator}
	p.Levels = map[string]int{generator + "@refs/tags/v2.0.0": 1, generator: 3}
	if v := githubVerdict(t, "v2.0.0", p, nil); v.Level != 1 {
		t.Errorf("one version trusted for less: got level %d", v.Level)
	}
	for runner, want := range map[string]int{"": 2, "github-hosted": 2, "self-hosted": 1, "of another make": 1} {
		w := newWorkflow(t)
		w.r.Identity.Extensions = map[int]string{11: runner}
		if v := w.verdict(); v.Level != want {
			t.Errorf("runner %q: got level %d, want %d: %+v", runner, v.Level, want, v.Links)
		}
	}
}

// TestSubjects: a statement may be about several things, of which the image has
// to be one; what is said of an index is not said of a manifest in it.
func TestSubjects(t *testing.T) {
	attach := func(c *scene, change func([]attest.Subject) []attest.Subject) {
		c.r.Attach(missing(attest.PredicateSLSA1)...)
		var st attest.Statement
		if err := json.Unmarshal(c.r.Statement(attest.PredicateSLSA1), &st); err != nil {
			t.Fatal(err)
		}
		st.Subject = change(st.Subject)
		raw, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		c.r.AttachBundle(attest.PredicateSLSA1, c.p.Sign(c.r.Signer(), raw))
	}
	other := attest.Subject{Name: "other", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}
	for name, tt := range map[string]struct {
		change func([]attest.Subject) []attest.Subject
		want   verify.Outcome
	}{
		"one of several": {func(s []attest.Subject) []attest.Subject { return append([]attest.Subject{other}, s...) }, verify.Accepted},
		"others alone":   {func([]attest.Subject) []attest.Subject { return []attest.Subject{other, other} }, verify.Rejected},
		"a digit less": {func(s []attest.Subject) []attest.Subject {
			s[0].Digest["sha256"] = s[0].Digest["sha256"][:63]
			return s
		}, verify.Rejected},
		"another case": {func(s []attest.Subject) []attest.Subject {
			s[0].Digest["sha256"] = strings.ToUpper(s[0].Digest["sha256"])
			return s
		}, verify.Rejected},
		"another algorithm": {func(s []attest.Subject) []attest.Subject {
			return []attest.Subject{{Digest: map[string]string{"sha512": s[0].Digest["sha256"]}}}
		}, verify.Rejected},
	} {
		c := newScene(t)
		attach(c, tt.change)
		if v := c.verdict(); v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %s", name, v.Outcome, tt.want, v.Why())
		}
	}
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	v := c.verdict()
	if r := requirement(t, v, "provenance exists"); !strings.Contains(r.Evidence, "about the index "+v.Digest) {
		t.Errorf("got %+v", r)
	}
	var index v1.IndexManifest
	raw, _, err := c.s.Manifest(context.Background(), c.r.Image.Digest)
	if err != nil || json.Unmarshal(raw, &index) != nil {
		t.Fatal(err)
	}
	// The store lists the same referrers for whatever is asked, as a hostile one may.
	v = verify.Image(context.Background(), c.s, index.Manifests[0].Digest.String(), c.now, c.opts)
	if v.Outcome != verify.Rejected || v.Level != 0 {
		t.Errorf("a manifest of the index: got %s, level %d, want it rejected", v.Outcome, v.Level)
	}
}

// TestPolicyLevels: a level of a builder that is not accepted says nothing, and
// is a mistake.
func TestPolicyLevels(t *testing.T) {
	for name, p := range map[string]policy.Document{
		"of nobody":   {AnySource: true, Levels: map[string]int{prooftest.Builder: 2}},
		"of another":  {AnySource: true, Builders: []string{prooftest.Builder + "x"}, Levels: map[string]int{prooftest.Builder: 2}},
		"level 4":     {AnySource: true, Builders: []string{prooftest.Builder}, Levels: map[string]int{prooftest.Builder: 4}},
		"below level": {AnySource: true, Builders: []string{prooftest.Builder}, Levels: map[string]int{prooftest.Builder: -1}},
	} {
		if _, err := p.Policy(); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

// TestRequirementsAlone: they are those of the verdict.
func TestRequirementsAlone(t *testing.T) {
	c := newScene(t)
	c.r.Attach(prooftest.Kinds...)
	v := c.verdict()
	alone := verify.Examine(t.Context(), c.s, "v1.2.0", c.r.Image, c.now, c.opts).Requirements
	if v.Outcome != verify.Accepted || len(alone) == 0 || !slices.Equal(alone, v.Requirements) {
		t.Errorf("got %+v, want those of the verdict: %+v", alone, v.Requirements)
	}
	c = newScene(t)
	v = c.verdict()
	if alone := verify.Examine(t.Context(), c.s, "v1.2.0", c.r.Image, c.now, c.opts).Requirements; len(alone) == 0 || !slices.Equal(alone, v.Requirements) {
		t.Errorf("without provenance: got %+v, want those of the verdict: %+v", alone, v.Requirements)
	}
	for _, r := range verify.Examine(t.Context(), c.s, "v1.2.0", c.r.Image, time.Time{}, c.opts).Requirements {
		if r.Name == "provenance exists" && (r.Status != provenance.NotKnown || !strings.Contains(r.Evidence, "time of verification")) {
			t.Errorf("at no time: got %+v", r)
		}
	}
}
