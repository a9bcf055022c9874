package bundle

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/colophon-build/colophon/attest"
)

// says fails unless the text of err has want in it; want is "" for no error.
func says(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q in it", name, err, want)
	}
}

func statementOf(t *testing.T) []byte {
	st, err := attest.NewStatement("a", strings.Repeat("ab", 32), "https://example.com/test", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// goodBundle returns a bundle of this version that a certificate signed, with an entry
// of a Rekor v1 log. Its form is right; its signature is not valid.
func goodBundle(t *testing.T, version string) *protobundle.Bundle {
	l := newPublicLog(t, true)
	pb := protoOf(statementOf(t), []byte("signature"), l.at)
	pb.MediaType = "application/vnd.dev.sigstore.bundle+json;version=" + version
	pb.VerificationMaterial.Content = certificateIn(l.sealed.cert.Raw)
	pb.VerificationMaterial.TlogEntries = []*rekorpb.TransparencyLogEntry{l.entry("dsse", "0.0.1", l.body("dsse", "0.0.1"))}
	return pb
}

func certificateIn(der []byte) *protobundle.VerificationMaterial_Certificate {
	return &protobundle.VerificationMaterial_Certificate{Certificate: &commonpb.X509Certificate{RawBytes: der}}
}

func chainOf(n int, der []byte) *protobundle.VerificationMaterial_X509CertificateChain {
	return &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &commonpb.X509CertificateChain{
		Certificates: slices.Repeat([]*commonpb.X509Certificate{{RawBytes: der}}, n),
	}}
}

func stamps(n, size int) *protobundle.TimestampVerificationData {
	return &protobundle.TimestampVerificationData{Rfc3161Timestamps: slices.Repeat([]*commonpb.RFC3161SignedTimestamp{{SignedTimestamp: make([]byte, size)}}, n)}
}

// asV2 makes an entry one of a Rekor v2 log.
func asV2(e *rekorpb.TransparencyLogEntry) {
	e.KindVersion = &rekorpb.KindVersion{Kind: "hashedrekord", Version: "0.0.2"}
	e.CanonicalizedBody, e.InclusionPromise = []byte(`{"kind":"hashedrekord","apiVersion":"0.0.2"}`), nil
}

// Each case changes one thing about a bundle of the right form. The form alone decides:
// each limit is tried from both sides.
func TestFormOfBundle(t *testing.T) {
	message := func(signature, digest string) func(*protobundle.Bundle) {
		return func(b *protobundle.Bundle) {
			b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
				Signature: []byte(signature), MessageDigest: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: []byte(digest)},
			}}
		}
	}
	entry := func(bend func(*rekorpb.TransparencyLogEntry)) func(*protobundle.Bundle) {
		return func(b *protobundle.Bundle) { bend(b.VerificationMaterial.TlogEntries[0]) }
	}
	material := func(bend func(*protobundle.VerificationMaterial)) func(*protobundle.Bundle) {
		return func(b *protobundle.Bundle) { bend(b.VerificationMaterial) }
	}
	for _, tt := range []struct {
		name, version string
		bend          func(*protobundle.Bundle)
		want          string
	}{
		{"nothing", "0.1", func(*protobundle.Bundle) {}, ""},
		{"nothing", "0.2", func(*protobundle.Bundle) {}, ""},
		{"nothing", "0.3", func(*protobundle.Bundle) {}, ""},
		{"media type", "0.4", func(*protobundle.Bundle) {}, `bundle media type: got "application/vnd.dev.sigstore.bundle+json;version=0.4", want a Sigstore bundle`},
		{"no content", "0.3", func(b *protobundle.Bundle) { b.Content = nil }, "neither a DSSE envelope nor a message signature"},
		{"message", "0.3", message("s", "d"), ""},
		{"message without signature", "0.3", message("", "d"), "no signature or no digest"},
		{"message without digest", "0.3", message("s", ""), "no signature or no digest"},
		{"payload type", "0.3", func(b *protobundle.Bundle) { b.GetDsseEnvelope().PayloadType = "text/plain" }, `envelope payload type: got "text/plain"`},
		{"no signature", "0.3", func(b *protobundle.Bundle) { b.GetDsseEnvelope().Signatures = nil }, "got 0 signatures"},
		{"empty signature", "0.3", func(b *protobundle.Bundle) { b.GetDsseEnvelope().Signatures[0].Sig = nil }, "got 1 signatures, want 1 that is not empty"},
		{"two signatures", "0.3", func(b *protobundle.Bundle) {
			b.GetDsseEnvelope().Signatures = slices.Repeat([]*dssepb.Signature{{Sig: []byte("x")}}, 2)
		}, "got 2 signatures"},
		{"no statement", "0.3", func(b *protobundle.Bundle) { b.GetDsseEnvelope().Payload = []byte("{}") }, "statement"},

		{"no signer", "0.3", material(func(m *protobundle.VerificationMaterial) { m.Content = nil }), "neither a certificate nor a public key identifier"},
		{"a key", "0.3", material(func(m *protobundle.VerificationMaterial) {
			m.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{}}
		}), ""},
		{"empty certificate", "0.3", material(func(m *protobundle.VerificationMaterial) { m.Content = certificateIn(nil) }), "bundle: certificate: got 0 bytes"},
		{"certificate of another form", "0.3", material(func(m *protobundle.VerificationMaterial) { m.Content = certificateIn(make([]byte, maxCertificate)) }), "bundle: certificate: malformed"},
		{"long certificate", "0.3", material(func(m *protobundle.VerificationMaterial) { m.Content = certificateIn(make([]byte, maxCertificate+1)) }), "bundle: certificate: got 16385 bytes"},
		{"empty chain", "0.2", material(func(m *protobundle.VerificationMaterial) { m.Content = chainOf(0, nil) }), "got 0 certificates"},
		{"chain", "0.2", material(func(m *protobundle.VerificationMaterial) { m.Content = chainOf(maxChain, m.GetCertificate().RawBytes) }), ""},
		{"chain of today", "0.3", material(func(m *protobundle.VerificationMaterial) { m.Content = chainOf(1, m.GetCertificate().RawBytes) }), "versions after 0.2 forbid a certificate chain"},
		{"long chain", "0.2", material(func(m *protobundle.VerificationMaterial) {
			m.Content = chainOf(maxChain+1, m.GetCertificate().RawBytes)
		}), "got 11 certificates"},

		{"timestamps", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TimestampVerificationData = stamps(maxTimestamps, 1) }), ""},
		{"many timestamps", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TimestampVerificationData = stamps(maxTimestamps+1, 1) }), "got 33 timestamps"},
		{"timestamp", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TimestampVerificationData = stamps(1, maxTimestamp) }), ""},
		{"long timestamp", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TimestampVerificationData = stamps(1, maxTimestamp+1) }), "bundle: timestamp: got 16385 bytes"},
		{"empty timestamp", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TimestampVerificationData = stamps(1, 0) }), "bundle: timestamp: got 0 bytes"},

		{"no entry", "0.1", material(func(m *protobundle.VerificationMaterial) { m.TlogEntries = nil }), ""},
		{"no entry", "0.2", material(func(m *protobundle.VerificationMaterial) { m.TlogEntries = nil }), ""},
		{"entries", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TlogEntries = slices.Repeat(m.TlogEntries, maxEntries) }), ""},
		{"many entries", "0.3", material(func(m *protobundle.VerificationMaterial) { m.TlogEntries = slices.Repeat(m.TlogEntries, maxEntries+1) }), "got 33 log entries"},
		{"first entry", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.LogIndex, e.IntegratedTime = 0, 0 }), ""},
		{"no log", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.LogId = nil }), "bundle: log entry 0: the log ID is missing"},
		{"negative index", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.LogIndex = -1 }), "the index or time is negative"},
		{"negative time", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.IntegratedTime = -1 }), "the index or time is negative"},
		{"no body", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.CanonicalizedBody = nil }), "bundle: log entry 0: "},
		{"another kind in the body", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.KindVersion.Version = "0.0.2" }), `kind: got ["dsse" "0.0.1"] in the body, want ["dsse" "0.0.2"]`},
		{"a kind without signature", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) {
			e.KindVersion, e.CanonicalizedBody = &rekorpb.KindVersion{Kind: "intoto", Version: "0.0.1"}, []byte(`{"kind":"intoto","apiVersion":"0.0.1"}`)
		}), "want one that contains digest, signature and signer"},
		{"neither proof nor promise", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof, e.InclusionPromise = nil, nil }), "bundle: log entry 0: no inclusion proof"},
		{"neither proof nor promise", "0.1", entry(func(e *rekorpb.TransparencyLogEntry) {
			e.InclusionProof, e.InclusionPromise.SignedEntryTimestamp = nil, nil
		}), "bundle: log entry 0: no inclusion proof"},
		{"promise alone", "0.1", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof = nil }), ""},
		{"promise alone", "0.2", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof = nil }), "versions after 0.1 require an inclusion proof"},
		{"proof alone", "0.1", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionPromise = nil }), "version 0.1 requires an inclusion promise"},
		{"proof alone", "0.2", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionPromise = nil }), ""},
		{"one has a promise, the other a proof", "0.1", material(func(m *protobundle.VerificationMaterial) {
			other := proto.Clone(m.TlogEntries[0]).(*rekorpb.TransparencyLogEntry)
			m.TlogEntries[0].InclusionProof, other.InclusionPromise = nil, nil
			m.TlogEntries = append(m.TlogEntries, other)
		}), ""},
		{"one has a proof, the other a promise", "0.2", material(func(m *protobundle.VerificationMaterial) {
			other := proto.Clone(m.TlogEntries[0]).(*rekorpb.TransparencyLogEntry)
			m.TlogEntries[0].InclusionPromise, other.InclusionProof = nil, nil
			m.TlogEntries = append(m.TlogEntries, other)
		}), ""},
		{"second entry", "0.3", material(func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = append(m.TlogEntries, &rekorpb.TransparencyLogEntry{})
		}), "bundle: log entry 1: "},
		{"Rekor v2", "0.3", entry(asV2), ""},
		{"Rekor v2 without a proof", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { asV2(e); e.InclusionProof = nil }), "no inclusion proof"},
		{"Rekor v2 with a promise", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) {
			promise := e.InclusionPromise
			asV2(e)
			e.InclusionPromise = promise
		}), "an entry of a Rekor v2 log has an inclusion promise"},
		{"hashes", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = make([][]byte, maxProofHashes) }), ""},
		{"many hashes", "0.3", entry(func(e *rekorpb.TransparencyLogEntry) { e.InclusionProof.Hashes = make([][]byte, maxProofHashes+1) }), "got 65 hashes"},
	} {
		pb := goodBundle(t, tt.version)
		tt.bend(pb)
		raw, err := protojson.Marshal(pb)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse(raw)
		says(t, tt.version+", "+tt.name, err, tt.want)
		if err == nil && (b.Statement == nil) != (pb.GetMessageSignature() != nil) || err == nil && (b.Certificate == nil) != (pb.VerificationMaterial.GetPublicKey() != nil) {
			t.Errorf("%s, %s: got the statement %v and the certificate %v", tt.version, tt.name, b.Statement, b.Certificate)
		}
		if err == nil && len(b.Entries) != len(pb.VerificationMaterial.TlogEntries) {
			t.Errorf("%s, %s: got %d entries", tt.version, tt.name, len(b.Entries))
		}
	}
	head := `{"mediaType":"` + attest.BundleMediaType + `",`
	for raw, want := range map[string]string{
		"": "bundle: ", "{}": `media type: got ""`,
		head + `"x":1}`: `bundle: a Sigstore bundle has no member "x"`,
		head + `"verification_material":{"tlog_entries":[{"y":1}]}}`: `bundle: a Sigstore bundle has no member "y"`, // protobuf's own names count as well
		head + `"verificationMaterial":{"tlogEntries":"x"}}`:         "bundle: the value of a member is not what a Sigstore bundle has there",
	} {
		_, err := Parse([]byte(raw))
		says(t, raw, err, want)
		_, err = ParsePlatform([]byte(raw))
		says(t, raw, err, want)
	}
}

