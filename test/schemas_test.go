package test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/report"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/spec/schemas"
	"github.com/colophon-build/colophon/test/schematest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const (
	sha256RE = "^sha256:[0-9a-f]{64}$"
	hexRE    = "^[0-9a-f]{64}$"
	commitRE = "^([0-9a-f]{40}|[0-9a-f]{64})$"
)

var (
	level    = schematest.Schema{"minimum": 0, "maximum": 3}
	outcome  = schematest.Schema{"enum": []string{"accepted", "rejected", "undecided"}}
	status   = schematest.Schema{"enum": []string{"holds", "broken", "absent", "unknown", "not asked"}}
	severity = schematest.Schema{"enum": finding.Severities()}
	// exactlyOne is how a type says that its members exclude each other, also in Kubernetes.
	exactlyOne = schematest.Schema{"minProperties": 1, "maxProperties": 1}
	literal    = schematest.Schema{"oneOf": []any{
		schematest.Schema{"type": "string"},
		schematest.Schema{"type": "object", "properties": schematest.Schema{"pattern": schematest.Schema{"type": "string", "minLength": 1}}, "required": []string{"pattern"}, "additionalProperties": false},
	}}
	// custom are types that encode themselves.
	custom = map[reflect.Type]schematest.Schema{
		reflect.TypeFor[[]byte]():               {"type": "string", "contentEncoding": "base64"},
		reflect.TypeFor[policy.DocumentValue](): literal,
		reflect.TypeFor[verify.Outcome]():       outcome,
		reflect.TypeFor[verify.Status]():        status,
	}
)

