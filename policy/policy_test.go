package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/policy"
)

// from returns Provenance of one source.
func from(t *testing.T, uri string) policy.Provenance {
	t.Helper()
	s, err := policy.ParseSource(uri)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Provenance{Source: s}
}

func anySource() policy.Provenance { return policy.Provenance{Source: policy.AnySource()} }

// TestVectors holds the examples of the format's specification.
func TestVectors(t *testing.T) {
	for dir, good := range map[string]bool{"good": true, "bad": false} {
		files, err := filepath.Glob("../spec/policy/" + dir + "/*.json")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: got %d vectors, %v", dir, len(files), err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			p, err := policy.Parse(raw)
			if (err == nil) != good {
				t.Errorf("%s: got %v", f, err)
			}
			if !good && !reflect.DeepEqual(p, policy.Policy{}) {
				t.Errorf("%s: got %+v beside the error, want the zero Policy", f, p)
			}
		}
	}
}

// TestParse: each kind of document is read as what it demands.
func TestParse(t *testing.T) {
	app := from(t, "https://git.example.com/a")
	ada := policy.Identity{Name: "ada", Issuer: "https://idp.example.com"}
	const byAda = `{"identity":"ada","issuer":"https://idp.example.com"}`
	tagged, versioned := app, anySource()
	tagged.Ref = policy.RefName("v1")
	versioned.Ref = policy.Version("v1")
	verifier := policy.Verifier{ID: "https://v.example.com", Signer: ada}
	for doc, want := range map[string]policy.Policy{
		`{"source":"git.example.com/a"}`:                            {Origin: policy.BuilderProvenance{Provenance: app}},
		`{"source":"git.example.com/a","ref":"v1","signer":null}`:   {Origin: policy.BuilderProvenance{Provenance: tagged}},
		`{"anySource":true,"version":"v1","noSBOM":true}`:           {Origin: policy.BuilderProvenance{Provenance: versioned, SBOM: policy.SBOMOptional}},
		`{"anySource":true,"completeSBOM":true}`:                    {Origin: policy.BuilderProvenance{Provenance: anySource(), CompleteSBOM: true}},
		`{"anySource":true,"contents":true}`:                        {Origin: policy.BuilderProvenance{Provenance: anySource(), SBOM: policy.SBOMContents}},
		`{"anySource":true,"contents":true,"noSBOM":true}`:          {Origin: policy.BuilderProvenance{Provenance: anySource(), SBOM: policy.SBOMContents}},
		`{"source":"git.example.com/a","signer":` + byAda + `}`:     {Origin: policy.SignerProvenance{Provenance: app, Signer: ada}},
		`{"source":"git.example.com/a","root":"https://a.example"}`: {Origin: policy.BuilderProvenance{Provenance: app, Root: "https://a.example"}},
		`{"signer":{"identity":"ada","issuer":"https://idp.example.com","root":"https://a.example"}}`: {
			Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "ada", Issuer: "https://idp.example.com", Root: "https://a.example"}}},
		`{"signer":` + byAda + `,"freshTrust":true}`:                  {Origin: policy.SignatureOnly{Signer: ada}, FreshTrust: true},
		`{"anySource":true,"attestations":[{"predicateType":"a:b"}]}`: {Origin: policy.BuilderProvenance{Provenance: anySource()}, Attestations: []policy.Attestation{{PredicateType: "a:b"}}},
		`{"verifiers":[{"id":"https://v.example.com","signer":` + byAda + `}],"minLevel":2}`: {
			Origin: policy.SummaryOnly{MinLevel: 2}, Verifiers: []policy.Verifier{verifier}},
		`{"verifiers":[{"id":"https://v.example.com","signer":` + byAda + `}],"source":"git.example.com/a"}`: {
			Origin: policy.BuilderProvenance{Provenance: app}, Verifiers: []policy.Verifier{verifier}},
	} {
		if got, err := policy.Parse([]byte(doc)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", doc, got, err, want)
		}
	}
}

