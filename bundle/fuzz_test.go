package bundle_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// FuzzParse: no input makes Parse panic; what it returns is complete; and Parse accepts
// whatever ParsePlatform accepts.
func FuzzParse(f *testing.F) {
	for _, raw := range prooftest.BundleSeeds(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		wide, err := bundle.Parse(raw)
		if err == nil && (wide.Proto == nil || wide.Statement == nil && wide.Proto.GetMessageSignature() == nil) {
			t.Errorf("parsed with parts missing: %+v", wide)
		}
		narrow, err2 := bundle.ParsePlatform(raw)
		if err2 == nil && (err != nil || narrow.Proto == nil || narrow.Certificate == nil || narrow.Statement == nil || len(narrow.Entries) != 1) {
			t.Errorf("the narrow form is taken with parts missing, and the wide one says %v", err)
		}
	})
}

// FuzzRecord: parseRecord returns a complete record or an error.
func FuzzRecord(f *testing.F) {
	seeds := 0
	for _, raw := range prooftest.BundleSeeds(f) {
		b, err := bundle.Parse(raw)
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
		r, err := bundle.ParseRecord(body)
		if err == nil && (r.Algorithm == "" || len(r.Digest) == 0 || len(r.Signature) == 0 || len(r.Signer) == 0) {
			t.Errorf("parsed with parts missing: %+v", r)
		}
	})
}

// FuzzCosign2Signature: no payload or annotation makes the parser panic, and what it
// returns names an image.
func FuzzCosign2Signature(f *testing.F) {
	payload := `{"critical":{"identity":{"docker-reference":"reg.example/app"},"image":{"docker-manifest-digest":"sha256:` +
		`a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"},"type":"cosign container image signature"},"optional":null}`
	sig := base64.StdEncoding.EncodeToString([]byte("a signature"))
	if _, err := bundle.ParseCosign2Signature([]byte(payload), map[string]string{attest.Cosign2Signature: sig}); err != nil {
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
		b, err := bundle.ParseCosign2Signature(payload, annotations)
		if err != nil {
			return
		}
		if _, err := v1.NewHash(b.Image); err != nil || b.Proto == nil || string(b.Payload) != string(payload) {
			t.Errorf("parsed with parts missing: %+v, %v", b, err)
		}
	})
}

// FuzzCosign2: no envelope or annotation makes the parser panic, and what it returns is
// what they contain.
func FuzzCosign2(f *testing.F) {
	for _, version := range []string{"v1.7.0", "v2.0.0"} {
		dir := "../verify/testdata/github-container/" + version + "/"
		var m v1.Manifest
		if err := json.Unmarshal(read(f, dir+"attestations.json"), &m); err != nil {
			f.Fatal(err)
		}
		a, envelope := m.Layers[0].Annotations, read(f, dir+"envelope.json")
		if _, err := bundle.ParseCosign2(envelope, a); err != nil {
			f.Fatalf("seed %s: %v", version, err)
		}
		f.Add(envelope, a[attest.Cosign2Certificate], a[attest.Cosign2Bundle])
	}
	f.Fuzz(func(t *testing.T, envelope []byte, certificate, entry string) {
		b, err := bundle.ParseCosign2(envelope, map[string]string{attest.Cosign2Certificate: certificate, attest.Cosign2Bundle: entry})
		if err == nil && (b.Certificate == nil || b.Statement == nil || b.Proto == nil || len(b.Entries) != 1) {
			t.Errorf("parsed with parts missing: %+v", b)
		}
	})
}

// oddRekor1 reports whether a bundle has a Rekor v1 entry that sigstore-go cannot read,
// though Sigstore's client specification allows it: an envelope logged as a
// hashedrekord, or a checkpoint whose origin names no tree.
func oddRekor1(b *bundle.Bundle) bool {
	for _, e := range b.Entries {
		kind := e.GetKindVersion()
		v2 := kind.GetVersion() == "0.0.2" && kind.GetKind() == "hashedrekord"
		if !v2 && e.GetInclusionProof() != nil && (!bundle.OfRekor1Tree(e) || b.Statement != nil && kind.GetKind() == "hashedrekord") {
			return true
		}
	}
	return false
}

