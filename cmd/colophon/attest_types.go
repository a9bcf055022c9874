package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sbom"
)

// predicateKind is a type of document that attest knows by name. The names are cosign's,
// where cosign has one.
type predicateKind struct {
	name  string
	uri   string
	what  string // for the help
	check func(raw []byte) error

	// read reads a document that another program wrote and that is no predicate itself; ok is false if it is none
	// that it knows. nil: there are none.
	read func(raw []byte) (p *predicate, ok bool)
}

func predicateKinds() []predicateKind {
	return []predicateKind{
		{"slsaprovenance1", attest.PredicateSLSA1, "SLSA provenance v1", func(raw []byte) error { _, err := attest.ParseProvenance(raw); return err }, nil},
		{"slsaprovenance02", attest.PredicateSLSA02, "SLSA provenance v0.2", func(raw []byte) error { _, err := attest.ParseProvenance02(raw); return err }, nil},
		{"spdx", attest.PredicateSPDX, "an SBOM, SPDX 2.2 to 3.0", func(raw []byte) error { _, err := sbom.Read(raw, attest.PredicateSPDX); return err }, nil},
		{"cyclonedx", attest.PredicateCDX, "an SBOM, CycloneDX 1.4 to 1.7", func(raw []byte) error { _, err := sbom.Read(raw, attest.PredicateCDX); return err }, nil},
		{"syft", "https://syft.dev/bom", "an SBOM in Syft's JSON", has("artifacts", "descriptor", "schema"), nil},
		// The document of a scanner becomes the predicate of cosign's specification; a VEX document is its own.
		{"vuln", predicateVuln, "a vulnerability scan: SARIF, JSON of Trivy, Grype or OSV-Scanner, or cosign's predicate", checkVuln, scanned},
		{"openvex", predicateOpenVEX, "an OpenVEX document", has("@context", "@id", "author", "statements"), nil},
		{"vex", predicateOpenVEX, "a VEX document: OpenVEX, CSAF 2.0, or CycloneDX with vulnerabilities", notVEX, exploitability},
		{"license", predicateSCAI, "a license scan: SPDX or CycloneDX with licenses, ScanCode's JSON, or a SCAI report", checkSCAI, licensed},
		{"test-result", "https://in-toto.io/attestation/test-result/v0.1", "the result of tests (in-toto attestation, test-result.md)", checkTestResult, nil},
		{"link", "https://in-toto.io/Link/v1", "an in-toto link (in-toto specification, 4.4)", checkLink, nil},
		{"custom", "https://cosign.sigstore.dev/attestation/v1", "any JSON object", has(), nil},
	}
}

// aliases are other names for the types: cosign's.
var aliases = map[string]string{"slsaprovenance": "slsaprovenance02", "spdxjson": "spdx"}

func predicateNames() (names []string) {
	for _, k := range predicateKinds() {
		names = append(names, k.name)
	}
	return names
}

// kindOf returns the type that a name or a URI means. A URI that attest does not know is the type of any JSON object.
func kindOf(kind string) (predicateKind, error) {
	name := cmp.Or(aliases[kind], kind)
	for _, k := range predicateKinds() {
		if k.name == name || k.uri == kind { // two names have one URI
			return k, nil
		}
	}
	if u, err := url.Parse(kind); err != nil || u.Scheme == "" {
		return predicateKind{}, fmt.Errorf("expected a URI or one of %s, found %q", strings.Join(predicateNames(), ", "), kind)
	}
	return predicateKind{uri: kind, check: has()}, nil
}

// has returns a check that a document has these members.
func has(members ...string) func([]byte) error {
	return func(raw []byte) error {
		var there map[string]json.RawMessage
		if err := json.Unmarshal(raw, &there); err != nil {
			return errors.New("expected a JSON object")
		}
		for _, m := range members {
			if there[m] == nil {
				return fmt.Errorf("it has no member %q", m)
			}
		}
		return nil
	}
}

func checkTestResult(raw []byte) error {
	if err := has("result", "configuration")(raw); err != nil {
		return err
	}
	var d struct {
		Result string `json:"result"`
	}
	if err := json.Unmarshal(raw, &d); err != nil || d.Result != "PASSED" && d.Result != "WARNED" && d.Result != "FAILED" {
		return fmt.Errorf("result: expected PASSED, WARNED or FAILED, found %q", d.Result)
	}
	return nil
}

