package attest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
)

// A statement that NewStatement writes can be parsed again.
func TestNewStatement(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	raw, err := attest.NewStatement("reg/app", digest, attest.PredicateSign, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.ParseStatement(raw)
	if err != nil || s.Subject[0].Digest["sha256"] != digest || s.PredicateType != attest.PredicateSign || string(s.Predicate) != "{}" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestParseStatementRefuses(t *testing.T) {
	const subject = `"subject":[{"digest":{"sha256":"00"}}]`
	for _, tt := range []struct{ json, want string }{
		{`{"_type":"https://in-toto.io/Statement/v0.1",` + subject + `}`, `got "https://in-toto.io/Statement/v0.1"`},
		{`{"_type":"https://in-toto.io/Statement/v1","subject":[]}`, "no subject"},
		{`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x"}]}`, "no digest"},
		{`{"_type":"https://in-toto.io/Statement/v1",` + subject + `,` + subject + `}`, "duplicate"},
		{`{"_TYPE":"https://in-toto.io/Statement/v1",` + subject + `}`, "another case"},
		{`{"_type":"https://in-toto.io/Statement/v1",` + subject + `} {}`, "it is not JSON here"},
	} {
		if _, err := attest.ParseStatement([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}

func TestParseProvenanceRefuses(t *testing.T) {
	for _, tt := range []struct{ json, want string }{
		{`{}`, "no builder id"},
		{`{"runDetails":{"builder":{"id":"x"}}}`, "no build type"},
		{`{"runDetails":{"builder":{"id":"x","id":"y"}}}`, "duplicate"},
	} {
		if _, err := attest.ParseProvenance([]byte(tt.json)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.json, err, tt.want)
		}
	}
}

// TestParseProvenance02: builder and build type are required.
func TestParseProvenance02(t *testing.T) {
	if p, err := attest.ParseProvenance02([]byte(`{"builder":{"id":"https://b.example.com"},"buildType":"https://t.example.com"}`)); err != nil || p.Builder.ID != "https://b.example.com" || p.BuildType != "https://t.example.com" {
		t.Errorf("got %+v, %v", p, err)
	}
	for doc, want := range map[string]string{
		`{"builder":{"id":""},"buildType":"x"}`:     "no builder id",
		`{"builder":{"id":"x"}}`:                    "no build type",
		`{"builder":{"id":"x","id":"y"}}`:           "duplicate",
		`[]`:                                        "provenance:",
		`{"builder":{"id":"x"},"buildType":"x"} {}`: "provenance:",
	} {
		if p, err := attest.ParseProvenance02([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %q in it", doc, p, err, want)
		}
	}
}

// TestNumber: a number or digits in a string, and nothing else.
func TestNumber(t *testing.T) {
	for doc, want := range map[string]attest.Number{`12`: "12", `"12"`: "12", `null`: "", `""`: ""} {
		n := attest.Number("before")
		if err := json.Unmarshal([]byte(doc), &n); err != nil || n != want && doc != "null" {
			t.Errorf("%s: got %q, %v, want %q", doc, n, err, want)
		}
		if err := n.UnmarshalJSON([]byte(doc)); err != nil || n != want {
			t.Errorf("%s: got %q, %v, want %q", doc, n, err, want)
		}
	}
	for _, doc := range []string{`-1`, `1.5`, `"x"`, `true`, `{}`, `"1 "`} {
		var n attest.Number
		if err := n.UnmarshalJSON([]byte(doc)); err == nil || n != "" {
			t.Errorf("%s: got %q, %v, want an error", doc, n, err)
		}
	}
}

// TestStatementTypes: v1 and v0.1, with subjects that have digests.
func TestStatementTypes(t *testing.T) {
	subject := `"subject":[{"name":"a","digest":{"sha256":"00"}}],"predicateType":"a:b","predicate":{}`
	for doc, want := range map[string]string{
		`{"_type":"https://in-toto.io/Statement/v1",` + subject + `}`:   "",
		`{"_type":"https://in-toto.io/Statement/v0.1",` + subject + `}`: "",
		`{"_type":"https://in-toto.io/Statement/v2",` + subject + `}`:   "statement type",
		`{` + subject + `}`: "statement type",
		`{"_type":"https://in-toto.io/Statement/v1","subject":[]}`:                "no subject",
		`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a"}]}`:    "has no digest",
		`{"_type":"https://in-toto.io/Statement/v1","_type":"x",` + subject + `}`: "duplicate",
	} {
		if s, err := attest.ParseAnyStatement([]byte(doc)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %q in it", doc, s, err, want)
		}
	}
	if raw, err := attest.NewStatement("a", "00", "a:b", func() {}); err == nil {
		t.Errorf("a predicate that is no JSON: got %s", raw)
	}
}

func TestGitURI(t *testing.T) {
	for ref, want := range map[string]string{"": "git+https://git.example.com/a", "refs/heads/main": "git+https://git.example.com/a@refs/heads/main"} {
		if got := attest.GitURI("https://git.example.com/a", ref); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBundleVersion(t *testing.T) {
	for mediaType, want := range map[string]int{
		attest.BundleMediaType: 3, "application/vnd.dev.sigstore.bundle+json;version=0.1": 1, "application/vnd.dev.sigstore.bundle.v0.2+json": 2,
		"application/vnd.dev.sigstore.bundle.v0.4+json": 0, "": 0,
	} {
		if got := attest.BundleVersion(mediaType); got != want || attest.IsBundleMediaType(mediaType) != (want > 0) {
			t.Errorf("%q: got %d, want %d", mediaType, got, want)
		}
	}
}

// TestHostDependency: the host of a build is what the platform's own dependency names, and no other one.
func TestHostDependency(t *testing.T) {
	for _, c := range []struct {
		dependencies []attest.ResourceDescriptor
		want         string
	}{
		{[]attest.ResourceDescriptor{{Name: "buildkitd"}, attest.HostDependency("build1.example.com")}, "build1.example.com"},
		{[]attest.ResourceDescriptor{attest.HostDependency("::1")}, "::1"},
		{[]attest.ResourceDescriptor{{Name: "other", URI: "dns:build1"}, {Name: "host", URI: "https://build1"}}, ""},
		{nil, ""},
	} {
		if got := (attest.BuilderInfo{BuilderDependencies: c.dependencies}).Host(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.dependencies, got, c.want)
		}
	}
}