// A platform's bundle has one form only.
func TestFormOfPlatform(t *testing.T) {
	for name, tt := range map[string]struct {
		bend func(*Bundle)
		want string
	}{
		"nothing":         {func(*Bundle) {}, ""},
		"media type":      {func(b *Bundle) { b.Proto.MediaType += ";version=0.3" }, "bundle media type: got"},
		"no entry":        {func(b *Bundle) { b.Entries = nil }, "got 0 log entries, want 1"},
		"two entries":     {func(b *Bundle) { b.Entries = append(b.Entries, b.Entries[0]) }, "got 2 log entries, want 1"},
		"no proof":        {func(b *Bundle) { b.Entries[0].InclusionProof = nil }, "bundle: log entry: no inclusion proof with a checkpoint"},
		"no checkpoint":   {func(b *Bundle) { b.Entries[0].InclusionProof.Checkpoint = nil }, "bundle: log entry: no inclusion proof with a checkpoint"},
		"promise":         {func(b *Bundle) { b.Entries[0].InclusionPromise = &rekorpb.InclusionPromise{} }, "bundle: log entry: it has an inclusion promise"},
		"kind":            {func(b *Bundle) { b.Entries[0].KindVersion.Version = "0.0.1" }, `bundle: log entry: kind: got ["hashedrekord" "0.0.1"]`},
		"no statement":    {func(b *Bundle) { b.Statement = nil }, "no DSSE envelope"},
		"older statement": {func(b *Bundle) { b.Statement.Type = "https://in-toto.io/Statement/v0.1" }, "statement type: got"},
		"no certificate":  {func(b *Bundle) { b.Certificate = nil }, "no certificate"},
		"timestamps": {func(b *Bundle) {
			b.Proto.VerificationMaterial.TimestampVerificationData = stamps(maxPlatformTimestamps, 1)
		}, ""},
		"many timestamps": {func(b *Bundle) {
			b.Proto.VerificationMaterial.TimestampVerificationData = stamps(maxPlatformTimestamps+1, 1)
		}, "got 5 timestamps, want at most 4"},
	} {
		pb := goodBundle(t, "0.3")
		pb.MediaType = attest.BundleMediaType
		asV2(pb.VerificationMaterial.TlogEntries[0])
		b, err := newBundle(pb)
		if err != nil {
			t.Fatal(err)
		}
		tt.bend(b)
		p, err := b.Platform()
		says(t, name, err, tt.want)
		if err == nil && (!p.platform || b.platform) {
			t.Errorf("%s: got a platform's bundle %v of one that is %v", name, p.platform, b.platform)
		}
	}
}

