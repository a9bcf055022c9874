package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

var now = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

const head = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "reg.example.com/team/**"}]
`

const pem = `-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n`

const (
	ada  = `{certificate: {issuer: https://accounts.example.com, identity: {is: ada@example.com}}}`
	adas = "      accept: [{signature: {signer: " + ada + "}}]\n"
	keys = `      accept: [{signature: {signer: {insecureUnloggedKey: {pem: "` + pem + `"}}}}]` + "\n"
)

func converted(t *testing.T, file string, to Format, o Options) *Result {
	t.Helper()
	o.Now, o.Name = now, "converted"
	got, err := Convert([]byte(file), to, o)
	if err != nil {
		t.Fatalf("%v, in\n%s", err, file)
	}
	return got
}

// TestNothingIsLostInSilence: each demand that a target cannot make is in the list, and says
// whether the result is weaker.
func TestNothingIsLostInSilence(t *testing.T) {
	both := []Format{ClusterImagePolicy, Kyverno}
	for _, tt := range []struct {
		rule, member string
		weaker       bool
		to           []Format
	}{
		{adas + "      conditions: [{expression: level == 3, message: 'no'}]\n", "conditions[0]", true, both},
		{adas + "      rebuilds: {atLeast: 1, by: [https://a.example.com/builders/b]}\n", "rebuilds", true, both},
		{adas + "      distrust: {maxAge: 24h}\n", "distrust", true, both},
		{adas + "      trust: {fresh: true}\n", "trust", true, both},
		{adas + "      exemptions: [{images: [{glob: reg.example.com/team/old@*}], reason: old, owner: ada, until: 2027-01-01}]\n", "exemptions[0]", false, both[:1]},
		{adas + "      exemptions: [{images: [{glob: reg.example.com/team/old@*, tag: v1}], reason: old, owner: ada, until: 2027-01-01}]\n", "exemptions[0]", false, both},
		{adas + "      mode: audit\n", "mode", false, both[:1]},
		{adas + "      mode: warn\n      enforceFrom: 2027-01-01\n", "enforceFrom", false, both[:1]},
		{"      accept: [{signature: {signer: " + ada + ", absent: [{predicateType: https://example.com/bad/v1, signer: " + ada + "}]}}]\n", "accept[0].signature.absent[0]", true, both},
		{"      accept: [{signature: {signer: " + ada + ", attestations: [{predicateType: https://example.com/scan/v1, values: [{pointer: /a, integer: 0}]}]}}]\n", "accept[0].signature.attestations[0].values", true, both},
		{"      accept: [{signature: {signer: {certificate: {issuer: https://accounts.example.com, identity: {matches: .*@example\\.com}}}, attestations: [{predicateType: https://example.com/scan/v1}]}}]\n", "accept[0].signature.attestations[0].signer", true, both},
		{"      accept: [{signature: {signer: " + ada + ", verifiers: [{id: https://v.example.com, signer: " + ada + ", maxAge: 24h}]}}]\n", "accept[0].signature.verifiers[0].maxAge", true, both},
		{"      accept: [{summary: {minLevel: 2, verifiers: [{id: https://v.example.com, signer: " + ada + ", levels: [SLSA_SOURCE_LEVEL_2]}]}}]\n", "accept[0].summary.verifiers[0].levels", true, both},
		{"      accept: [{summary: {minLevel: 2, verifiers: [{id: https://v.example.com, signer: " + ada + "}]}}]\n", "accept[0].summary.minLevel", true, both},
		{"      accept: [{built: {source: https://github.com/team/app, minLevel: 3}}]\n", "accept[0].built.minLevel", true, both},
		{"      accept: [{built: {source: https://github.com/team/app}}]\n", "accept[0].built.recipe", true, both},
		{"      accept: [{built: {source: https://github.com/team/app}}]\n", "accept[0].built.sbom", true, both},
		{"      accept: [{built: {source: https://github.com/team/app, recipe: {any: {}}, sbom: {optional: {}}}}]\n", "accept[0].built", true, both},
		{"      accept: [{built: {source: https://github.com/team/app, requireSource: true}}]\n", "accept[0].built.requireSource", true, both},
		{"      accept: [{built: {source: https://github.com/team/app, commit: " + strings.Repeat("a", 40) + "}}]\n", "accept[0].built.commit", true, both},
		{"      accept: [{provenance: {signer: " + ada + ", source: https://gitlab.com/team/app}}]\n", "accept[0].provenance.source", true, both},
	} {
		for _, to := range tt.to {
			got := converted(t, head+tt.rule, to, Options{Lossy: true})
			i := slices.IndexFunc(got.Losses, func(l Loss) bool { return l.Member == tt.member })
			if i < 0 || got.Losses[i].Weaker != tt.weaker || got.Losses[i].Policy != "shop" || got.Losses[i].Rule != "app" {
				t.Errorf("%s: got %+v, want a loss of %s that is weaker: %t, in\n%s", to, got.Losses, tt.member, tt.weaker, tt.rule)
			}
		}
	}
}

// TestNotationIsLeftOut: neither target gets signatures of notation, and the list says so.
func TestNotationIsLeftOut(t *testing.T) {
	raw, err := os.ReadFile("../../spec/policy/v2/good/notation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []Format{ClusterImagePolicy, Kyverno} {
		got := converted(t, string(raw), to, Options{})
		for i := range 2 {
			member := fmt.Sprintf("accept[%d].notation", i)
			if !slices.ContainsFunc(got.Losses, func(l Loss) bool { return l.Member == member && !l.Weaker }) || got.Weaker() {
				t.Errorf("%s: got %+v, want a loss of %s that is stricter", to, got.Losses, member)
			}
		}
	}
}

// TestOnlyStricter: what both targets can say needs no --lossy.
func TestOnlyStricter(t *testing.T) {
	scan := "      accept: [{signature: {signer: " + ada + ", attestations: [{predicateType: https://example.com/scan/v1}]}}, {signature: {signer: {key: {pem: \"" + pem + "\"}}}}]\n"
	for _, rule := range []string{adas, keys, scan, adas + "      mode: warn\n", strings.Replace(adas, "is: ada@example.com", `matches: '.*@example\.com'`, 1)} {
		for _, to := range []Format{ClusterImagePolicy, Kyverno} {
			if got := converted(t, head+rule, to, Options{}); got.Weaker() || len(got.Documents) == 0 {
				t.Errorf("%s: got %+v, want a result that is not weaker, of\n%s", to, got.Losses, rule)
			}
		}
	}
	// --lossy trades the format of signatures for what counts as one, and says so.
	got := converted(t, head+keys, Kyverno, Options{Lossy: true})
	if text, _ := got.YAML(); !got.Weaker() || !strings.Contains(string(text), "verifyImageSignatures") {
		t.Errorf("got %+v, want a weaker result", got.Losses)
	}
}

// TestNamesStayApart: of two documents with one name, a cluster would keep the last one, and
// demand nothing of what the other one says.
func TestNamesStayApart(t *testing.T) {
	two := "      accept: [{signature: {signer: " + ada + ", attestations: [{predicateType: https://example.com/scan/v1}]}}]\n"
	numbered := head + two + "    - name: app-1\n      images: [{glob: 'reg.example.com/**'}]\n" + adas
	joined := strings.Replace(head, "name: app", "name: app-x", 1) + adas + "---\n" + strings.NewReplacer("name: shop", "name: shop-app", "name: app", "name: x").Replace(head) + adas
	warns := head + adas + "      mode: warn\n---\n" + strings.Replace(head, "name: shop", "name: shop-warn", 1) + adas
	for name, c := range map[string]struct {
		file string
		to   Format
		says string
	}{
		"a clause and a rule": {numbered, ClusterImagePolicy, `"shop-app-1"`},
		"an action":           {warns, Kyverno, `"shop-warn"`},
		"names joined":        {joined, ClusterImagePolicy, `"shop-app-x"`},
	} {
		if _, err := Convert([]byte(c.file), c.to, Options{Now: now, Name: "a"}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error about %s", name, err, c.says)
		}
	}
}

// TestTagsAreNotLost: a target without tags is about more images, and where an image that no
// rule is about is refused, that accepts more of them.
func TestTagsAreNotLost(t *testing.T) {
	tagged := strings.Replace(head, `team/**"`, `team/**", tag: v1`, 1) + adas
	for _, to := range []Format{ClusterImagePolicy, Kyverno} {
		if got := converted(t, tagged, to, Options{}); !got.Weaker() {
			t.Errorf("%s: got %+v, want a weaker result", to, got.Losses)
		}
		if got := converted(t, strings.Replace(tagged, "unmatched: deny", "unmatched: allow", 1), to, Options{}); got.Weaker() {
			t.Errorf("%s: got %+v, want a result that is not weaker", to, got.Losses)
		}
	}
}

// TestClausesMeanTheSame: the policies that a rule becomes accept an image if and only if an
// alternative of the rule does, whatever the image has.
func TestClausesMeanTheSame(t *testing.T) {
	signers := []signer{{key: "a", unlogged: true}, {key: "b", unlogged: true}, {key: "c", unlogged: true}}
	types := []string{"", "https://example.com/scan/v1"}
	thing := func(i int) evidence { return evidence{by: signers[i/2], predicateType: types[i%2]} }
	for n := range 512 { // 3 alternatives of up to 3 of the 6 things
		var alternatives [][]evidence
		for a := range 3 {
			bits, all := n>>(3*a)&7, []evidence{}
			for i := range 3 {
				if bits>>i&1 == 1 {
					all = append(all, thing((a+2*i)%6))
				}
			}
			if len(all) > 0 {
				alternatives = append(alternatives, all)
			}
		}
		if len(alternatives) == 0 {
			continue
		}
		w := &cipWriter{}
		clauses, err := w.clauses(alternatives)
		if err != nil {
			t.Fatal(err)
		}
		for has := range 64 {
			want := slices.ContainsFunc(alternatives, func(all []evidence) bool {
				return !slices.ContainsFunc(all, func(e evidence) bool {
					return has>>slices.IndexFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool { return thing(i).by.key == e.by.key && thing(i).predicateType == e.predicateType })&1 == 0
				})
			})
			got := !slices.ContainsFunc(clauses, func(c authorities) bool {
				return !slices.ContainsFunc(c, func(a clusterimagepolicy.Authority) bool {
					return has>>slices.IndexFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool {
						return thing(i).by.key == a.Key.Data && (thing(i).predicateType != "") == (len(a.Attestations) > 0)
					})&1 == 1
				})
			})
			if got != want {
				t.Fatalf("alternatives %v, image has %b: got %t, want %t", alternatives, has, got, want)
			}
		}
	}
}