// formats are those whose types other packages can read; those of the configuration and of
// .colophon.yaml are tested beside their types.
var formats = []schematest.Format{
	{File: "policy.json", Title: "Colophon policy: what a consumer demands of an image (spec/policy)", Type: reflect.TypeFor[policy.Document](), Extra: map[string]schematest.Schema{
		"minLevel": level, "levels": {"additionalProperties": schematest.Schema{"type": "integer", "minimum": 0, "maximum": 3}},
		"commit": {"pattern": commitRE}, "recipe.lock": {"pattern": sha256RE}, "verifiers.policyDigest": {"pattern": sha256RE},
		"attestations": {"maxItems": 32}, "verifiers": {"maxItems": 16}, "attestations.predicateType": {"minLength": 1}, "verifiers.id": {"minLength": 1},
		"attestations.equals": {"propertyNames": schematest.Schema{"pattern": "^(/|$)"}, "additionalProperties": schematest.Schema{"type": []string{"string", "integer", "boolean", "null"}}},
	}},
	{File: "imagepolicy.json", Title: "Colophon policy, version 2: rules about images (spec/policy)", Type: reflect.TypeFor[policy.SetDocument](), Extra: map[string]schematest.Schema{
		"apiVersion": {"const": policy.APIVersion}, "kind": {"enum": []string{policy.KindPolicy, policy.KindNamespacePolicy}},
		"spec.unmatched": {"enum": []string{"deny", "warn", "allow"}}, "spec.rules": {"maxItems": 10_000},
		"spec.rules.mode": {"enum": []string{"audit", "warn", "enforce"}}, "spec.rules.onRunning": {"enum": []string{"report", "evict"}}, "spec.rules.images": {"minItems": 1, "maxItems": 256},
		"spec.rules.accept": {"minItems": 1, "maxItems": 32}, "spec.rules.conditions": {"maxItems": 16}, "spec.rules.exemptions": {"maxItems": 256},
		"spec.rules.accept.summary.verifiers": {"minItems": 1, "maxItems": 16}, "spec.rules.accept.notation.trustStores": {"minProperties": 1},
	}, ByType: map[reflect.Type]schematest.Schema{
		reflect.TypeFor[policy.AcceptDocument](): exactlyOne, reflect.TypeFor[policy.RefDocument](): exactlyOne, reflect.TypeFor[policy.SBOMDocument](): exactlyOne,
		reflect.TypeFor[policy.ValueDocument](): exactlyOne, reflect.TypeFor[policy.RecipeDocument](): exactlyOne, reflect.TypeFor[policy.SignerDocument](): exactlyOne,
		reflect.TypeFor[policy.IdentitiesDocument](): exactlyOne, reflect.TypeFor[policy.RevocationDocument](): exactlyOne,
		reflect.TypeFor[policy.PredicateDocument](): {"minProperties": 2, "maxProperties": 2}, reflect.TypeFor[policy.PatternDocument](): {"minProperties": 1},
	}},
	{File: "lock.json", Title: "Colophon lock, version 1: what a build may fetch (spec/lock/v1)", Type: reflect.TypeFor[builder.Lock](), Extra: map[string]schematest.Schema{
		"version": {"const": 1}, "fetches.sha256": {"pattern": hexRE}, "fetches.request": {"pattern": hexRE}, "fetches.status": {"minimum": 200, "maximum": 499},
		"fetches.size": {"minimum": 0}, "fetches.denied": {"maxLength": 0}, "git.commit": {"pattern": commitRE}, "git": {"minItems": 1},
	}},
	{File: "audit.json", Title: "Colophon audit, version 1: a record of an audit ledger (spec/audit/v1)", Type: reflect.TypeFor[audit.Record](), Extra: map[string]schematest.Schema{
		"kind": {"enum": audit.Kinds()}, "outcome": {"enum": audit.Outcomes()}, "effect": {"enum": []string{audit.Allowed, audit.Refused, audit.Nothing}},
		"by.run": {"pattern": "^[0-9a-f]{32}$"}, "by.number": {"minimum": 1}, "about.digest": {"pattern": sha256RE}, "about.commit": {"pattern": commitRE}, "about.level": level,
		"basis.policy": {"pattern": sha256RE}, "basis.trust": {"pattern": sha256RE}, "basis.distrust": {"pattern": sha256RE}, "basis.before": {"pattern": sha256RE},
		"rules": {"maxItems": audit.MaxItems}, "links": {"maxItems": audit.MaxItems}, "evidence": {"maxItems": audit.MaxItems}, "entries": {"maxItems": audit.MaxItems},
	}, ByType: map[reflect.Type]schematest.Schema{reflect.TypeFor[audit.Field](): exactlyOne}},
	{File: "distrust.json", Title: "Colophon distrust, version 1: an entry of a list of what is no longer trusted (spec/distrust/v1)", Type: reflect.TypeFor[distrust.Entry](), Extra: map[string]schematest.Schema{
		"number": {"minimum": 0}, "lift": {"minimum": 0}, "reason": {"minLength": 1, "maxLength": 1024}, "replace": {"pattern": sha256RE}, "vex.digest": {"pattern": sha256RE},
		"vex.format": {"enum": []string{"openvex", "csaf", "cyclonedx"}}, "scope.commit": {"pattern": commitRE}, "scope.key": {"pattern": sha256RE}, "scope.digest": {"pattern": sha256RE},
	}},
	{File: "trust.json", Title: "Colophon trust document: whom to trust for what (spec/trust)", Type: reflect.TypeFor[trust.Document](), Extra: map[string]schematest.Schema{
		"builders.level": level, "trustedRoot": {"type": "object"},
	}},
	{File: "release.json", Title: "Colophon release: the answer to a release request (spec/release)", Type: reflect.TypeFor[api.Release](), Extra: map[string]schematest.Schema{
		"level": level, "lock": {"pattern": sha256RE}, "requirements.level": {"minimum": 1, "maximum": 3}, "requirements.status": {"enum": []string{"met", "not met", "not known"}},
		"source.signature.status": {"enum": []string{"unsigned", "unverified", "verified", "bad"}},
	}},
	{File: "lint.json", Title: "Colophon lint: the answer of lint --format json (spec/lint)", Type: reflect.TypeFor[report.Document](), Extra: map[string]schematest.Schema{
		"outcome": {"enum": []string{report.Accepted, report.Rejected, report.Undecided}}, "failOn": severity, "findings.severity": severity, "ignored.severity": severity, "undecided.severity": severity,
	}},
	{File: "verdict.json", Title: "Colophon verdict: the answer of verify (spec/verdict)", Type: reflect.TypeFor[verify.Verdict](), Extra: map[string]schematest.Schema{
		"level": level, "requirements.level": {"minimum": 1, "maximum": 3}, "requirements.status": {"enum": []string{"met", "not met", "not known"}},
	}},
}

