package attack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
)

// fake pushes the victim's image to another repository with these bundles as its
// proof, as anybody with a push token can, and verifies it as a consumer. The attack
// succeeds if verify accepts the image. Otherwise the named link must stop it.
func (s *scene) fake(v victim, link string, bundles map[string][]byte) (through, stopped string) {
	s.Helper()
	ctx := context.Background()
	name := "fakes/" + strings.ToLower(s.Name()[strings.LastIndexByte(s.Name(), '/')+1:])
	from, to := s.open(v.p, v.image, "client.json"), s.open(v.p, v.p.Addr+"/"+name, "client.json")
	d, err := from.Resolve(ctx, v.digest)
	if err != nil {
		s.Fatal(err)
	}
	if err := oci.Copy(ctx, to, from, d); err != nil {
		s.Fatal(err)
	}
	for kind, b := range bundles {
		if _, err := oci.AttachBundle(ctx, to, d, b, kind, time.Now()); err != nil {
			s.Fatal(err)
		}
	}
	return s.judgedBy(v, v.p.Addr+"/"+name+"@"+v.digest, link)
}

// judgedBy verifies a reference against the victim's source. The named link must stop it.
func (s *scene) judgedBy(v victim, ref, link string) (through, stopped string) {
	s.Helper()
	code, out := s.verify(v.p, ref, "--source", v.source)
	if code == 0 {
		return "verify accepts it", ""
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "✗" && f[1] == link {
			return "", strings.TrimSpace(line)
		}
	}
	s.Errorf("exit code %d, but not because of the link %s:\n%s", code, link, out)
	return "", out
}

// bend changes the JSON of a bundle.
func (s *scene) bend(b []byte, change func(m map[string]any)) []byte {
	s.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		s.Fatal(err)
	}
	change(m)
	out, err := json.Marshal(m)
	if err != nil {
		s.Fatal(err)
	}
	if bytes.Equal(out, b) {
		s.Fatal("nothing was changed")
	}
	return out
}

func material(m map[string]any) map[string]any {
	return m["verificationMaterial"].(map[string]any)
}

// statement changes the signed statement in a bundle.
func (s *scene) statement(b []byte, old, new string) []byte {
	s.Helper()
	return s.bend(b, func(m map[string]any) {
		env := m["dsseEnvelope"].(map[string]any)
		raw, err := base64.StdEncoding.DecodeString(env["payload"].(string))
		if err != nil || !bytes.Contains(raw, []byte(old)) {
			s.Fatalf("the statement has no %s (%v)", old, err)
		}
		env["payload"] = base64.StdEncoding.EncodeToString(bytes.ReplaceAll(raw, []byte(old), []byte(new)))
	})
}

// cutProof makes verify accept a bundle with a bad signature, certificate, log entry or time.
var cutProof = cut{"bundle/verify.go", `	return b.verify(subject, Signer{}, material, b.demands(Signer{}, material), now)`, `	r := b.verify(subject, Signer{}, material, b.demands(Signer{}, material), now)
	r.Signature, r.Log, r.Undecidable = nil, nil, false
	return r`}

// cutDemand makes verify accept an image although a link is absent.
var cutDemand = cut{"verify/chain.go", `v.decide(required)`, `v.decide(map[string]bool{LinkImage: true})`}

const (
	proofGuard  = "verification checks each part of a proof against the other parts and the trust root: bundle Verify"
	demandGuard = "each image needs a signature, a log entry, a provenance and an SBOM: verify chain"
)