// Each case changes one thing about the body of an entry of a Rekor v1 log.
func TestFormOfRecord(t *testing.T) {
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("signer")})
	for _, kind := range []string{"hashedrekord", "dsse", "intoto"} {
		for name, tt := range map[string]struct {
			digest, algorithm, signature, signer string
			signatures                           int
			want                                 string
		}{
			"nothing":             {"ab", "sha256", "signature", string(key), 1, ""},
			"space after the key": {"ab", "sha256", "signature", string(key) + "\n \n", 1, ""},
			"certificate":         {"ab", "sha256", "signature", strings.ReplaceAll(string(key), "PUBLIC KEY", "CERTIFICATE"), 1, ""},
			"private key":         {"ab", "sha256", "signature", strings.ReplaceAll(string(key), "PUBLIC KEY", "PRIVATE KEY"), 1, "want one certificate or public key in PEM"},
			"no key":              {"ab", "sha256", "signature", "", 1, "want one certificate or public key in PEM"},
			"two keys":            {"ab", "sha256", "signature", string(key) + string(key), 1, "want one certificate or public key in PEM"},
			"no signature":        {"ab", "sha256", "", string(key), 1, "the signature is missing"},
			"no digest":           {"", "sha256", "signature", string(key), 1, "want an algorithm and hex"},
			"digest not in hex":   {"abx", "sha256", "signature", string(key), 1, "want an algorithm and hex"},
			"no algorithm":        {"ab", "", "signature", string(key), 1, "want an algorithm and hex"},
			"zero signatures":     {"ab", "sha256", "signature", string(key), 0, "got 0 signatures, want 1"},
			"two signatures":      {"ab", "sha256", "signature", string(key), 2, "got 2 signatures, want 1"},
		} {
			if kind == "hashedrekord" && tt.signatures != 1 {
				continue // it has room for one only
			}
			hash := map[string]string{"algorithm": tt.algorithm, "value": tt.digest}
			var spec any
			version := "0.0.1"
			switch kind {
			case "hashedrekord":
				spec = map[string]any{"data": map[string]any{"hash": hash}, "signature": map[string]any{"content": []byte(tt.signature), "publicKey": map[string]any{"content": []byte(tt.signer)}}}
			case "dsse":
				spec = map[string]any{"payloadHash": hash, "signatures": slices.Repeat([]any{map[string][]byte{"signature": []byte(tt.signature), "verifier": []byte(tt.signer)}}, tt.signatures)}
			case "intoto":
				version = "0.0.2"
				sig := []byte(base64.StdEncoding.EncodeToString([]byte(tt.signature)))
				spec = map[string]any{"content": map[string]any{"payloadHash": hash, "envelope": map[string]any{"signatures": slices.Repeat([]any{map[string][]byte{"sig": sig, "publicKey": []byte(tt.signer)}}, tt.signatures)}}}
			}
			body, err := json.Marshal(map[string]any{"kind": kind, "apiVersion": version, "spec": spec})
			if err != nil {
				t.Fatal(err)
			}
			r, err := parseRecord(body)
			says(t, kind+", "+name, err, tt.want)
			if err == nil && (r.OfPayload != (kind != "hashedrekord") || r.Algorithm != "sha256" || string(r.Digest) != "\xab" || string(r.Signature) != "signature" || string(r.Signer) != "signer") {
				t.Errorf("%s, %s: got %+v", kind, name, r)
			}
		}
	}
	for body, want := range map[string]string{
		``: "it ends too early",
		`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":1}`:                                                  "spec",
		`{"kind":"dsse","apiVersion":"0.0.1","spec":1}`:                                                          "spec",
		`{"kind":"intoto","apiVersion":"0.0.2","spec":1}`:                                                        "spec",
		`{"kind":"intoto","apiVersion":"0.0.2","spec":{"content":{"envelope":{"signatures":[{"sig":"IQ=="}]}}}}`: "illegal base64",
		`{"kind":"hashedrekord","apiVersion":"0.0.2"}`:                                                           `kind: got "hashedrekord" "0.0.2"`,
		`{"kind":"hashedrekord","apiVersion":"0.0.1","spec":{"data":{"hash":{"algorithm":"sha256","value":"ab"}},"x":"` + strings.Repeat("x", maxCanonicalBody) + `"}}`: "bytes",
	} {
		if r, err := parseRecord([]byte(body)); r != nil {
			t.Errorf("%.80s: got %+v, want none", body, r)
		} else {
			says(t, fmt.Sprintf("%.80s", body), err, want)
		}
	}
}

