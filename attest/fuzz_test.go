package attest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// FuzzStatement: no statement or predicate makes a parser panic, and
// ParseAnyStatement accepts whatever ParseStatement accepts.
func FuzzStatement(f *testing.F) {
	p := prooftest.New(f)
	rel := p.Release(prooftest.NewStore(f))
	for _, kind := range prooftest.Kinds {
		f.Add(rel.Statement(kind))
	}
	seeds := 0
	for _, raw := range prooftest.BundleSeeds(f) {
		var b struct {
			Envelope struct {
				Payload []byte `json:"payload"`
			} `json:"dsseEnvelope"`
		}
		if err := json.Unmarshal(raw, &b); err != nil {
			f.Fatal(err)
		}
		if b.Envelope.Payload != nil {
			f.Add(b.Envelope.Payload)
			seeds++
		}
	}
	if seeds < 3 {
		f.Fatalf("got %d statements, want at least 3", seeds)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	summary := attest.VSA{TimeVerified: &at, ResourceURI: "pkg:docker/app", VerificationResult: attest.VSAPassed, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_2"}}
	summary.Verifier.ID, summary.Policy.URI = "https://verifier.example", "https://verifier.example/policy"
	if err := summary.Check(); err != nil {
		f.Fatalf("seed: %v", err)
	}
	vsa, err := attest.NewStatement("app", strings.Repeat("ab", 32), attest.PredicateVSA, summary)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vsa)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := attest.ParseStatement(raw)
		if _, err2 := attest.ParseAnyStatement(raw); err == nil && err2 != nil {
			t.Errorf("ParseAnyStatement refuses a statement v1: %v", err2)
		}
		if err != nil {
			return
		}
		if p, err := attest.ParseProvenance(s.Predicate); err == nil && (p.RunDetails.Builder.ID == "" || p.BuildDefinition.BuildType == "") {
			t.Errorf("provenance without builder or build type: %+v", p)
		}
		if v, err := attest.ParseVSA(s.Predicate); err == nil && (v.Verifier.ID == "" || v.ResourceURI == "" || v.VerificationResult != attest.VSAPassed && v.VerificationResult != attest.VSAFailed) {
			t.Errorf("verification summary with parts missing: %+v", v)
		}
		if p, err := attest.ParseProvenance02(s.Predicate); err == nil && (p.Builder.ID == "" || p.BuildType == "") {
			t.Errorf("provenance v0.2 without builder or build type: %+v", p)
		}
	})
}
