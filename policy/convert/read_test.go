package convert

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

const cipHead = `apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata: {name: app}
spec:
  images: [{glob: "reg.example.com/team/**"}]
`

const keylessAda = `keyless: {url: "https://fulcio.sigstore.dev", identities: [{issuer: "https://accounts.example.com", subject: ada@example.com}]}`

// one returns the only rule of a result.
func one(t *testing.T, got *Result) policy.RuleDocument {
	t.Helper()
	d := got.Documents[0].(*policy.SetDocument)
	if len(d.Spec.Rules) != 1 {
		t.Fatalf("got %d rules, want one", len(d.Spec.Rules))
	}
	return d.Spec.Rules[0]
}

// TestReadAuthorities: what an authority demands is demanded, or an alternative less is there,
// or the list says that the result is weaker.
func TestReadAuthorities(t *testing.T) {
	key := `key: {data: "` + pem + `"}`
	for name, tt := range map[string]struct {
		authorities string // and what follows them
		accept      int    // alternatives
		member      string // of a loss; empty: only that unmatched is deny
		weaker      bool
	}{
		"identity":            {`[{` + keylessAda + `}]`, 1, "", false},
		"two identities":      {`[{keyless: {url: "https://fulcio.sigstore.dev", identities: [{issuer: "https://a.example.com", subject: a}, {issuer: "https://b.example.com", subjectRegExp: b}]}}]`, 2, "", false},
		"issuer, literally":   {`[{keyless: {url: "https://fulcio.sigstore.dev", identities: [{issuerRegExp: "^https://a\\.example\\.com$", subject: a}]}}]`, 1, "", false},
		"any issuer":          {`[{keyless: {url: "https://fulcio.sigstore.dev", identities: [{issuerRegExp: "https://a\\.example\\.com", subject: a}]}}]`, 0, "authorities[0].keyless.identities[0].issuerRegExp", false},
		"key":                 {`[{` + key + `}]`, 1, "", false},
		"key and log":         {`[{` + key + `, ctlog: {url: "https://rekor.sigstore.dev"}}]`, 1, "", false},
		"key and timestamp":   {`[{` + key + `, rfc3161timestamp: {}}]`, 1, "authorities[0].rfc3161timestamp", true},
		"log and timestamp":   {`[{` + key + `, ctlog: {}, rfc3161timestamp: {}}]`, 1, "authorities[0].rfc3161timestamp", true},
		"name and timestamp":  {`[{` + keylessAda + `, rfc3161timestamp: {}}]`, 1, "authorities[0].rfc3161timestamp", true},
		"key elsewhere":       {`[{key: {kms: "awskms:///alias/app"}}]`, 0, "authorities[0].key", false},
		"secret":              {`[{key: {secretRef: {name: app}}}]`, 0, "authorities[0].key", false},
		"another hash":        {`[{key: {data: "` + pem + `", hashAlgorithm: sha512}}]`, 0, "authorities[0].key.hashAlgorithm", false},
		"unknown trust root":  {`[{` + key + `, ctlog: {trustRootRef: mine}}]`, 0, "authorities[0].trustRootRef", false},
		"another CA":          {`[{keyless: {url: "https://fulcio.example.com", identities: [{issuer: "https://a.example.com", subject: a}]}}]`, 0, "authorities[0]", false},
		"another log":         {`[{` + key + `, ctlog: {url: "https://rekor.example.com"}}]`, 0, "authorities[0]", false},
		"log of another":      {`[{` + keylessAda + `, ctlog: {url: "https://rekor.example.com"}}]`, 0, "authorities[0]", false},
		"two trust roots":     {`[{` + keylessAda + `, ctlog: {trustRootRef: mine}}]`, 0, "authorities[0]", false},
		"static pass":         {`[{static: {action: pass}}]`, 0, "authorities[0].static", false},
		"static fail":         {`[{static: {action: fail, message: not these}}]`, 0, "", false},
		"pass or an identity": {`[{static: {action: pass}}, {` + keylessAda + `}]`, 1, "authorities[0].static", false},
		"elsewhere":           {`[{` + keylessAda + `, source: [{oci: reg.example.com/signatures}]}]`, 1, "authorities[0].source", false},
		"attestation":         {`[{` + keylessAda + `, attestations: [{name: a, predicateType: vuln}]}]`, 1, "authorities[0].attestations", false},
		"rego":                {`[{` + keylessAda + `, attestations: [{name: a, predicateType: vuln, policy: {type: rego, data: "package sigstore"}}]}]`, 1, "authorities[0].attestations[0].policy", true},
		"remote policy":       {`[{` + keylessAda + `, attestations: [{name: a, predicateType: vuln, policy: {type: cue, remote: {url: "https://example.com/a.cue", sha256sum: "` + strings.Repeat("a", 64) + `"}}}]}]`, 1, "authorities[0].attestations[0].policy", true},
		"policy of all":       {`[{` + keylessAda + `}]` + "\n  policy: {type: cue, data: 'authorityMatches: {}'}", 1, "policy", true},
		"workloads":           {`[{` + keylessAda + `}]` + "\n  match: [{group: apps, version: v1, resource: deployments}]", 1, "match", true},
		"no authorities":      {`[]`, 0, "", false},
	} {
		got := converted(t, cipHead+"  authorities: "+tt.authorities+"\n", Colophon, Options{})
		rule := one(t, got)
		refuses := len(rule.Conditions) == 1 && rule.Conditions[0].Expression == "false"
		if refuses != (tt.accept == 0) || !refuses && len(rule.Accept) != tt.accept {
			t.Errorf("%s: got %d alternatives, refuses all: %t, want %d", name, len(rule.Accept), refuses, tt.accept)
		}
		i := slices.IndexFunc(got.Losses, func(l Loss) bool { return l.Member == tt.member && l.Weaker == tt.weaker })
		if i < 0 || got.Weaker() != tt.weaker {
			t.Errorf("%s: got %+v, want %q, weaker: %t", name, got.Losses, tt.member, tt.weaker)
		}
	}
}