// TestParseRefuses: what a document can still express, and no policy.
func TestParseRefuses(t *testing.T) {
	signer := func(s string) string { return `{"signer":{` + s + `}}` }
	verifier := func(s string) string { return `{"verifiers":[{"id":"https://v.example.com",` + s + `}]}` }
	const ada = `"identity":"ada","issuer":"https://idp.example.com"`
	const commit = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
	for _, tt := range []struct{ json, want string }{
		{`{}`, "names no source"},
		{`{"verifiers":[],"signer":null,"source":"","anySource":false}`, "names no source"},
		{`{"source":"git.example.com/a","anySource":true}`, "and anySource"},
		{`{"source":"git.example.com/a","Source":"git.example.com/b"}`, "Source"},
		{`{"source":"git.example.com/a","source":"git.example.com/b"}`, "duplicate"},
		{`{"source":"git.example.com/a","sauce":1}`, "sauce"},
		{`{"source":"nowhere"}`, "source"},
		{`{"source":"git.example.com/a","ref":"v1","version":"v1"}`, `ref "v1" and version "v1"`},
		{`{"source":"git.example.com/a","commit":"381e42a"}`, "40 or 64"},
		{`{"source":"git.example.com/a","commit":"` + strings.Repeat("A", 40) + `"}`, "lower-case"},
		{`{"source":"git.example.com/a","minLevel":4}`, "got 4, want 0 to 3"},
		{`{"source":"git.example.com/a","minLevel":-1}`, "got -1, want 0 to 3"},
		{`{"source":"git.example.com/a","builders":["x"]}`, "builder id"},
		{`{"source":"git.example.com/a","builders":["x"],"signer":{` + ada + `}}`, "want a URL"},
		{`{"source":"git.example.com/a","levels":{"https://p.example.com/builders/x":1}}`, "want one of the builders"},
		{`{"anySource":true,"builders":["https://p.example.com/builders/x"],"levels":{"https://p.example.com/builders/x":4}}`, "got 4, want 0 to 3"},
		{`{"anySource":true,"contents":true,"signer":{` + ada + `}}`, "contents"},
		{`{"signer":{` + ada + `},"contents":true}`, "contents"},
		{`{"signer":{` + ada + `},"ref":"main","commit":"` + commit + `","minLevel":1}`, "ref, commit, minLevel"},
		{`{"signer":{` + ada + `},"minLevel":-1}`, "minLevel"},
		{strings.Replace(verifier(`"signer":{`+ada+`}`), `{"ver`, `{"version":"v1","requireSource":true,"ver`, 1), "version, requireSource"},
		{strings.Replace(verifier(`"signer":{`+ada+`}`), `{"ver`, `{"attestations":[{"predicateType":"a:b"}],"ver`, 1), "attestations"},
		{strings.Replace(verifier(`"signer":{`+ada+`}`), `{"ver`, `{"minLevel":4,"ver`, 1), "got 4, want 0 to 3"},
		{`{"anySource":true,"attestations":[` + strings.TrimSuffix(strings.Repeat(`{"predicateType":"a:b"},`, 33), ",") + `]}`, "got 33 attestations"},
		{`{"anySource":true,"verifiers":[` + strings.TrimSuffix(strings.Repeat(`{"id":"a:b","signer":{`+ada+`}},`, 17), ",") + `]}`, "got 17 verifiers"},
		{`{"anySource":true,"attestations":[{"predicateType":"x"}]}`, "want a URI"},
		{`{"anySource":true,"attestations":[{"predicateType":"a:b","equals":{"/a":{}}}]}`, "want a string, number, boolean or null"},
		{`{"anySource":true,"attestations":[{"predicateType":"a:b","equals":{"/a":1.5}}]}`, "whole number"},
		{`{"anySource":true,"attestations":[{"predicateType":"a:b","signer":{}}]}`, "want an identity and its issuer, or a key"},
		{signer(``), "want an identity and its issuer, or a key"},
		{signer(ada + `,"key":"x"`), "want an identity and its issuer, or a key"},
		{signer(`"key":"x"`), "policy: key"},
		{signer(`"identity":"ada"`), "want identity and issuer"},
		{signer(`"issuer":"https://idp.example.com"`), "want identity and issuer"},
		{signer(`"identityRegexp":"a"`), "want identity and issuer"},
		{signer(ada + `,"identityRegexp":"a"`), "identity and identityRegexp"},
		{signer(`"identityRegexp":"a","key":"x"`), "want an identity and its issuer, or a key"},
		{signer(`"identityRegexp":"[","issuer":"x"`), "policy: identity"},
		{signer(`"identityRegexp":"a)|(?:b","issuer":"x"`), "policy: identity"},
		{signer(ada + `,"insecureNoLog":true`), "insecureNoLog: only a key"},
		{verifier(`"signer":{}`), "want an identity and its issuer, or a key"},
		{verifier(`"signer":{` + ada + `},"maxAge":"0s"`), "want more than 0s"},
		{verifier(`"signer":{` + ada + `},"maxAge":"x"`), "maxAge"},
		{verifier(`"signer":{` + ada + `},"resource":"x"`), "want a URI"},
		{verifier(`"signer":{` + ada + `},"levels":["FAILED"]`), "FAILED"},
	} {
		if _, err := policy.Parse([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}

// TestCheck: what the types let through is refused, and pointers, which nothing
// would look for.
func TestCheck(t *testing.T) {
	ada := policy.Identity{Name: "ada", Issuer: "https://idp.example.com"}
	verifiers := []policy.Verifier{{ID: "https://v.example.com", Signer: ada}}
	with := func(change func(*policy.Provenance)) policy.Policy {
		p := from(t, "git.example.com/a")
		change(&p)
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: p}}
	}
	name := policy.RefName("main")
	for what, p := range map[string]policy.Policy{
		"nothing":                   {},
		"verifiers, and no origin":  {Verifiers: verifiers},
		"no source":                 {Origin: policy.BuilderProvenance{}},
		"no source, but a signer":   {Origin: policy.SignerProvenance{Signer: ada}},
		"no signer":                 {Origin: policy.SignerProvenance{Provenance: anySource()}},
		"a signature of nobody":     {Origin: policy.SignatureOnly{}},
		"no name":                   {Origin: policy.SignatureOnly{Signer: policy.Identity{Issuer: "https://idp.example.com"}}},
		"no issuer":                 {Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "ada"}}},
		"an empty pattern":          {Origin: policy.SignatureOnly{Signer: policy.Pattern{}}},
		"an empty key":              {Origin: policy.SignatureOnly{Signer: policy.Key{InsecureNoLog: true}}},
		"a summary of nobody":       {Origin: policy.SummaryOnly{MinLevel: 1}},
		"a summary of level 4":      {Origin: policy.SummaryOnly{MinLevel: 4}, Verifiers: verifiers},
		"a verifier without signer": {Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{{ID: "https://v.example.com"}}},
		"a verifier of no age":      {Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{{ID: "https://v.example.com", Signer: ada, MaxAge: -time.Hour}}},
		"another SBOM":              {Origin: policy.BuilderProvenance{Provenance: anySource(), SBOM: 3}},
		"an empty ref":              with(func(p *policy.Provenance) { p.Ref = policy.RefName("") }),
		"an empty version":          with(func(p *policy.Provenance) { p.Ref = policy.Version("") }),
		"a pointer to a ref":        with(func(p *policy.Provenance) { p.Ref = &name }),
		"a pointer to an origin":    {Origin: &policy.SignatureOnly{Signer: ada}},
		"a pointer to a signer":     {Origin: policy.SignatureOnly{Signer: &ada}},
	} {
		if p.Check() == nil {
			t.Errorf("%s: passes", what)
		}
	}
	if err := with(func(*policy.Provenance) {}).Check(); err != nil {
		t.Error(err)
	}
}

