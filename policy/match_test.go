package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

// fails fails unless err has the text, or is nil for no text.
func fails(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q in it", what, err, want)
	}
}

// TestMatchAttestation: each value of a predicate is compared as it is written.
func TestMatchAttestation(t *testing.T) {
	long := strings.Repeat("x", 78)
	doc := `{"result":"PASSED","esc":"P\u0041SSED","n":12,"f":1.0,"yes":true,"none":null,"list":[{"a/b":"c"},"d"],"deep":{"x":{"y":"z"}},"l80":"` + long + `","l81":"` + long + `x"}`
	for _, tt := range []struct {
		pointer string
		value   any
		want    string
	}{
		{"/result", "PASSED", ""}, {"/esc", "PASSED", ""}, {"/result", "FAILED", `/result: got "PASSED", want "FAILED"`}, {"/result", nil, "got"},
		{"/n", 12.0, ""}, {"/n", 13.0, "got 12, want 13"}, {"/n", "12", `got 12, want "12"`}, {"/f", 1.0, "got 1.0, want 1"}, {"/result", 12.0, "got"},
		{"/yes", true, ""}, {"/yes", false, "got true"}, {"/none", nil, ""}, {"/yes", "true", "got true"},
		{"/list/0/a~1b", "c", ""}, {"/list/1", "d", ""}, {"/list/2", "d", "no element"}, {"/list/-1", "d", "no element"}, {"/list/01", "d", "no element"}, {"/list/+1", "d", "no element"},
		{"/list/x", "d", "no element"}, {"/list/1/x", "d", `there is no "x"`}, {"/gone", "x", `there is no "gone"`}, {"/gone", nil, `there is no "gone"`},
		{"/deep/x/y", "z", ""}, {"/deep/x", "z", `got {"y":"z"}`}, {"/deep", nil, "got"},
		{"/l80", "x", long + `", want`}, {"/l81", "x", "x…, want"},
	} {
		a := policy.Attestation{PredicateType: "a:b", Equals: map[string]any{tt.pointer: tt.value}}
		fails(t, fmt.Sprint(tt.pointer, " ", tt.value), a.Match([]byte(doc)), tt.want)
	}
	twice := policy.Attestation{PredicateType: "a:b", Equals: map[string]any{"/a": "b"}}
	fails(t, "a member twice", twice.Match([]byte(`{"a":"b","a":"c"}`)), "duplicate")
	fails(t, "a member twice, in a list", policy.Attestation{Equals: map[string]any{"/0": "b"}}.Match([]byte(`["b",{"a":1,"a":2}]`)), "duplicate")
	fails(t, "no JSON number", policy.Attestation{Equals: map[string]any{"/a": func() {}}}.Match([]byte(`{"a":1}`)), "unsupported")
	for _, n := range []float64{1<<53 - 1, -(1<<53 - 1)} {
		fails(t, "the largest number", checkEquals(n), "")
	}
	for _, n := range []float64{1 << 53, -(1 << 53), 0.5} {
		fails(t, "a larger number", checkEquals(n), "whole number")
	}
}

func checkEquals(value any) error {
	return policy.Policy{Origin: policy.BuilderProvenance{Provenance: anySource()},
		Attestations: []policy.Attestation{{PredicateType: "a:b", Equals: map[string]any{"/a": value}}}}.Check()
}

// TestMatchSummary: result, levels and age of a verification summary.
func TestMatchSummary(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	hour := now.Add(-time.Hour)
	passed := func(change func(*attest.VSA)) *attest.VSA {
		s := &attest.VSA{VerificationResult: attest.VSAPassed, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_2", "SLSA_SOURCE_LEVEL_1"}, TimeVerified: &hour}
		change(s)
		return s
	}
	same := func(*attest.VSA) {}
	for name, tt := range map[string]struct {
		policy  policy.Policy
		by      policy.Verifier
		summary *attest.VSA
		want    string
	}{
		"as it is":         {policy.Policy{}, policy.Verifier{}, passed(same), ""},
		"failed":           {policy.Policy{}, policy.Verifier{}, passed(func(s *attest.VSA) { s.VerificationResult = attest.VSAFailed }), `result: got "FAILED"`},
		"the level":        {policy.Policy{Origin: policy.SummaryOnly{MinLevel: 2}}, policy.Verifier{Levels: []string{"SLSA_SOURCE_LEVEL_1"}}, passed(same), ""},
		"a higher level":   {policy.Policy{Origin: policy.SummaryOnly{MinLevel: 3}}, policy.Verifier{}, passed(same), "Build level: got 2, want at least 3"},
		"of provenance":    {policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{MinLevel: 3}}}, policy.Verifier{}, passed(same), "Build level: got 2"},
		"another track":    {policy.Policy{}, policy.Verifier{Levels: []string{"SLSA_SOURCE_LEVEL_2"}}, passed(same), "verified levels"},
		"no build level":   {policy.Policy{Origin: policy.SummaryOnly{MinLevel: 1}}, policy.Verifier{}, passed(func(s *attest.VSA) { s.VerifiedLevels = []string{"x"} }), "got 0, want at least 1"},
		"none is demanded": {policy.Policy{Origin: policy.SummaryOnly{}}, policy.Verifier{}, passed(func(s *attest.VSA) { s.VerifiedLevels = []string{"x"} }), ""},
		"as old as may be": {policy.Policy{}, policy.Verifier{MaxAge: time.Hour}, passed(same), ""},
		"older":            {policy.Policy{}, policy.Verifier{MaxAge: time.Hour - time.Second}, passed(same), "timeVerified: got 2026-01-02T11:00:00Z"},
		"of no time":       {policy.Policy{}, policy.Verifier{MaxAge: time.Hour}, passed(func(s *attest.VSA) { s.TimeVerified = nil }), "timeVerified: got none"},
		"of no time, any":  {policy.Policy{}, policy.Verifier{}, passed(func(s *attest.VSA) { s.TimeVerified = nil }), ""},
	} {
		fails(t, name, tt.policy.MatchSummary(tt.by, tt.summary, now), tt.want)
	}
}