// cosign2Parts are an envelope and the annotations that cosign v2 writes beside it.
type cosign2Parts struct {
	envelope, body  []byte
	cert            string
	index, at       int64
	id, promise     string
	unlogged, byKey bool
	stamp           string
}

func (p *cosign2Parts) annotations(t *testing.T) map[string]string {
	a := map[string]string{attest.Cosign2Certificate: p.cert, attest.Cosign2Signature: base64.StdEncoding.EncodeToString([]byte("signature"))}
	if p.byKey {
		delete(a, attest.Cosign2Certificate)
	}
	if p.stamp != "" {
		a[attest.Cosign2Timestamp] = p.stamp
	}
	if !p.unlogged {
		raw, err := json.Marshal(map[string]any{"SignedEntryTimestamp": []byte(p.promise), "Payload": map[string]any{"body": p.body, "integratedTime": p.at, "logIndex": p.index, "logID": p.id}})
		if err != nil {
			t.Fatal(err)
		}
		a[attest.Cosign2Bundle] = string(raw)
	}
	return a
}

func envelopeJSON(t *testing.T, payloadType string, payload []byte, signatures ...map[string]any) []byte {
	raw, err := json.Marshal(map[string]any{"payloadType": payloadType, "payload": payload, "signatures": signatures})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func intoto001Body(t *testing.T, envelope, payload, signer []byte) []byte {
	hash := func(of []byte) map[string]string {
		return map[string]string{"algorithm": "sha256", "value": digestOfContent(string(of)).Hex}
	}
	raw, err := json.Marshal(map[string]any{"kind": "intoto", "apiVersion": "0.0.1", "spec": map[string]any{
		"content": map[string]any{"hash": hash(envelope), "payloadHash": hash(payload)}, "publicKey": base64.StdEncoding.EncodeToString(signer),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each case changes one thing about an attestation of cosign v2 whose entry, of kind
// intoto 0.0.1, has the digest of the envelope.
func TestFormOfCosign2(t *testing.T) {
	l := newPublicLog(t, true)
	st := statementOf(t)
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.sealed.cert.Raw}))
	stranger := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newCertificate(t, newKey(t), l.at).Raw}))
	env := envelopeJSON(t, attest.PayloadType, st, map[string]any{"sig": []byte("signature")})
	stamp := func(n int) string {
		return `{"SignedRFC3161Timestamp":"` + base64.StdEncoding.EncodeToString(make([]byte, n)) + `"}`
	}
	for name, tt := range map[string]struct {
		bend func(*cosign2Parts)
		want string
	}{
		"nothing":             {func(*cosign2Parts) {}, ""},
		"first entry":         {func(p *cosign2Parts) { p.index = 0 }, ""},
		"first second":        {func(p *cosign2Parts) { p.at = 1 }, ""},
		"no log entry":        {func(p *cosign2Parts) { p.unlogged = true }, ""},
		"key, and no log":     {func(p *cosign2Parts) { p.unlogged, p.byKey = true, true }, ""},
		"a timestamp":         {func(p *cosign2Parts) { p.stamp = stamp(1) }, ""},
		"bad timestamp":       {func(p *cosign2Parts) { p.stamp = "x" }, "annotation " + attest.Cosign2Timestamp},
		"empty timestamp":     {func(p *cosign2Parts) { p.stamp = "{}" }, "timestamp: got 0 bytes"},
		"long timestamp":      {func(p *cosign2Parts) { p.stamp = stamp(maxTimestamp + 1) }, "timestamp: got 16385 bytes"},
		"longer timestamp":    {func(p *cosign2Parts) { p.stamp = stamp(2 * maxTimestamp) }, "annotation " + attest.Cosign2Timestamp},
		"no envelope":         {func(p *cosign2Parts) { p.envelope = nil }, "envelope: "},
		"key":                 {func(p *cosign2Parts) { p.byKey = true }, "kind intoto 0.0.1 requires a certificate"},
		"another envelope":    {func(p *cosign2Parts) { p.envelope = append(p.envelope, ' ') }, "log entry: envelope: got sha256:"},
		"another payload":     {func(p *cosign2Parts) { p.body = intoto001Body(t, p.envelope, nil, []byte(cert)) }, "log entry: payload: got sha256:"},
		"another certificate": {func(p *cosign2Parts) { p.body = intoto001Body(t, p.envelope, st, []byte(stranger)) }, "log entry: it contains another certificate"},
		"a key in the entry":  {func(p *cosign2Parts) { p.body = intoto001Body(t, p.envelope, st, []byte("key")) }, "log entry: public key: want one certificate"},
		"base64 in the entry": {func(p *cosign2Parts) {
			p.body = []byte(strings.Replace(string(p.body), `"publicKey":"`, `"publicKey":"!`, 1))
		}, "log entry: public key: illegal base64"},
		"spec of another form": {func(p *cosign2Parts) { p.body = []byte(`{"kind":"intoto","apiVersion":"0.0.1","spec":1}`) }, "log entry: "},
		"another algorithm": {func(p *cosign2Parts) {
			p.body = []byte(strings.ReplaceAll(string(p.body), `"sha256"`, `"sha512"`))
		}, "log entry: envelope: got sha512:"},
		"signatures": {func(p *cosign2Parts) {
			p.envelope = envelopeJSON(t, attest.PayloadType, st)
			p.body = intoto001Body(t, p.envelope, st, []byte(cert))
		}, "got 0 signatures"},
		"no certificate":        {func(p *cosign2Parts) { p.cert = "" }, "annotation " + attest.Cosign2Certificate + ": want one certificate in PEM"},
		"two certificates":      {func(p *cosign2Parts) { p.cert += p.cert }, "want one certificate in PEM"},
		"something else in PEM": {func(p *cosign2Parts) { p.cert = strings.ReplaceAll(p.cert, "CERTIFICATE", "PUBLIC KEY") }, "want one certificate in PEM"},
		"certificate and space": {func(p *cosign2Parts) { p.cert += strings.Repeat("\n", 2*maxCertificate-len(p.cert)) }, ""},
		"long certificate":      {func(p *cosign2Parts) { p.cert += strings.Repeat("\n", 2*maxCertificate+1-len(p.cert)) }, "got 32769 bytes, want at most 32768"},
		"certificate in name only": {func(p *cosign2Parts) {
			p.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
		}, "bundle: certificate: malformed"},
		"no body":               {func(p *cosign2Parts) { p.body = nil }, "annotation " + attest.Cosign2Bundle},
		"no log ID":             {func(p *cosign2Parts) { p.id = "" }, "log ID, index, time or inclusion promise is missing"},
		"log ID not in hex":     {func(p *cosign2Parts) { p.id += "x" }, "log ID, index, time or inclusion promise is missing"},
		"short log ID":          {func(p *cosign2Parts) { p.id = p.id[2:] }, "log ID, index, time or inclusion promise is missing"},
		"negative index":        {func(p *cosign2Parts) { p.index = -1 }, "log ID, index, time or inclusion promise is missing"},
		"no time":               {func(p *cosign2Parts) { p.at = 0 }, "log ID, index, time or inclusion promise is missing"},
		"no promise":            {func(p *cosign2Parts) { p.promise = "" }, "log ID, index, time or inclusion promise is missing"},
		"an entry of kind dsse": {func(p *cosign2Parts) { p.body = l.body("dsse", "0.0.1") }, ""},
		"an entry of no kind":   {func(p *cosign2Parts) { p.body = []byte("{}") }, "kind: got"},
	} {
		p := &cosign2Parts{envelope: slices.Clone(env), body: intoto001Body(t, env, st, []byte(cert)), cert: cert, index: 7, at: 8, id: hex.EncodeToString(l.id[:]), promise: "promise"}
		tt.bend(p)
		b, err := ParseCosign2(p.envelope, p.annotations(t))
		says(t, name, err, tt.want)
		if err != nil {
			continue
		}
		if b.Statement == nil || (b.Certificate == nil) != p.byKey || (len(b.Entries) == 1) == p.unlogged || (len(b.timestamps()) == 1) != (p.stamp != "") {
			t.Errorf("%s: got %+v", name, b)
		}
		if e := b.Entries; len(e) == 1 && (e[0].LogIndex != p.index || e[0].IntegratedTime != p.at || string(e[0].LogId.KeyId) != string(l.id[:]) || string(e[0].InclusionPromise.SignedEntryTimestamp) != "promise" ||
			(b.bound == e[0]) != (e[0].KindVersion.Kind == "intoto")) {
			t.Errorf("%s: got the entry %v, compared with the envelope: %v", name, e[0], b.bound == e[0])
		}
	}
	_, err := ParseCosign2(env, map[string]string{attest.Cosign2Bundle: "x"})
	says(t, "an entry not in JSON", err, "annotation "+attest.Cosign2Bundle)
}