// TestSchemas: the schemas in spec/schemas say what the types say.
func TestSchemas(t *testing.T) {
	for _, f := range formats {
		f.Tag, f.Custom = "json", custom
		f.Golden(t)
	}
}

// known reads a format whose readers are other people's: its types know all members.
func known(into func() any) func([]byte) error {
	return func(raw []byte) error {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		return dec.Decode(into())
	}
}

// TestSchemasAndParsersAgree: schema and parser accept the examples and vectors of spec/, and
// refuse unknown members alike. What a schema refuses, the parser refuses too.
func TestSchemasAndParsersAgree(t *testing.T) {
	parsers := map[string]func([]byte) error{
		"audit":    func(raw []byte) error { _, err := audit.ParseRecord(raw); return err },
		"policy":   func(raw []byte) error { _, err := policy.Parse(raw); return err },
		"distrust": func(raw []byte) error { _, err := distrust.ParseEntry(raw); return err },
		"lock":     func(raw []byte) error { _, err := builder.ParseLock(raw); return err },
		"lint":     known(func() any { return new(report.Document) }),
		"verdict":  known(func() any { return new(verify.Verdict) }),
		"release":  known(func() any { return new(api.Release) }),
	}
	vectors := 0
	for name, parse := range parsers {
		s := schematest.Compile(t, name+".json")
		files, _ := filepath.Glob(filepath.Join("..", "spec", name, "good", "*.json"))
		more, _ := filepath.Glob(filepath.Join("..", "spec", name, "v1", "good", "*.json"))
		verdicts, _ := filepath.Glob(filepath.Join("..", "spec", name, "*.json"))
		for _, file := range append(append(files, more...), verdicts...) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			vectors++
			if name == "lock" { // has one spelling: no member can be added by hand
				if err := schematest.Validate(s, raw); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				continue
			}
			schematest.Alike(t, s, file, raw, parse)
		}
		bad, _ := filepath.Glob(filepath.Join("..", "spec", name, "bad", "*.json"))
		more, _ = filepath.Glob(filepath.Join("..", "spec", name, "v1", "bad", "*.json"))
		for _, file := range append(bad, more...) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			vectors++
			if parse(raw) == nil {
				t.Errorf("%s: the parser accepts it", file)
			}
			if strings.Contains(file, "unknown-member") && schematest.Validate(s, raw) == nil {
				t.Errorf("%s: the schema accepts it", file)
			}
		}
	}
	if vectors < 60 {
		t.Errorf("got %d vectors, want those of spec/", vectors)
	}
}

// TestSetSchemaAndParserAgree: the same for policies of version 2, which are YAML; and the schema
// has no keyword that a schema in Kubernetes may not have.
func TestSetSchemaAndParserAgree(t *testing.T) {
	s := schematest.Compile(t, "imagepolicy.json")
	var files []string
	for _, pattern := range []string{"good/*", "converted/*"} {
		found, err := filepath.Glob("../spec/policy/v2/" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: got %q, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := documents.Read(raw, limits.Request, 8)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, d := range docs {
			schematest.Alike(t, s, file, d.JSON, func(raw []byte) error { _, err := policy.ParseSets(raw); return err })
		}
	}
	raw, err := schemas.Files.ReadFile("imagepolicy.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, keyword := range []string{`"oneOf"`, `"anyOf"`, `"$ref"`, `"patternProperties"`, `"type": [`} {
		if bytes.Contains(raw, []byte(keyword)) {
			t.Errorf("the schema has %s, which a structural schema of Kubernetes cannot have", keyword)
		}
	}
}

// TestPolicyNamesItsSchema: a policy may say where its schema is, for editors.
func TestPolicyNamesItsSchema(t *testing.T) {
	raw := []byte(`{"$schema": "https://colophon.example.com/schemas/policy.json", "source": "https://git.example.com/team/app"}`)
	if _, err := policy.Parse(raw); err != nil {
		t.Error(err)
	}
	if err := schematest.Validate(schematest.Compile(t, "policy.json"), raw); err != nil {
		t.Error(err)
	}
}