// TestClausesAreBounded: alternatives that multiply to too many policies are refused.
func TestClausesAreBounded(t *testing.T) {
	var alternatives []string
	for i := range 4 {
		alternatives = append(alternatives, fmt.Sprintf("{signature: {signer: %s, attestations: [{predicateType: 'https://example.com/a%d'}, {predicateType: 'https://example.com/b%d'}, {predicateType: 'https://example.com/c%d'}]}}", strings.Replace(ada, "ada@", fmt.Sprintf("ada%d@", i), 1), i, i, i))
	}
	file := head + "      accept: [" + strings.Join(alternatives, ", ") + "]\n"
	if _, err := Convert([]byte(file), ClusterImagePolicy, Options{Now: now}); err == nil || !strings.Contains(err.Error(), "more than 64 policies") {
		t.Errorf("got %v, want an error", err)
	}
}

// TestGlobsMeanTheSame: the expressions for Kyverno match what the globs match.
func TestGlobsMeanTheSame(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	names := []string{"index.docker.io/library/nginx", "index.docker.io/team/app", "index.docker.io/a/b/c", "reg.example.com/team/app", "regxexample.com/team/app", "reg.example.com/app", "reg.example.com/team/deep/app", "reg.example.com.evil.example/team/app", "127.0.0.1:5000/app"}
	for _, glob := range []string{"*", "*/*", "**", "***", "reg.example.com/**", "reg.example.com/*", "reg.example.com/team/app@*", "reg.example.com/*/app@*", "**/app@*", "127.0.0.1:5000/app@*", "reg.example.com/team/app@" + digest, "reg.example.com/team/***"} {
		re := regexp.MustCompile(globRegexp(glob))
		for _, name := range names {
			want := policy.ImagePattern{Glob: glob}.Matches(policy.Image{Name: name, Digest: digest})
			if got := re.MatchString(name + "@" + digest); got != want {
				t.Errorf("%s, %s: got %t, want %t", glob, name, got, want)
			}
		}
	}
}