// TestConcerns: verifier, resource and policy of a summary.
func TestConcerns(t *testing.T) {
	const app = "https://dl.example.com/app"
	digest := strings.Repeat("ab", 32)
	s := &attest.VSA{Verifier: attest.VSAVerifier{ID: "https://v.example.com"}, ResourceURI: app, Policy: attest.ResourceDescriptor{Digest: map[string]string{"sha256": digest}}}
	bare := &attest.VSA{Verifier: s.Verifier, ResourceURI: app}
	by := policy.Verifier{ID: "https://v.example.com"}
	with := func(change func(*policy.Verifier)) policy.Verifier {
		v := by
		change(&v)
		return v
	}
	for name, tt := range map[string]struct {
		by       policy.Verifier
		summary  *attest.VSA
		resource string
		want     string
	}{
		"the image's":      {by, s, app, ""},
		"another":          {by, s, app + "s", "resource: got"},
		"the one demanded": {with(func(v *policy.Verifier) { v.Resource = app }), s, "pkg:oci/x", ""},
		"another demanded": {with(func(v *policy.Verifier) { v.Resource = app + "s" }), s, app, "resource: got"},
		"none known":       {by, s, "", "does not say which resource"},
		"none known, none": {by, &attest.VSA{Verifier: s.Verifier}, "", "does not say which resource"},
		"another verifier": {with(func(v *policy.Verifier) { v.ID += "/" }), s, app, "verifier: got"},
		"its policy":       {with(func(v *policy.Verifier) { v.PolicyDigest = "sha256:" + digest }), s, app, ""},
		"another policy":   {with(func(v *policy.Verifier) { v.PolicyDigest = "sha256:" + strings.Repeat("cd", 32) }), s, app, "policy of the summary: got \"sha256:" + digest},
		"no policy":        {with(func(v *policy.Verifier) { v.PolicyDigest = "sha256:" + digest }), bare, app, `policy of the summary: got ""`},
		"no policy, any":   {by, bare, app, ""},
	} {
		fails(t, name, tt.by.Concerns(tt.summary, tt.resource), tt.want)
	}
}