// The signature of an image covers a payload that names the image.
func TestFormOfCosign2Signature(t *testing.T) {
	const good = `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"sha256:` +
		`abababababababababababababababababababababababababababababababab"},"type":"cosign container image signature"},"optional":{"x":1}}`
	image := "sha256:" + strings.Repeat("ab", 32)
	signature := map[string]string{attest.Cosign2Signature: "c2ln"}
	for name, tt := range map[string]struct {
		old, new    string
		annotations map[string]string
		want        string
	}{
		"nothing":                     {"", "", signature, ""},
		"not JSON":                    {"{", "", signature, "simple signing payload: "},
		"member of critical":          {`"type"`, `"x":1,"type"`, signature, "simple signing payload: critical: "},
		"no critical":                 {`"critical"`, `"other"`, signature, "simple signing payload: critical: "},
		"another type":                {"cosign container", "atomic container", signature, `simple signing payload: type: got "atomic container image signature"`},
		"another algorithm":           {"sha256:", "sha512:", signature, "want sha256: and 64 hex digits"},
		"no algorithm":                {"sha256:", "", signature, "want sha256: and 64 hex digits"},
		"short digest":                {":abab", ":ab", signature, "want sha256: and 64 hex digits"},
		"digest not in hex":           {":abab", ":abxx", signature, "want sha256: and 64 hex digits"},
		"digest in capitals":          {":abab", ":ABab", signature, "want sha256: and 64 hex digits"},
		"no signature":                {"", "", nil, "want a signature in base64"},
		"signature not in base64":     {"", "", map[string]string{attest.Cosign2Signature: "c2l!"}, "want a signature in base64"},
		"signature that ends in junk": {"", "", map[string]string{attest.Cosign2Signature: "c2ln!"}, "want a signature in base64"},
		"bad certificate":             {"", "", map[string]string{attest.Cosign2Signature: "c2ln", attest.Cosign2Certificate: ""}, "annotation " + attest.Cosign2Certificate},
		"bad timestamp":               {"", "", map[string]string{attest.Cosign2Signature: "c2ln", attest.Cosign2Timestamp: "{}"}, "timestamp: got 0 bytes"},
	} {
		payload := strings.Replace(good, tt.old, tt.new, 1)
		b, err := ParseCosign2Signature([]byte(payload), tt.annotations)
		says(t, name, err, tt.want)
		if err != nil {
			if b != nil {
				t.Errorf("%s: got a bundle beside the error", name)
			}
			continue
		}
		m := b.Proto.GetMessageSignature()
		if b.Image != image || string(b.Payload) != payload || string(m.GetSignature()) != "sig" || hex.EncodeToString(m.GetMessageDigest().GetDigest()) != digestOfContent(payload).Hex {
			t.Errorf("%s: got %+v", name, b)
		}
		says(t, "the image it names", b.About(v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}), "")
		says(t, "another image", b.About(v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}), "image of the signature: got")
	}
}

