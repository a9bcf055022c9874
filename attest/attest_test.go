package attest_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
)

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
		{`{"_TYPE":"https://in-toto.io/Statement/v1",` + subject + `}`, `got ""`},
		{`{"_type":"https://in-toto.io/Statement/v1",` + subject + `} {}`, "after top-level value"},
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

// TestParseBundleRefuses: forms that sigstore-go takes and we do not.
func TestParseBundleRefuses(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	statement := rel.Statement(attest.PredicateSign)
	if _, err := attest.ParseBundle(p.Sign(rel.Identity, statement)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		bend func(*protobundle.Bundle)
		want string
	}{
		"media type": {func(b *protobundle.Bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.3" }, "media type"},
		"two signatures": {func(b *protobundle.Bundle) {
			e := b.GetDsseEnvelope()
			e.Signatures = append(e.Signatures, e.Signatures[0])
		}, "2 signatures"},
		"two log entries": {func(b *protobundle.Bundle) {
			m := b.VerificationMaterial
			m.TlogEntries = append(m.TlogEntries, m.TlogEntries[0])
		}, "2 log entries"},
		"payload type": {func(b *protobundle.Bundle) { b.GetDsseEnvelope().PayloadType = "text/plain" }, "payload type"},
		"entry kind":   {func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].KindVersion.Version = "0.0.1" }, "kind"},
		"entry body": {func(b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].CanonicalizedBody = []byte(`{"kind":"intoto","apiVersion":"0.0.2"}`)
		}, "kind"},
		"many timestamps": {func(b *protobundle.Bundle) {
			d := b.VerificationMaterial.TimestampVerificationData
			for range 4 {
				d.Rfc3161Timestamps = append(d.Rfc3161Timestamps, d.Rfc3161Timestamps[0])
			}
		}, "5 timestamps"},
		"many hashes": {func(b *protobundle.Bundle) {
			proof := b.VerificationMaterial.TlogEntries[0].InclusionProof
			for range 64 {
				proof.Hashes = append(proof.Hashes, proof.Hashes[0])
			}
		}, "65 hashes"},
	} {
		_, err := attest.ParseBundle(p.Sign(rel.Identity, statement, tt.bend))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// TestBundleVersions: each version may and must have what the others need not.
func TestBundleVersions(t *testing.T) {
	const cases = "../test/conformance/sigstore/testdata/cases/"
	for _, tt := range []struct{ name, old, new, want string }{
		{"happy-path-v0.1", "", "", ""},
		{"happy-path-v0.1", `"inclusionPromise"`, `"x"`, "unknown field"},
		{"happy-path-v0.1", `version=0.1`, `version=0.2`, ""},
		{"happy-path-v0.1", `version=0.1`, `version=0.3`, "chain of certificates"},
		{"happy-path-v0.3", "", "", ""},
	} {
		raw, err := os.ReadFile(cases + tt.name + "/bundle.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), tt.old) {
			t.Fatalf("%s: has no %s", tt.name, tt.old)
		}
		_, err = attest.ParseSigned([]byte(strings.Replace(string(raw), tt.old, tt.new, 1)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %s: got %v, want %q in it", tt.name, tt.new, err, tt.want)
		}
	}
	// Without the promise that the first version must have, or the proof that later ones must.
	for version, missing := range map[string]string{"0.1": "inclusionPromise", "0.2": "inclusionProof"} {
		raw, err := os.ReadFile(cases + "happy-path-v0.1/bundle.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		var b map[string]any
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		b["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=" + version
		delete(b["verificationMaterial"].(map[string]any)["tlogEntries"].([]any)[0].(map[string]any), missing)
		if raw, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
		if _, err := attest.ParseSigned(raw); err == nil || !strings.Contains(err.Error(), "its log entry has no") {
			t.Errorf("version %s without %s: got %v, want it refused", version, missing, err)
		}
	}
}