// TestDigestsOfGlobs: a pattern of a glob and a digest becomes a glob that matches the same.
func TestDigestsOfGlobs(t *testing.T) {
	one, other := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	for _, glob := range []string{"", "*", "*/*", "**", "reg.example.com/**", "reg.example.com/app*", "reg.example.com/app@*", "reg.example.com/app@sha256:*", "reg.example.com/*@*:*", "reg.example.com/app@**"} {
		p := policy.ImagePattern{Glob: glob, Digest: one}
		w := &cipWriter{}
		got := w.globs([]policy.ImagePattern{p})
		for _, name := range []string{"index.docker.io/library/nginx", "index.docker.io/a/b", "reg.example.com/app", "reg.example.com/apps/x", "evil.example.com/app"} {
			for _, digest := range []string{one, other} {
				image := policy.Image{Name: name, Digest: digest}
				if want, have := p.Matches(image), (policy.ImagePattern{Glob: got[0].Glob}).Matches(image); have != want {
					t.Errorf("%v as %s, %v: got %t, want %t", p, got[0].Glob, image, have, want)
				}
			}
		}
	}
}

// TestTextsStayTexts: what a policy compares with is quoted, so that no text becomes a part of
// an expression.
func TestTextsStayTexts(t *testing.T) {
	attack := `" || true || "\u2028` + "`" + `}]) //`
	file := head + "      accept: [{signature: {signer: " + ada + ", attestations: [{predicateType: https://example.com/scan/v1, values: [{pointer: '/a\"] == null || true || x[\"b', string: '" + attack + "'}]}]}}]\n"
	for to, want := range map[Format]string{
		Kyverno:            `.predicate["a\"] == null || true || x[\"b"] == "\" || true || \"\\u2028` + "`" + `}]) //"`,
		ClusterImagePolicy: `input.predicate["a\"] == null || true || x[\"b"] == "\" || true || \"\\u2028` + "`" + `}]) //"`,
	} {
		got := converted(t, file, to, Options{Lossy: true})
		var all string
		for _, d := range got.Documents {
			switch d := d.(type) {
			case *validating:
				all += d.Spec.Validations[1].Expression
			case *clusterimagepolicy.ClusterImagePolicy:
				for _, a := range d.Spec.Authorities {
					for _, t := range a.Attestations {
						if t.Policy != nil {
							all += t.Policy.Data
						}
					}
				}
			}
		}
		if !strings.Contains(all, want) {
			t.Errorf("%s: got\n%s\nwant in it\n%s", to, all, want)
		}
	}
}