// TestMarshalCoversEveryField: caches are keyed by the JSON of a policy, so that
// whatever it demands must show there.
func TestMarshalCoversEveryField(t *testing.T) {
	ada := policy.Identity{Name: "ada", Issuer: "i"}
	pattern, err := policy.ParsePattern("ada", "i")
	if err != nil {
		t.Fatal(err)
	}
	other, err := policy.ParsePattern("ada", "j")
	if err != nil {
		t.Fatal(err)
	}
	key := parseKey(t, publicKey)
	unlogged := key
	unlogged.InsecureNoLog = true
	patternUnder, keyUnder := pattern, key
	patternUnder.Root, keyUnder.Root = "https://a", "https://a"
	with := func(change func(*policy.Provenance)) policy.Policy {
		p := from(t, "git.example.com/a")
		change(&p)
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: p}}
	}
	attested := func(a policy.Attestation) policy.Policy {
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: anySource()}, Attestations: []policy.Attestation{a}}
	}
	verified := func(v policy.Verifier) policy.Policy {
		v.Signer = ada
		return policy.Policy{Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{v}}
	}
	exact, empty := policy.ExactValue("a"), policy.ExactValue("")
	matching, err := policy.ParseValue("a")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, p := range []policy.Policy{
		{Origin: policy.BuilderProvenance{Provenance: anySource()}},
		{Origin: policy.BuilderProvenance{Provenance: anySource()}, FreshTrust: true},
		{Origin: policy.BuilderProvenance{Provenance: anySource(), SBOM: policy.SBOMOptional}},
		{Origin: policy.BuilderProvenance{Provenance: anySource(), SBOM: policy.SBOMContents}},
		{Origin: policy.SignerProvenance{Provenance: anySource(), Signer: ada}},
		{Origin: policy.SignatureOnly{Signer: ada}},
		{Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "ada", Issuer: "j"}}},
		{Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "bob", Issuer: "i"}}},
		{Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "ada", Issuer: "i", Root: "https://a"}}},
		{Origin: policy.SignatureOnly{Signer: patternUnder}},
		{Origin: policy.SignatureOnly{Signer: keyUnder}},
		{Origin: policy.BuilderProvenance{Provenance: anySource(), Root: "https://a"}},
		{Origin: policy.SignatureOnly{Signer: pattern}},
		{Origin: policy.SignatureOnly{Signer: other}},
		{Origin: policy.SignatureOnly{Signer: key}},
		{Origin: policy.SignatureOnly{Signer: unlogged}},
		{Origin: policy.SummaryOnly{MinLevel: 1}, Verifiers: []policy.Verifier{{Signer: ada}}},
		{Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{{Signer: key}}},
		with(func(*policy.Provenance) {}),
		with(func(p *policy.Provenance) { p.Source = from(t, "git.example.com/b").Source }),
		with(func(p *policy.Provenance) { p.Ref = policy.RefName("v1") }),
		with(func(p *policy.Provenance) { p.Ref = policy.Version("v1") }),
		with(func(p *policy.Provenance) { p.Commit = "c" }),
		with(func(p *policy.Provenance) { p.Inputs = map[string]string{"a": "b"} }),
		with(func(p *policy.Provenance) { p.Recipe.Any = true }),
		with(func(p *policy.Provenance) { p.Recipe.Image = "a" }),
		with(func(p *policy.Provenance) { p.Recipe.Dockerfile = &exact }),
		with(func(p *policy.Provenance) { p.Recipe.Dockerfile = &matching }),
		with(func(p *policy.Provenance) { p.Recipe.Dockerfile = &empty }),
		with(func(p *policy.Provenance) { p.Recipe.Target = &exact }),
		with(func(p *policy.Provenance) { p.Recipe.Package = &exact }),
		with(func(p *policy.Provenance) { p.Recipe.BuildArgs = map[string]policy.Value{"a": exact} }),
		with(func(p *policy.Provenance) { p.Recipe.BuildArgs = map[string]policy.Value{"a": matching} }),
		with(func(p *policy.Provenance) { p.Recipe.Lock = "sha256:aa" }),
		with(func(p *policy.Provenance) { p.Recipe.Hermetic = true }),
		with(func(p *policy.Provenance) { p.MinLevel = 1 }),
		with(func(p *policy.Provenance) { p.Builders = []string{"b"} }),
		with(func(p *policy.Provenance) { p.Levels = map[string]int{"b": 1} }),
		with(func(p *policy.Provenance) { p.RequireSource = true }),
		attested(policy.Attestation{PredicateType: "a:b"}),
		attested(policy.Attestation{PredicateType: "a:c"}),
		attested(policy.Attestation{PredicateType: "a:b", Signer: ada}),
		attested(policy.Attestation{PredicateType: "a:b", Equals: map[string]any{"/a": "b"}}),
		verified(policy.Verifier{}),
		verified(policy.Verifier{ID: "a:b"}),
		verified(policy.Verifier{Resource: "a:b"}),
		verified(policy.Verifier{PolicyDigest: "sha256:aa"}),
		verified(policy.Verifier{Levels: []string{"SLSA_SOURCE_LEVEL_2"}}),
		verified(policy.Verifier{MaxAge: time.Hour}),
	} {
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if before, twice := seen[string(raw)]; twice {
			t.Errorf("policies %d and %d are both written as %s", before, i, raw)
		}
		seen[string(raw)] = i
	}
	for what, p := range map[string]policy.Policy{
		"a Source level": {Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: policy.AnySource(), SourceTrack: policy.SourceTrack{MinLevel: 3}}}},
		"nothing":        {}, "a pointer": {Origin: &policy.SummaryOnly{}}, "a pointer to a signer": {Origin: policy.SignatureOnly{Signer: &ada}},
		"a verifier without a signer": {Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{{}}},
		"what must be absent":         {Origin: policy.SummaryOnly{}, Absent: []policy.Absent{{PredicateType: "a:b"}}},
		"an age":                      {Origin: policy.SummaryOnly{}, MaxTrustAge: 1},
	} {
		if raw, err := json.Marshal(p); err == nil {
			t.Errorf("%s: got %s, want an error", what, raw)
		}
	}
}