func init() {
	for _, a := range []struct {
		name, tries, link, guard string
		cuts                     []cut
		change                   func(s *scene, current, old map[string][]byte)
	}{
		{"replay-proof", "attach the proof of an older release to another image", "signature",
			"statements and SBOMs must name the image's digest: bundle aboutDigest, aboutSums, verify readSBOM", []cut{
				{"bundle/signature.go", `if sub.Digest[digest.Algorithm] == digest.Hex {`, `if true {`},
				{"bundle/signature.go", `if matches > 0 && differs == 0 {`, `if true {`},
				{"verify/sbom.go", `if d.SubjectDigest != image.String() {`, `if false {`},
			},
			func(s *scene, current, old map[string][]byte) {
				for kind := range current {
					current[kind] = old[kind]
				}
			}},
		{"replay-log-entry", "use the log entry of an older release", "log", proofGuard, []cut{cutProof}, func(s *scene, current, old map[string][]byte) {
			s.exchange(current, old, attest.PredicateSign, "tlogEntries")
		}},
		{"replay-timestamp", "use the timestamp of an older release", "log", proofGuard, []cut{cutProof}, func(s *scene, current, old map[string][]byte) {
			s.exchange(current, old, attest.PredicateSign, "timestampVerificationData")
		}},
		{"replay-certificate", "use the certificate of an older release", "signature", proofGuard, []cut{cutProof}, func(s *scene, current, old map[string][]byte) {
			s.exchange(current, old, attest.PredicateSign, "certificate")
		}},
		{"no-timestamp", "omit the timestamp, so that an expired certificate may sign", "log", proofGuard, []cut{cutProof}, func(s *scene, current, _ map[string][]byte) {
			current[attest.PredicateSign] = s.bend(current[attest.PredicateSign], func(m map[string]any) { delete(material(m), "timestampVerificationData") })
		}},
		{"forged-signature", "attach a forged signature", "signature", proofGuard, []cut{cutProof}, func(s *scene, current, _ map[string][]byte) {
			current[attest.PredicateSign] = s.bend(current[attest.PredicateSign], func(m map[string]any) {
				sig := m["dsseEnvelope"].(map[string]any)["signatures"].([]any)[0].(map[string]any)
				raw, _ := base64.StdEncoding.DecodeString(sig["sig"].(string))
				raw[len(raw)-1] ^= 1
				sig["sig"] = base64.StdEncoding.EncodeToString(raw)
			})
		}},
		{"forged-certificate", "sign with a certificate of an authority that imitates the platform's names", "signature",
			"a certificate needs an authority in the trust root and an SCT: bundle certificate",
			[]cut{{"bundle/verify.go", `v.Signature == nil && b.Certificate != nil {`, `false {`}},
			func(s *scene, current, _ map[string][]byte) {
				for kind := range current {
					current[kind] = s.forge(current[kind])
				}
			}},
		{"forged-provenance", "attach a provenance with another time, tool or dependency", "provenance", proofGuard, []cut{cutProof}, func(s *scene, current, _ map[string][]byte) {
			current[attest.PredicateSLSA1] = s.statement(current[attest.PredicateSLSA1], `"startedOn":"2`, `"startedOn":"1`)
		}},
		{"forged-sbom", "attach an SBOM that omits something", "sbom", proofGuard, []cut{cutProof}, func(s *scene, current, _ map[string][]byte) {
			current[attest.PredicateSPDX] = s.statement(current[attest.PredicateSPDX], `"name"`, `"name" `)
		}},
		{"dropped-provenance", "remove the provenance", "provenance", demandGuard, []cut{cutDemand}, func(_ *scene, current, _ map[string][]byte) { delete(current, attest.PredicateSLSA1) }},
		{"dropped-signature", "remove the signature", "signature", demandGuard, []cut{cutDemand}, func(_ *scene, current, _ map[string][]byte) { delete(current, attest.PredicateSign) }},
		{"dropped-sbom", "remove the SBOM", "sbom", demandGuard, []cut{cutDemand}, func(_ *scene, current, _ map[string][]byte) {
			delete(current, attest.PredicateSPDX)
			delete(current, attest.PredicateCDX)
		}},
	} {
		register(attack{name: a.name, tries: a.tries, guard: a.guard, cuts: a.cuts, beside: func(s *scene) (string, string) {
			v := s.victim("app")
			current := s.bundles(v)
			a.change(s, current, s.bundles(s.older(v)))
			return s.fake(v, a.link, current)
		}})
	}
}

// exchange copies a part of one bundle's verification material into another bundle.
func (s *scene) exchange(current, old map[string][]byte, kind, part string) {
	s.Helper()
	var theirs map[string]any
	if err := json.Unmarshal(old[kind], &theirs); err != nil {
		s.Fatal(err)
	}
	if material(theirs)[part] == nil {
		s.Fatalf("the bundle has no %s", part)
	}
	current[kind] = s.bend(current[kind], func(m map[string]any) { material(m)[part] = material(theirs)[part] })
}

// forge signs a bundle's statement again, with the attacker's key and a certificate
// like the bundle's. The attacker's certificate authority has the same name as the
// platform's. The log and the timestamp authority serve the attacker like anybody.
func (s *scene) forge(b []byte) []byte {
	s.Helper()
	parsed, err := bundle.ParsePlatform(b)
	if err != nil {
		s.Fatal(err)
	}
	key, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		s.Fatal(err)
	}
	p := s.platform("step")
	forged, err := sign.Bundle(&sign.DSSEData{Data: parsed.Proto.GetDsseEnvelope().GetPayload(), PayloadType: attest.PayloadType}, key, sign.BundleOptions{
		CertificateProvider:  impostor{parsed.Certificate},
		TimestampAuthorities: []*sign.TimestampAuthority{sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{URL: p.URL + "/api/v1/timestamp"})},
		TransparencyLogs:     []sign.Transparency{sign.NewRekor(&sign.RekorOptions{BaseURL: p.URL, Version: 2})},
	})
	if err != nil {
		s.Fatal(err)
	}
	out, err := protojson.Marshal(forged)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// impostor issues a copy of a certificate, including its SCT, by an authority with another key.
type impostor struct{ like *x509.Certificate }

func (i impostor) GetCertificate(_ context.Context, holder sign.Keypair, _ *sign.CertificateProviderOptions) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: i.like.SerialNumber, RawSubject: i.like.RawSubject,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(10 * time.Minute),
		ExtraExtensions: i.like.Extensions,
	}
	return x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{RawSubject: i.like.RawIssuer}, holder.GetPublicKey(), key)
}

var _ = register(attack{
	name: "another-platforms-proof", tries: "attach a valid signature, provenance and SBOM of another platform",
	guard: "only proofs of the platform in the trust root count: bundle Verify, verify trustPlatform",
	cuts: []cut{cutProof,
		{"verify/judge.go", `if err := c.trustPlatform(p); err != nil {`, `if err := error(nil); err != nil {`},
	},
	beside: func(s *scene) (string, string) {
		v := s.victim("app")
		evil := s.platform("evil")
		r := s.mustRelease(evil, v.repo, "app")
		if r.Digest != v.digest {
			s.Fatalf("the other platform built %s from the same commit, want %s", r.Digest, v.digest)
		}
		return s.fake(v, "signature", s.bundles(victim{p: evil, image: evil.Addr + "/app", digest: r.Digest}))
	},
})
