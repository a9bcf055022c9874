package attest_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// bundleSeeds are real bundles, good and bad, and one of a platform.
func bundleSeeds(f *testing.F) [][]byte {
	paths, err := filepath.Glob("../test/conformance/sigstore/testdata/cases/*/bundle.sigstore.json")
	if err != nil {
		f.Fatal(err)
	}
	paths = append(paths, "../cmd/colophon/testdata/github-attestation/MODULE.bazel.intoto.jsonl", "../verify/testdata/rekor2-dsse/bundle.sigstore.json")
	if len(paths) < 8 {
		f.Fatalf("got %d bundles, want at least 8", len(paths))
	}
	p := prooftest.New(f)
	rel := p.Release(prooftest.NewStore(f))
	seeds := [][]byte{p.Sign(rel.Identity, rel.Statement(attest.PredicateSLSA1))}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, raw)
	}
	return seeds
}

// FuzzParse: no bundle panics; what is parsed has its parts; and the narrow form
// of platforms is a part of the wide one.
func FuzzParse(f *testing.F) {
	for _, raw := range bundleSeeds(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		wide, err := attest.ParseSigned(raw)
		if err == nil && (wide.Entity == nil || wide.Statement == nil && wide.Entity.GetMessageSignature() == nil) {
			t.Errorf("parsed with parts missing: %+v", wide)
		}
		narrow, err2 := attest.ParseBundle(raw)
		if err2 == nil && (err != nil || narrow.Entity == nil || narrow.Certificate == nil || narrow.Statement == nil || narrow.Entry == nil) {
			t.Errorf("the narrow form is taken with parts missing, and the wide one says %v", err)
		}
	})
}

// FuzzStatement: no statement or predicate panics, and the newer form of a
// statement is one of both.
func FuzzStatement(f *testing.F) {
	p := prooftest.New(f)
	rel := p.Release(prooftest.NewStore(f))
	for _, kind := range prooftest.Kinds {
		f.Add(rel.Statement(kind))
	}
	seeds := 0
	for _, raw := range bundleSeeds(f) {
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
			t.Errorf("a statement v1 is not one of any version: %v", err2)
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

// FuzzRecord: what a log entry says is whole, or an error.
func FuzzRecord(f *testing.F) {
	seeds := 0
	for _, raw := range bundleSeeds(f) {
		b, err := attest.ParseSigned(raw)
		if err != nil {
			continue // one of the bad ones
		}
		for _, e := range b.Entries {
			f.Add(e.GetCanonicalizedBody())
			seeds++
		}
	}
	if seeds < 5 {
		f.Fatalf("got %d entries, want at least 5", seeds)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := attest.ParseRecord(body)
		if err == nil && (r.Algorithm == "" || len(r.Digest) == 0 || len(r.Signature) == 0 || len(r.Signer) == 0) {
			t.Errorf("parsed with parts missing: %+v", r)
		}
	})
}

// FuzzCosign2Signature: hostile payloads and annotations never panic, and what
// is parsed names an image.
func FuzzCosign2Signature(f *testing.F) {
	payload := `{"critical":{"identity":{"docker-reference":"reg.example/app"},"image":{"docker-manifest-digest":"sha256:` +
		`a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"},"type":"cosign container image signature"},"optional":null}`
	sig := base64.StdEncoding.EncodeToString([]byte("a signature"))
	if _, err := attest.ParseCosign2Signature([]byte(payload), map[string]string{attest.Cosign2Signature: sig}); err != nil {
		f.Fatalf("seed: %v", err)
	}
	f.Add([]byte(payload), sig, "", "", "")
	raw, err := os.ReadFile("../verify/testdata/github-container/v2.0.0/attestations.json")
	if err != nil {
		f.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		f.Fatal(err)
	}
	a := m.Layers[0].Annotations
	f.Add([]byte(payload), sig, a[attest.Cosign2Certificate], a[attest.Cosign2Bundle], "")
	f.Fuzz(func(t *testing.T, payload []byte, sig, certificate, entry, stamp string) {
		annotations := map[string]string{attest.Cosign2Signature: sig}
		for name, value := range map[string]string{attest.Cosign2Certificate: certificate, attest.Cosign2Bundle: entry, attest.Cosign2Timestamp: stamp} {
			if value != "" {
				annotations[name] = value
			}
		}
		b, err := attest.ParseCosign2Signature(payload, annotations)
		if err != nil {
			return
		}
		if _, err := v1.NewHash(b.Image); err != nil || b.Entity == nil || string(b.Payload) != string(payload) {
			t.Errorf("parsed with parts missing: %+v, %v", b, err)
		}
	})
}
