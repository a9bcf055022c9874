package verify_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// plainly is sigstore-go's own verifier, as its documentation says to use it.
func plainly(raw []byte, digest []byte, material root.TrustedMaterial, who verify.Signer) error {
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(raw); err != nil {
		return err
	}
	v, err := sgverify.NewVerifier(material, sgverify.WithSignedCertificateTimestamps(1), sgverify.WithTransparencyLog(1), sgverify.WithObserverTimestamps(1))
	if err != nil {
		return err
	}
	id, err := sgverify.NewShortCertificateIdentity(who.Issuer, "", who.Identity, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(b, sgverify.NewPolicy(sgverify.WithArtifactDigest("sha256", digest), sgverify.WithCertificateIdentity(id)))
	return err
}

// oddRekor1 says whether sigstore-go does not read a bundle's entry of Rekor v1:
// an envelope logged as a hashedrekord of what was signed, or a checkpoint whose
// origin names no tree. Sigstore's client specification allows both.
func oddRekor1(b *attest.Signed) bool {
	for _, e := range b.Entries {
		kind := e.GetKindVersion()
		v2 := kind.GetVersion() == "0.0.2" && kind.GetKind() == "hashedrekord"
		if !v2 && e.GetInclusionProof() != nil && (!attest.OfRekor1Tree(e) || b.Statement != nil && kind.GetKind() == "hashedrekord") {
			return true
		}
	}
	return false
}

// FuzzSecondOpinion: what we accept, sigstore-go accepts, whatever is done to
// bundle and trusted root; and never for another artifact.
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
		if r, err := trust.Parse(material); err != nil {
			f.Fatal(err)
		} else if _, err := verify.Artifact(raw, verify.Subject{Digest: content}, beacon, r.Material, time.Now()); err == nil {
			good++
		}
		f.Add(raw, material)
	}
	if seeds < 8 || good < 4 {
		f.Fatalf("got %d seeds, %d of them good, want at least 8 and 4", seeds, good)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, raw, material []byte) {
		r, err := trust.Parse(material)
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

// secondOpinion fails where we accept a bundle and sigstore-go does not, or where
// we accept it for another artifact.
func secondOpinion(t *testing.T, raw []byte, content v1.Hash, digest []byte, r *trust.Root, now time.Time) {
	if _, err := verify.Artifact(raw, verify.Subject{Digest: sha256Of([]byte("another artifact"))}, beacon, r.Material, now); err == nil {
		t.Error("verifies for another artifact")
	}
	if _, err := verify.Artifact(raw, verify.Subject{Digest: content}, beacon, r.Material, now); err != nil {
		return
	}
	if b, err := attest.ParseSigned(raw); err != nil || oddRekor1(b) {
		return // which sigstore-go does not read; see there
	}
	plain, err := root.NewTrustedRootFromJSON(r.Raw)
	if err != nil {
		t.Fatalf("a root that sigstore-go does not read: %v", err)
	}
	if err := plainly(raw, digest, plain, beacon); err != nil {
		t.Errorf("we accept, and sigstore-go does not: %v", err)
	}
}

// FuzzCosign2: hostile envelopes and annotations never panic, and what is
// parsed is bound to what it came from.
func FuzzCosign2(f *testing.F) {
	for _, version := range []string{"v1.7.0", "v2.0.0"} {
		dir := "testdata/github-container/" + version + "/"
		var m v1.Manifest
		if err := json.Unmarshal(read(f, dir+"attestations.json"), &m); err != nil {
			f.Fatal(err)
		}
		a, envelope := m.Layers[0].Annotations, read(f, dir+"envelope.json")
		if _, err := attest.ParseCosign2(envelope, a); err != nil {
			f.Fatalf("seed %s: %v", version, err)
		}
		f.Add(envelope, a[attest.Cosign2Certificate], a[attest.Cosign2Bundle])
	}
	f.Fuzz(func(t *testing.T, envelope []byte, certificate, entry string) {
		b, err := attest.ParseCosign2(envelope, map[string]string{attest.Cosign2Certificate: certificate, attest.Cosign2Bundle: entry})
		if err == nil && (b.Certificate == nil || b.Statement == nil || b.Entity == nil || (b.Promised == nil) == (len(b.Entries) == 0)) {
			t.Errorf("parsed with parts missing: %+v", b)
		}
	})
}
