package bundle_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/proto"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// logless is a trust root without logs.
type logless struct{ root.TrustedMaterial }

func (logless) RekorLogs() map[string]*root.TransparencyLog { return nil }
func (l logless) Vouches(issuer string) error               { return trust.Vouches(l.TrustedMaterial, issuer) }

// TestIndexOfTrustedLog: an entry that no log of the trust root has is not said to be that of the signature. Anybody
// can add one to a bundle.
func TestIndexOfTrustedLog(t *testing.T) {
	r, err := parseRoot(read(t, "testdata/rekor2-dsse/trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw := read(t, "testdata/rekor2-dsse/bundle.sigstore.json")
	b, err := bundle.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	real := b.Entries[0]
	other := proto.CloneOf(real)
	other.LogIndex, other.LogId.KeyId = 999, []byte("another")
	about := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: b.Statement.Subject[0].Digest["sha256"]}}
	for name, tt := range map[string]struct {
		material root.TrustedMaterial
		entries  []*rekorpb.TransparencyLogEntry
		want     int64
	}{
		"the other one first":  {r.Material, []*rekorpb.TransparencyLogEntry{other, real}, real.LogIndex},
		"the other one second": {r.Material, []*rekorpb.TransparencyLogEntry{real, other}, real.LogIndex},
		"no log is trusted":    {logless{r.Material}, []*rekorpb.TransparencyLogEntry{other}, -1},
	} {
		b.Entries = tt.entries
		got := b.Verify(about, tt.material, time.Now())
		if err := got.Err(); err != nil || got.Index != tt.want {
			t.Errorf("%s: got entry %d, %v, want %d", name, got.Index, err, tt.want)
		}
	}
}

// TestBundle shows how the package is used, with a bundle that staging Sigstore
// signed and logged: read it, verify it about a digest under a trust root, and
// compare who signed it.
func TestBundle(t *testing.T) {
	raw := read(t, "testdata/rekor2-dsse/bundle.sigstore.json")
	r, err := parseRoot(read(t, "testdata/rekor2-dsse/trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.ParsePlatform(raw)
	if err != nil {
		t.Fatal(err)
	}
	about := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: b.Statement.Subject[0].Digest["sha256"]}}
	got := b.Verify(about, r.Material, time.Now())
	if err := got.Err(); err != nil {
		t.Fatal(err)
	}
	if len(got.Times) != 1 || got.Index != b.Entries[0].GetLogIndex() || got.TreeSize <= got.Index || !got.Certified.Before(got.Times[0]) || got.Passed != 5 {
		t.Errorf("got %+v, want one time, an entry within its tree, and 5 checks passed", got)
	}
	signer := bundle.Signer{Identity: got.Identity.SubjectAlternativeName, Issuer: trust.GitHubIssuer}
	if err := signer.Match(got.Identity); err != nil {
		t.Error(err)
	}
	if err := b.VerifyBy(signer, about, r.Material, time.Now()).Err(); err != nil {
		t.Error(err)
	}

	// Each of these says what is wrong, and with what.
	stranger := signer
	stranger.Identity += "x"
	for name, tt := range map[string]struct {
		result         *bundle.Result
		signature, log string
	}{
		"another digest":  {b.Verify(bundle.Subject{Digest: sha256Of(nil)}, r.Material, time.Now()), "subject of the statement", "not checked"},
		"another root":    {b.Verify(about, prooftest.New(t).Root().Material, time.Now()), "not of a trusted authority", "not one of the trust root"},
		"another signer":  {b.VerifyBy(stranger, about, r.Material, time.Now()), "signer: got", ""},
		"nobody":          {b.VerifyBy(bundle.Signer{}, about, r.Material, time.Now()), "expected signer", ""},
		"a key":           {b.VerifyBy(bundle.Signer{Key: publicKey(t)}, about, r.Material, time.Now()), "a key was expected", "not checked"},
		"before its time": {b.Verify(about, r.Material, got.Times[0].Add(-2*time.Hour)), "", "in the future"},
		"at no time":      {b.Verify(about, r.Material, time.Time{}), "time of verification", "not checked"},
	} {
		err := tt.result.Err()
		if err == nil || !says(tt.result.Signature, tt.signature) || !says(tt.result.Log, tt.log) {
			t.Errorf("%s: got %v, signature %v, log %v; want %q and %q", name, err, tt.result.Signature, tt.result.Log, tt.signature, tt.log)
		}
	}
}

// says reports whether the text of err contains part; part is "" for no error.
func says(err error, part string) bool {
	return (err == nil) == (part == "") && (err == nil || strings.Contains(err.Error(), part))
}

// verifyPlatform verifies a bundle of a platform about digest.
func verifyPlatform(raw []byte, r *trust.Root, digest v1.Hash) error {
	b, err := bundle.ParsePlatform(raw)
	if err != nil {
		return err
	}
	return b.Verify(bundle.Subject{Digest: digest}, r.Material, time.Now()).Err()
}