// TestMatchProvenance: ref, version, commit, inputs and level.
func TestMatchProvenance(t *testing.T) {
	commit := strings.Repeat("ab", 20)
	p := policy.Provenance{Source: policy.AnySource(), Commit: commit, Inputs: map[string]string{"dry": "false", "name": "x"}, MinLevel: 2, Levels: map[string]int{"b": 3}}
	fails(t, "commit", p.MatchCommit(commit), "")
	fails(t, "another commit", p.MatchCommit(strings.Repeat("cd", 20)), "commit: got")
	fails(t, "no commit", p.MatchCommit(""), "commit: got")
	fails(t, "any commit", policy.Provenance{}.MatchCommit(commit), "")
	fails(t, "level", p.MatchLevel(2), "")
	fails(t, "higher level", p.MatchLevel(3), "")
	fails(t, "lower level", p.MatchLevel(1), "Build level: got 1, want at least 2")
	fails(t, "no ref demanded", p.MatchRef("refs/heads/main"), "")
	for _, tt := range []struct {
		inputs map[string]any
		want   string
	}{
		{map[string]any{"dry": false, "name": "x", "more": 1}, ""}, {map[string]any{"dry": "false", "name": "x"}, ""},
		{map[string]any{"dry": true, "name": "x"}, `workflow input dry: got "true"`}, {map[string]any{"dry": false, "name": "y"}, `workflow input name: got "y"`},
		{map[string]any{"dry": false}, "workflow input name: the provenance has none"}, {nil, "workflow input dry: the provenance has none"},
		{map[string]any{"dry": 0.0, "name": "x"}, "workflow input dry: got"},
	} {
		fails(t, fmt.Sprint(tt.inputs), p.MatchInputs(tt.inputs), tt.want)
	}
	if level, ok := p.Level("b"); level != 3 || !ok {
		t.Errorf("level of b: got %d, %v", level, ok)
	}
	if _, ok := p.Level("c"); ok {
		t.Error("the policy gives c a level")
	}
	if got, want := p.String(), "any source, workflow input dry=false, workflow input name=x, commit "+commit+", Build level 2 or more"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (policy.Provenance{}).String(); got != "no source" {
		t.Errorf("got %q", got)
	}
	if got := (policy.Provenance{Source: from(t, "git.example.com/a").Source, MinLevel: 1, Ref: policy.Version("v1")}).String(); got != "source https://git.example.com/a, version v1, Build level 1 or more" {
		t.Errorf("got %q", got)
	}
	if got := (policy.Policy{Origin: policy.BuilderProvenance{SBOM: policy.SBOMContents}}).SBOM(); got != policy.SBOMContents {
		t.Errorf("got %v", got)
	}
	if got := (policy.Policy{Origin: policy.SummaryOnly{}}).SBOM(); got != policy.SBOMOptional {
		t.Errorf("got %v", got)
	}
}

// TestBoundaries: what is just within a limit, and each way to be malformed alone.
func TestBoundaries(t *testing.T) {
	const ada = `"signer":{"identity":"ada","issuer":"https://idp.example.com"}`
	list := func(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	for doc, want := range map[string]string{
		`{"anySource":true,"attestations":[` + list(`{"predicateType":"a:b"}`, 32) + `]}`:                   "",
		`{"anySource":true,"verifiers":[` + list(`{"id":"a:b",`+ada+`}`, 16) + `]}`:                         "",
		`{"anySource":true,"commit":"` + strings.Repeat("ab", 20) + `"}`:                                    "",
		`{"anySource":true,"commit":"` + strings.Repeat("ab", 32) + `"}`:                                    "",
		`{"anySource":true,"commit":"` + strings.Repeat("ab", 24) + `"}`:                                    "40 or 64",
		`{"anySource":true,"commit":"` + strings.Repeat("zz", 20) + `"}`:                                    "40 or 64",
		`{"anySource":true,"builders":["https://tekton.dev/chains/v2"],` + ada + `}`:                        "",
		`{"anySource":true,"builders":["tekton:chains"],` + ada + `}`:                                       "want a URL",
		`{"anySource":true,"builders":["//tekton.dev/chains"],` + ada + `}`:                                 "want a URL",
		`{"anySource":true,"builders":["https://tekton.dev/%zz"],` + ada + `}`:                              "want a URL",
		`{"verifiers":[{"id":"a:b","policyDigest":"sha256:` + strings.Repeat("ab", 32) + `",` + ada + `}]}`: "",
		`{"verifiers":[{"id":"a:b","policyDigest":"sha512:` + strings.Repeat("ab", 32) + `",` + ada + `}]}`: "want sha256:HEX",
		`{"verifiers":[{"id":"a:b","policyDigest":"sha256:` + strings.Repeat("zz", 32) + `",` + ada + `}]}`: "want sha256:HEX",
		`{"verifiers":[{"id":"a:b","policyDigest":"sha256:` + strings.Repeat("ab", 31) + `",` + ada + `}]}`: "want sha256:HEX",
		`{"verifiers":[{"id":"a:b","policyDigest":"sha256:` + strings.Repeat("AB", 32) + `",` + ada + `}]}`: "want sha256:HEX",
		`{"anySource":true,"root":"https://a.example.com",` + ada + `}`:                                     "signer.root",
		`{"anySource":true,"verifiers":[{"id":"a:b","signer":{"identity":"x"}}]}`:                           "want identity and issuer",
	} {
		_, err := policy.Parse([]byte(doc))
		fails(t, doc, err, want)
	}
	for ref, want := range map[string]string{"refs/heads/v1.0.0": "want a tag of version", "refs/tags/1.0.0": "want a tag of version", "refs/tags/v1.2.3": "", "refs/tags/v1.2": "", "refs/tags/v1.2.3-rc.1": "version: got", "refs/tags/v1.20.0": "version: got"} {
		fails(t, ref, policy.Provenance{Ref: policy.Version("v1.2")}.MatchRef(ref), want)
	}
	if _, err := policy.ParseSource("nowhere"); err == nil || !strings.HasPrefix(err.Error(), "policy: source: ") {
		t.Errorf("got %v", err)
	}
}