// FuzzSecondOpinion: sigstore-go accepts what this package accepts, however bundle and
// trusted root are changed; and neither accepts it for another artifact.
func FuzzSecondOpinion(f *testing.F) {
	entries, err := os.ReadDir(cases)
	if err != nil {
		f.Fatal(err)
	}
	content := sha256Of(read(f, cases+"a.txt"))
	seeds, good := 0, 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		trusted := publicRoot
		if _, err := os.Stat(cases + e.Name() + "/trusted_root.json"); err == nil {
			trusted = cases + e.Name() + "/trusted_root.json"
		}
		raw, material := read(f, cases+e.Name()+"/bundle.sigstore.json"), read(f, trusted)
		seeds++
		if r, err := parseRoot(material); err != nil {
			f.Fatal(err)
		} else if _, err := bundle.Artifact(raw, bundle.Subject{Digest: content}, beacon, r.Material, time.Now()); err == nil {
			good++
		}
		f.Add(raw, material)
	}
	if seeds < 8 || good < 4 {
		f.Fatalf("got %d seeds, %d of them good, want at least 8 and 4", seeds, good)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, raw, material []byte) {
		r, err := parseRoot(material)
		if err != nil {
			return
		}
		digest, err := hex.DecodeString(content.Hex)
		if err != nil {
			t.Fatal(err)
		}
		secondOpinion(t, raw, content, digest, r, now)
	})
}

// secondOpinion fails if this package accepts a bundle that sigstore-go refuses, or
// accepts it for another artifact.
func secondOpinion(t *testing.T, raw []byte, content v1.Hash, digest []byte, r *trust.Root, now time.Time) {
	if _, err := bundle.Artifact(raw, bundle.Subject{Digest: sha256Of([]byte("another artifact"))}, beacon, r.Material, now); err == nil {
		t.Error("verifies for another artifact")
	}
	if _, err := bundle.Artifact(raw, bundle.Subject{Digest: content}, beacon, r.Material, now); err != nil {
		return
	}
	if b, err := bundle.Parse(raw); err != nil || oddRekor1(b) {
		return // which sigstore-go does not read; see there
	}
	var doc trust.Document
	if err := json.Unmarshal(r.Raw, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.TrustedRoot) == 0 {
		doc.TrustedRoot = r.Raw
	}
	plain, err := root.NewTrustedRootFromJSON(doc.TrustedRoot)
	if err != nil {
		t.Fatalf("a root that sigstore-go does not read: %v", err)
	}
	if err := prooftest.SecondOpinion(raw, digest, plain, beacon.Identity, beacon.Issuer); err != nil {
		t.Errorf("we accept, and sigstore-go does not: %v", err)
	}
}

// FuzzSecondOpinionOfSpliced is like FuzzSecondOpinion, with bundles and trusted roots
// that are combined from parts of valid ones.
func FuzzSecondOpinionOfSpliced(f *testing.F) {
	var bundles, roots [][]byte
	for _, name := range []string{"happy-path-v0.3", "happy-path-v0.1", "happy-path-intoto-in-dsse-v3", "rekor2-happy-path", "integrated-time-in-future_fail", "signature-mismatch_fail"} {
		bundles = append(bundles, read(f, cases+name+"/bundle.sigstore.json"))
	}
	roots = append(roots, read(f, publicRoot), read(f, cases+"rekor2-happy-path/trusted_root.json"))
	content := sha256Of(read(f, cases+"a.txt"))
	digest, err := hex.DecodeString(content.Hex)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	good := 0
	for i, raw := range bundles {
		for j, material := range roots {
			r, err := parseRoot(material)
			if err != nil {
				f.Fatal(err)
			}
			if _, err := bundle.Artifact(raw, bundle.Subject{Digest: content}, beacon, r.Material, now); err == nil {
				good++
			}
			f.Add(uint8(i), uint8(j), uint8(0), uint8(0), []byte{}, []byte{})
			f.Add(uint8(i), uint8(j), uint8(i+1), uint8(j+1), []byte{9, 1, 0}, []byte{3, 4, 0})
		}
	}
	if good < 3 {
		f.Fatalf("got %d good seeds, want at least 3", good)
	}
	f.Fuzz(func(t *testing.T, which, root, bundleDonor, rootDonor uint8, program, rootProgram []byte) {
		if len(program)+len(rootProgram) > 30 {
			return
		}
		raw := prooftest.Splice(t, bundles[int(which)%len(bundles)], bundles[int(bundleDonor)%len(bundles)], program)
		r, err := parseRoot(prooftest.Splice(t, roots[int(root)%len(roots)], roots[int(rootDonor)%len(roots)], rootProgram))
		if err != nil {
			return
		}
		secondOpinion(t, raw, content, digest, r, now)
	})
}