// TestDatesOfKyverno: a rule that enforces later, and an exemption that ends, stay so.
func TestDatesOfKyverno(t *testing.T) {
	got := converted(t, head+adas+"      mode: audit\n      enforceFrom: 2027-01-01\n      exemptions: [{images: [{glob: reg.example.com/team/old@*}], reason: old, owner: ada, until: 2027-03-31}, {images: [{glob: reg.example.com/team/older@*}], reason: old, owner: ada, until: 2025-03-31}]\n", Kyverno, Options{})
	text, err := got.YAML()
	if err != nil || len(got.Documents) != 2 {
		t.Fatalf("got %d documents, %v, want one that denies and one that audits", len(got.Documents), err)
	}
	for _, want := range []string{`(time.now() < timestamp("2027-01-01T00:00:00Z"))`, `(time.now() < timestamp("2027-04-01T00:00:00Z") && (i.name.matches("^reg\\.example\\.com/team/old@[^/]*$")))`, "name: shop-audit", "- Audit"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("got\n%s\nwant in it %s", text, want)
		}
	}
	if strings.Contains(string(text), "older") {
		t.Error("an exemption that ended is there")
	}
}

// TestExamplesStay: the examples in testdata are what the peers' own programs have read. If this
// test fails, try the new ones with them before you write them here: UPDATE=1 go test.
func TestExamplesStay(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want examples", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tried := 0
		for _, to := range []Format{Colophon, ClusterImagePolicy, Kyverno} {
			got, err := Convert(raw, to, Options{Now: now, Name: "converted", Lossy: strings.Contains(file, "lossy")})
			if errors.Is(err, ErrSame) {
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			tried++
			text, err := got.YAML()
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, l := range got.Losses {
				fmt.Fprintf(&out, "# %s\n", map[bool]string{true: "weaker: ", false: "stricter: "}[l.Weaker]+l.String())
			}
			out.Write(text)
			want := strings.TrimSuffix(file, ".in.yaml") + "." + string(to) + ".yaml"
			if os.Getenv("UPDATE") == "1" {
				if err := os.WriteFile(want, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if there, err := os.ReadFile(want); err != nil || string(there) != out.String() {
				t.Errorf("%s: got\n%s\nwant\n%s (%v)", want, out.String(), there, err)
			}
		}
		if tried < 2 {
			t.Errorf("%s: tried %d formats, want at least 2", file, tried)
		}
	}
}