// TestMarshalKnowsEveryField fails when a type grows: the test above then needs a
// line for the new field.
func TestMarshalKnowsEveryField(t *testing.T) {
	for typ, want := range map[reflect.Type]string{
		reflect.TypeFor[policy.Policy]():            "Origin Attestations Verifiers Absent MaxTrustAge Witnesses FreshTrust",
		reflect.TypeFor[policy.BuilderProvenance](): "Provenance SBOM CompleteSBOM Root",
		reflect.TypeFor[policy.SignerProvenance]():  "Provenance Signer",
		reflect.TypeFor[policy.SignatureOnly]():     "Signer",
		reflect.TypeFor[policy.SummaryOnly]():       "MinLevel",
		reflect.TypeFor[policy.Provenance]():        "Source Ref Commit Inputs Recipe MinLevel Builders Levels RequireSource SourceTrack SourceVerifiers",
		reflect.TypeFor[policy.Recipe]():            "Any Image Context Dockerfile Target BuildArgs Package Lock Hermetic",
		reflect.TypeFor[policy.Value]():             "exact expr pattern",
		reflect.TypeFor[policy.Source]():            "uri any",
		reflect.TypeFor[policy.Attestation]():       "PredicateType Signer Equals",
		reflect.TypeFor[policy.Verifier]():          "ID Signer Resource PolicyDigest Levels MaxAge",
		reflect.TypeFor[policy.Witnesses]():         "AtLeast Keys",
		reflect.TypeFor[policy.Identity]():          "Name Issuer Root",
		reflect.TypeFor[policy.Pattern]():           "Root expr name issuer",
		reflect.TypeFor[policy.Key]():               "InsecureNoLog Root pem public",
	} {
		var names []string
		for field := range typ.Fields() {
			names = append(names, field.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has the fields %q, and this test knows %q", typ, got, want)
		}
	}
}

// TestRoots: the trust roots that a policy names, wherever it names them.
func TestRoots(t *testing.T) {
	p, err := policy.Parse([]byte(`{"anySource":true,"root":"https://a.example",
		"attestations":[{"predicateType":"a:b","signer":{"identity":"ada","issuer":"https://idp.example.com","root":"https://b.example"}},{"predicateType":"a:c"}],
		"verifiers":[{"id":"a:v","signer":{"identityRegexp":"ada","issuer":"https://idp.example.com","root":"https://c.example"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Roots(), " "); got != "https://a.example https://b.example https://c.example" || p.Root() != "https://a.example" {
		t.Errorf("got %q and %q", got, p.Root())
	}
	key := parseKey(t, publicKey)
	key.Root = "https://d.example"
	if got := (policy.Policy{Origin: policy.SignatureOnly{Signer: key}}).Root(); got != "https://d.example" {
		t.Errorf("got %q", got)
	}
	for _, doc := range []string{
		`{"anySource":true,"root":"a"}`, `{"anySource":true,"root":"http://a.example"}`, `{"anySource":true,"root":"sha256:ab"}`,
		`{"root":"https://a.example","verifiers":[{"id":"a:v","signer":{"identity":"ada","issuer":"https://idp.example.com"}}]}`,
		`{"signer":{"identity":"ada","issuer":"https://idp.example.com","root":"x"}}`,
		`{"anySource":true,"attestations":[{"predicateType":"a:b","signer":{"identity":"ada","issuer":"https://idp.example.com","root":"x"}}]}`,
	} {
		if p, err := policy.Parse([]byte(doc)); err == nil {
			t.Errorf("%s: got %+v, want an error", doc, p)
		}
	}
}