// TestBundleWithPartsMissing removes, empties and nulls every member of a good
// bundle in turn. Nothing panics, and the bundle verifies only without members that
// are not needed.
func TestBundleWithPartsMissing(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	good := p.Sign(rel.Signer(), rel.Statement(attest.PredicateSLSA1))
	r := p.Root()
	if err := verifyPlatform(good, r, rel.Image.Digest); err != nil {
		t.Fatal(err)
	}
	// These members repeat what the checkpoint contains.
	idle := map[string]bool{"treeSize": true, "rootHash": true, "logIndex": true}
	tried := 0
	var walk func(root, node any)
	walk = func(root, node any) {
		switch n := node.(type) {
		case map[string]any:
			for name, value := range n {
				for _, v := range []any{nil, "", []any{}, map[string]any{}, []any{nil}} {
					if v == nil {
						delete(n, name)
					} else {
						n[name] = v
					}
					raw, err := json.Marshal(root)
					if err != nil {
						t.Fatal(err)
					}
					tried++
					if err := verifyPlatform(raw, r, rel.Image.Digest); err == nil && !idle[name] {
						t.Errorf("%s = %v: verifies", name, v)
					}
				}
				n[name] = value
				walk(root, value)
			}
		case []any:
			for i, value := range n {
				n[i] = nil
				raw, err := json.Marshal(root)
				if err != nil {
					t.Fatal(err)
				}
				if err := verifyPlatform(raw, r, rel.Image.Digest); err == nil {
					t.Errorf("element %d = null: verifies", i)
				}
				n[i] = value
				walk(root, value)
			}
		}
	}
	var tree any
	if err := json.Unmarshal(good, &tree); err != nil {
		t.Fatal(err)
	}
	walk(tree, tree)
	if tried < 50 {
		t.Errorf("tried %d bent bundles, want at least 50", tried)
	}
}

// ParsePlatform refuses bundles that sigstore-go accepts.
func TestParsePlatformRefuses(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	statement := rel.Statement(attest.PredicateSign)
	if _, err := bundle.ParsePlatform(p.Sign(rel.Signer(), statement)); err != nil {
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
		_, err := bundle.ParsePlatform(p.Sign(rel.Signer(), statement, tt.bend))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// A bundle with more of something, or something larger, than any honest bundle is refused.
func TestBundleLimits(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	statement := rel.Statement(attest.PredicateSign)
	if _, err := bundle.Parse(p.Sign(rel.Signer(), statement)); err != nil {
		t.Fatal(err)
	}
	for want, bend := range map[string]func(m *protobundle.VerificationMaterial){
		"33 log entries": func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = slices.Repeat(m.TlogEntries[:1], 33)
		},
		"33 timestamps": func(m *protobundle.VerificationMaterial) {
			d := m.TimestampVerificationData
			d.Rfc3161Timestamps = slices.Repeat(d.Rfc3161Timestamps[:1], 33)
		},
		"timestamp: got 16385 bytes": func(m *protobundle.VerificationMaterial) {
			m.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp = make([]byte, 16<<10+1)
		},
		"certificate: got 16385 bytes": func(m *protobundle.VerificationMaterial) {
			m.GetCertificate().RawBytes = make([]byte, 16<<10+1)
		},
		"65 hashes": func(m *protobundle.VerificationMaterial) {
			proof := m.TlogEntries[0].InclusionProof
			proof.Hashes = slices.Repeat([][]byte{make([]byte, 32)}, 65)
		},
	} {
		_, err := bundle.Parse(p.Sign(rel.Signer(), statement, func(b *protobundle.Bundle) { bend(b.VerificationMaterial) }))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	chain := func(b *protobundle.Bundle) {
		b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.2"
		c := b.VerificationMaterial.GetCertificate()
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &protocommon.X509CertificateChain{
			Certificates: slices.Repeat([]*protocommon.X509Certificate{c}, 11),
		}}
	}
	if _, err := bundle.Parse(p.Sign(rel.Signer(), statement, chain)); err == nil || !strings.Contains(err.Error(), "11 certificates") {
		t.Errorf("got %v, want 11 certificates refused", err)
	}
}

// Each version of the bundle format requires and forbids other parts.
func TestBundleVersions(t *testing.T) {
	const cases = "../test/conformance/sigstore/testdata/cases/"
	for _, tt := range []struct{ name, old, new, want string }{
		{"happy-path-v0.1", "", "", ""},
		{"happy-path-v0.1", `"inclusionPromise"`, `"x"`, "has no member"},
		{"happy-path-v0.1", `version=0.1`, `version=0.2`, ""},
		{"happy-path-v0.1", `version=0.1`, `version=0.3`, "certificate chain"},
		{"happy-path-v0.3", "", "", ""},
	} {
		raw, err := os.ReadFile(cases + tt.name + "/bundle.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), tt.old) {
			t.Fatalf("%s: has no %s", tt.name, tt.old)
		}
		_, err = bundle.Parse([]byte(strings.Replace(string(raw), tt.old, tt.new, 1)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s with %s: got %v, want %q in it", tt.name, tt.new, err, tt.want)
		}
	}
	// Version 0.1 requires the inclusion promise, later versions the inclusion proof.
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
		if _, err := bundle.Parse(raw); err == nil || !strings.Contains(err.Error(), " an inclusion p") {
			t.Errorf("version %s without %s: got %v, want it refused", version, missing, err)
		}
	}
}

// FuzzBundle: changed bundles never panic, and never verify.
func FuzzBundle(f *testing.F) {
	p := prooftest.New(f)
	rel := p.Release(prooftest.NewStore(f))
	r := p.Root()
	f.Add(read(f, "testdata/rekor2-dsse/bundle.sigstore.json"))
	stranger := prooftest.New(f)
	for _, kind := range prooftest.Kinds {
		f.Add(stranger.Sign(rel.Signer(), rel.Statement(kind)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if verifyPlatform(raw, r, rel.Image.Digest) == nil {
			t.Error("verifies")
		}
	})
}