// An envelope without a bundle contains the certificate, or a key signed.
func TestFormOfEnvelope(t *testing.T) {
	cert := newCertificate(t, newKey(t), time.Now())
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	st := statementOf(t)
	sig := []byte("signature")
	for name, tt := range map[string]struct {
		raw   []byte
		cert  *x509.Certificate
		isOne bool
		want  string
	}{
		"by a key":          {envelopeJSON(t, attest.PayloadType, st, map[string]any{"sig": sig}), nil, true, ""},
		"by a certificate":  {envelopeJSON(t, attest.PayloadType, st, map[string]any{"sig": sig, "cert": text}), cert, true, ""},
		"by something else": {envelopeJSON(t, attest.PayloadType, st, map[string]any{"sig": sig, "cert": "x"}), nil, true, "envelope: certificate: want one certificate in PEM"},
		"by two":            {envelopeJSON(t, attest.PayloadType, st, map[string]any{"sig": sig, "cert": text}, map[string]any{"sig": sig}), nil, true, "got 2 signatures"},
		"by nobody":         {envelopeJSON(t, attest.PayloadType, st), nil, true, "got 0 signatures"},
		"of another type":   {envelopeJSON(t, "text/plain", st, map[string]any{"sig": sig}), nil, true, "payload type"},
		"of no type":        {envelopeJSON(t, "", st, map[string]any{"sig": sig}), nil, false, "payload type"},
		"not JSON":          {[]byte("x"), nil, false, "envelope: "},
		"in a bundle":       {[]byte(`{"mediaType":"x","payloadType":"y"}`), nil, false, "payload type"},
	} {
		if got := IsEnvelope(tt.raw); got != tt.isOne {
			t.Errorf("%s: got %v, want %v", name, got, tt.isOne)
		}
		b, err := ParseEnvelope(tt.raw)
		says(t, name, err, tt.want)
		if err == nil && (b.Certificate == nil || tt.cert == nil) && b.Certificate != tt.cert || err == nil && tt.cert != nil && !b.Certificate.Equal(tt.cert) {
			t.Errorf("%s: got the certificate %v", name, b.Certificate)
		}
	}
}