// checkVuln demands the members, and what decodes them in cosign, which rejects another form.
func checkVuln(raw []byte) error {
	var d struct {
		Invocation struct {
			URI       string `json:"uri"`
			EventID   string `json:"event_id"`
			BuilderID string `json:"builder.id"`
		} `json:"invocation"`
		Scanner struct {
			URI     string `json:"uri"`
			Version string `json:"version"`
			DB      struct {
				URI     string `json:"uri"`
				Version string `json:"version"`
			} `json:"db"`
		} `json:"scanner"`
		Metadata struct {
			ScanStartedOn  time.Time `json:"scanStartedOn"`
			ScanFinishedOn time.Time `json:"scanFinishedOn"`
		} `json:"metadata"`
	}
	return cmp.Or(has("scanner", "metadata")(raw), json.Unmarshal(raw, &d))
}

// checkLink demands the name, and the form of https://in-toto.io/Link/v1, where materials and
// products are digests by name. Those of https://in-toto.io/attestation/link/v0.3 are lists,
// which no reader of the first type takes.
func checkLink(raw []byte) error {
	var d struct {
		Name        string                       `json:"name"`
		Command     []string                     `json:"command"`
		Materials   map[string]map[string]string `json:"materials"`
		Products    map[string]map[string]string `json:"products"`
		ByProducts  map[string]any               `json:"byproducts"`
		Environment map[string]any               `json:"environment"`
	}
	return cmp.Or(has("name")(raw), json.Unmarshal(raw, &d))
}

// predicate is a document that was checked.
type predicate struct {
	uri    string
	raw    []byte
	digest string // of what the document says it is about, of a license scan; empty if it does not say
}

// parsePredicate checks a document of a type, which is a name or a URI.
func parsePredicate(kind string, raw []byte) (*predicate, error) {
	var any map[string]json.RawMessage
	if err := strict.Unmarshal(raw, limits.Statement, &any); err != nil {
		return nil, err
	}
	if any == nil { // null is a value of each type of Go
		return nil, errors.New("expected a JSON object, found null")
	}
	k, err := kindOf(kind)
	if err != nil {
		return nil, fmt.Errorf("--type: %w", err)
	}
	if k.read != nil {
		if p, ok := k.read(raw); ok {
			return p, nil
		}
	}
	if err := k.check(raw); err != nil {
		return nil, fmt.Errorf("it is not %s: %w", k.what, err)
	}
	return &predicate{uri: k.uri, raw: raw}, nil
}

// about fails if the document says that it is about something else than the subject.
func (p *predicate) about(s subject) error {
	of, what := p.digest, "the license scan"
	if sbom.Format(p.uri) != "" {
		d, err := sbom.Read(p.raw, p.uri)
		if err != nil {
			return err
		}
		of, what = d.SubjectDigest, "the SBOM"
	}
	if of != "" && of != s.digest().String() {
		return fmt.Errorf("it is %s of %s, and %s has the digest %s", what, of, s.name(), s.digest())
	}
	return nil
}

// drafts are the versions of JSON Schema that checkSchema understands; "" is a schema that
// does not say its version.
var drafts = []string{"", "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema"}

// checkSchema fails unless the document meets a JSON Schema. The schema may refer to its own
// parts, and to no other schema.
func checkSchema(file string, raw []byte) error {
	text, err := strict.ReadFile(file, limits.Request)
	if err != nil {
		return usageError("", "--schema: %v", err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		return usageError("", "--schema: %s: %v", file, err)
	}
	if !slices.Contains(drafts, strings.TrimSuffix(s.Schema, "#")) {
		return usageError("", "--schema: %s: expected JSON Schema 2020-12 or draft-07, found %q", file, s.Schema)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		return usageError("", "--schema: %s: %v", file, err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return usageError("", "%v", err)
	}
	if err := resolved.Validate(value); err != nil {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("the document does not meet %s: %v", file, err)}
	}
	return nil
}