// TestReadPredicateTypes: of several attestations each is demanded, by the type that its name
// stands for; provenance of one type is not enough for another.
func TestReadPredicateTypes(t *testing.T) {
	for names, want := range map[string]string{
		"slsaprovenance":                 "https://slsa.dev/provenance/v0.2",
		"slsaprovenance slsaprovenance1": "https://slsa.dev/provenance/v0.2 https://slsa.dev/provenance/v1",
		"slsaprovenance02 openvex":       "https://slsa.dev/provenance/v0.2 https://openvex.dev/ns",
	} {
		var all []string
		for i, name := range strings.Fields(names) {
			all = append(all, fmt.Sprintf("{name: a%d, predicateType: %s}", i, name))
		}
		rule := one(t, converted(t, cipHead+"  authorities: [{"+keylessAda+", attestations: ["+strings.Join(all, ", ")+"]}]\n", Colophon, Options{}))
		var got []string
		if p := rule.Accept[0].Provenance; p != nil {
			for _, a := range p.Attestations {
				got = append(got, a.PredicateType)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %s", names, got, want)
		}
	}
}

// TestReadTrustRoots: an authority's trust root is that of a TrustRoot with a TUF repository, or
// what the caller says that it is.
func TestReadTrustRoots(t *testing.T) {
	root := "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: mine}\nspec: {remote: {mirror: 'https://tuf.example.com/', root: e30=}}\n---\n"
	policy := cipHead + `  authorities: [{keyless: {trustRootRef: mine, url: "https://fulcio.example.com", identities: [{issuer: "https://a.example.com", subject: a}]}, ctlog: {trustRootRef: mine}}]` + "\n"
	for file, want := range map[string]string{root + policy: "https://tuf.example.com", policy: "https://mine.example.com"} {
		o := Options{}
		if file == policy {
			o.Roots = map[string]string{"mine": want}
		}
		rule := one(t, converted(t, file, Colophon, o))
		if rule.Accept[0].Signature == nil || rule.Accept[0].Signature.Signer.Certificate.Root != want {
			t.Errorf("got %+v, want the trust root %s", rule.Accept, want)
		}
	}
	if _, err := Convert([]byte(root+policy+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"), Colophon, Options{Now: now, Name: "a"}); err == nil || !strings.Contains(err.Error(), "one kind") {
		t.Errorf("got %v, want an error about a third kind of document", err)
	}
}

// TestReadExemptions: images that are accepted without evidence are exempt, if somebody answers
// for them until a day.
func TestReadExemptions(t *testing.T) {
	rule := one(t, converted(t, cipHead+"  authorities: [{static: {action: pass}}]\n", Colophon, Options{Owner: "ada", Until: "2027-03-31"}))
	if len(rule.Exemptions) != 1 || rule.Exemptions[0].Owner != "ada" || len(rule.Exemptions[0].Images) != 1 || rule.Conditions[0].Expression != "false" {
		t.Errorf("got %+v, want an exemption of all images, and after it none that is accepted", rule)
	}
}

// TestRefusalsStay: a policy that refuses every image does so in each format, and nothing is lost.
func TestRefusalsStay(t *testing.T) {
	theirs := cipHead + "  authorities: [{static: {action: fail, message: not these}}]\n"
	got := converted(t, theirs, Kyverno, Options{})
	if v := got.Documents[0].(*validating).Spec.Validations; got.Weaker() || !strings.HasSuffix(v[1].Expression, "|| (false))") {
		t.Errorf("got %+v, %+v, want a rule that is false", v, got.Losses)
	}
	text, err := converted(t, theirs, Colophon, Options{}).YAML()
	if err != nil {
		t.Fatal(err)
	}
	got = converted(t, string(text), ClusterImagePolicy, Options{})
	if a := got.Documents[0].(*clusterimagepolicy.ClusterImagePolicy).Spec.Authorities; got.Weaker() || len(a) != 1 || a[0].Static == nil || a[0].Static.Action != "fail" || a[0].Static.Message != "not these" {
		t.Errorf("got %+v, %+v, want a policy that fails", a, got.Losses)
	}
}

// TestReadGlobs: a glob that matches no image is left out, and one in capital letters is not.
func TestReadGlobs(t *testing.T) {
	file := strings.Replace(cipHead, `{glob: "reg.example.com/team/**"}`, `{glob: "REG.example.com/team/**"}, {glob: "reg.example.com/app:v1*"}, {glob: "*"}`, 1) + "  authorities: [{" + keylessAda + "}]\n"
	if got := fmt.Sprint(one(t, converted(t, file, Colophon, Options{})).Images); got != "[{reg.example.com/team/**  } {*  }]" {
		t.Errorf("got %s", got)
	}
	// No image has capital letters in its name: in small ones, the rule would accept what no policy is about.
	file = strings.Replace(cipHead, `{glob: "reg.example.com/team/**"}`, `{glob: "*"}, {glob: "reg.example.com/TEAM/**"}, {glob: "**TEAM/**"}`, 1) + "  authorities: [{" + keylessAda + "}]\n"
	if got := fmt.Sprint(one(t, converted(t, file, Colophon, Options{})).Images); got != "[{*  }]" {
		t.Errorf("got %s", got)
	}
	file = strings.Replace(cipHead, "team/**", "app:v1*", 1) + "  authorities: [{" + keylessAda + "}]\n"
	if d := converted(t, file, Colophon, Options{}).Documents[0].(*policy.SetDocument); len(d.Spec.Rules) != 0 {
		t.Errorf("got %+v, want no rule about images that nothing matches", d.Spec.Rules)
	}
}

// TestWhole: an expression that may match a part becomes one that matches the same as a whole.
func TestWhole(t *testing.T) {
	for _, expr := range []string{"a", "^a", "a$", "^a$", "^a|b$", "^(a|b)$", `^a\$`, `a\\$`, "(?i)^A$", "(^a$)", "(?m)^a$", "^a$|^b$", "", "^", "$", "^$", ".*a", `\Aa\z`, "^a.b$", "a\nb"} {
		part, all := regexp.MustCompile(expr), regexp.MustCompile(`\A(?:`+whole(expr)+`)\z`)
		for _, text := range []string{"", "a", "b", "ab", "ba", "xa", "ax", "xax", "a$", `a\`, "A", "a\nb", "x\na\ny", "b\n", "acb", "xacb"} {
			if want, got := part.MatchString(text), all.MatchString(text); got != want {
				t.Errorf("%q as %q, %q: got %t, want %t", expr, whole(expr), text, got, want)
			}
		}
	}
}

// FuzzWhole compares what both expressions match.
func FuzzWhole(f *testing.F) {
	f.Add("^a|b$", "xb")
	f.Add(`(?i)^a$`, "A")
	f.Fuzz(func(t *testing.T, expr, text string) {
		part, err := regexp.Compile(expr)
		if err != nil || len(expr) > 200 {
			return
		}
		all, err := regexp.Compile(`\A(?:` + whole(expr) + `)\z`)
		if err != nil {
			return // too large
		}
		if part.MatchString(text) != all.MatchString(text) {
			t.Errorf("%q as %q, %q: got %t, want %t", expr, whole(expr), text, all.MatchString(text), part.MatchString(text))
		}
	})
}

// TestSimpleCUE: only comparisons of single values are read; all else is not guessed.
func TestSimpleCUE(t *testing.T) {
	const kind = "https://example.com/scan/v1"
	for text, want := range map[string]string{
		`predicateType: "https://example.com/scan/v1"`:                                                   "",
		"// text\npredicate: {\n\tresult: \"PASSED\"\n\tcritical: 0\n\tok: true, none: null\n}\n":        `/result="PASSED" /critical=0 /ok=true /none=null`,
		`predicate: scan: "result/of": "PASSED"`:                                                         `/scan/result~1of="PASSED"`,
		"// isn't it?\npredicate: a: 1 // [yes]":                                                         `/a=1`,
		`predicate: low: -3`:                                                                             `/low=-3`,
		"predicateType: \"https://example.com/scan/v1\"\npredicate: {a: {b: 1}}\npredicate: {a: {c: 2}}": `/a/b=1 /a/c=2`,
	} {
		values, ok := simpleCUE(text, kind)
		var got []string
		for _, v := range values {
			got = append(got, v.Pointer+"="+literal(v))
		}
		if !ok || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %t, want %q", text, got, ok, want)
		}
	}
	for _, text := range []string{
		`predicateType: "https://example.com/other/v1"`, `subject: "a"`, `subject: "https://example.com/scan/v1"`, `predicate: a: >3`, `predicate: a: !="b"`, `predicate: a: "b" | "c"`, `predicate: a: string`, `predicate: a: {}`, `predicate: {a: {}, b: 1}`, `predicate: a?: "b"`, `predicate: a!: "b"`,
		`predicate: a: [1]`, `predicate: a: "\(b)"`, `predicate: a: b`, "import \"time\"\npredicate: a: 1", `predicate: a: 1.5`, `predicate: a: 010`, `predicate: a: "b" & "c"`, `predicate: {a: 1`, `predicate: a: 'b'`, `predicate: a: #"b"#`,
		`predicate: a: """`, "predicate: a: 1\npredicate: a: 2", `if true {predicate: a: 1}`, `predicate: "a" "b"`, strings.Repeat("a: ", 100) + "1", "predicate: {" + strings.Repeat("a: 1\n", 100) + "}", `predicate: {...}`, `predicate: a: 9999999999999999999`, "predicate", "predicate:", "/* */ predicate: a: 1", "predicate: a: \"\"\"\n  b\n  \"\"\"", "predicate: a: `b`",
	} {
		if values, ok := simpleCUE(text, kind); ok {
			t.Errorf("%s: got %v, want it not to be read", text, values)
		}
	}
}

// TestSimpleRego: Rego that was written here is read again, and no other.
func TestSimpleRego(t *testing.T) {
	text, n, yes := `a "quoted\n" ]["text`, int64(-3), true
	values := []policy.PredicateDocument{{Pointer: "/a/b~1c/d~0/0/e][", String: &text}, {Pointer: "/x\"y", Integer: &n}, {Pointer: "", Boolean: &yes}, {Pointer: "/z", Null: true}}
	for i := range values {
		written := rego(values[i : i+1])
		got, ok := simpleRego(written)
		if values[i].Pointer == "" || strings.Contains(values[i].Pointer, "][") {
			continue // the whole predicate is compared with nothing, and such names are not read
		}
		if !ok || len(got) != 1 || got[0].Pointer != values[i].Pointer || literal(got[0]) != literal(values[i]) {
			t.Errorf("got %+v, %t, want %+v", got, ok, values[i])
		}
	}
	good := rego(values[1:2])
	for _, bad := range []string{"", "package sigstore", good + " ", strings.Replace(good, "==", "!=", 1), strings.Replace(good, "-3", "3.5", 1), strings.Replace(good, "-3", "[1]", 1), strings.Replace(good, "-3", "-0", 1), strings.Replace(good, `["x\"y"]`, "[01]", 1), strings.Replace(good, "-3", "-3; true", 1), good + good, strings.Replace(good, "default isCompliant = false", "default isCompliant = true", 1)} {
		if got, ok := simpleRego(bad); ok {
			t.Errorf("got %+v of\n%s", got, bad)
		}
	}
}

// TestCUEBounds: more fields than the limit are not read.
func TestCUEBounds(t *testing.T) {
	fields := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf("predicate: f%d: 1\n", i)
		}
		return text
	}
	if _, ok := simpleCUE(fields(maxFields), ""); !ok {
		t.Error("fields up to the limit are not read")
	}
	if _, ok := simpleCUE(fields(maxFields+1), ""); ok {
		t.Error("fields past the limit are read")
	}
}
