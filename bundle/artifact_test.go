package bundle_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// Cases of the Sigstore conformance suite; see the README there.
const (
	cases      = "../test/conformance/sigstore/testdata/cases/"
	publicRoot = "../trust/tuf/sigstore_trusted_root.json"
)

var beacon = bundle.Signer{
	Identity: "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
	Issuer:   "https://token.actions.githubusercontent.com",
}

// exhibit is a bundle, the content it is about, and the expected signer.
type exhibit struct {
	bundle, root, content []byte
	signer                bundle.Signer
	now                   time.Time
}

// parseRoot reads a trust root. One of the staging instance vouches for the issuer of
// beacon, too.
func parseRoot(raw []byte) (*trust.Root, error) {
	r, err := trust.Parse(raw)
	if err == nil && r.URL == "" && len(r.Issuers()) == 0 {
		return r.ForIssuers([]string{beacon.Issuer})
	}
	return r, err
}

func (x exhibit) verify(t testing.TB) error {
	t.Helper()
	r, err := parseRoot(x.root)
	if err != nil {
		t.Fatal(err)
	}
	_, err = bundle.Artifact(x.bundle, x.subject(), x.signer, r.Material, x.now)
	return err
}

func (x exhibit) subject() bundle.Subject {
	return bundle.Subject{Digest: sha256Of(x.content), Content: bytes.NewReader(x.content)}
}

func sha256Of(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

func openCase(t testing.TB, name, root string) exhibit {
	return exhibit{bundle: read(t, cases+name+"/bundle.sigstore.json"), root: read(t, root), content: read(t, cases+"a.txt"), signer: beacon, now: time.Now()}
}

// Each case changes one thing about a valid bundle or its verification.
func TestArtifactAttacks(t *testing.T) {
	rekor2 := cases + "rekor2-happy-path/trusted_root.json"
	swap := func(in []byte, old, new string) []byte {
		out := bytes.Replace(in, []byte(old), []byte(new), 1)
		if bytes.Equal(in, out) {
			t.Fatalf("%q is not in what is to be bent", old)
		}
		return out
	}
	for name, tt := range map[string]struct {
		x      exhibit
		bend   func(*exhibit)
		reason string
	}{
		"a member twice": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) {
			x.bundle = swap(x.bundle, `{`, `{"messageSignature":{},`)
		}, "duplicate"},
		"the other spelling of a member": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) {
			x.bundle = swap(x.bundle, `"mediaType"`, `"media_type"`)
		}, "another case"},
		"a version to come": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.bundle = swap(x.bundle, "0.3", "0.4") }, "media type"},
		"signed in the future": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) {
			x.now = time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC)
		}, "in the future"},
		"timestamped in the future": {openCase(t, "rekor2-happy-path", rekor2), func(x *exhibit) {
			x.now = time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC)
		}, "in the future"},
		"no time of verification": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.now = time.Time{} }, "time of verification"},
		"after the log's key": {openCase(t, "rekor2-happy-path", rekor2), func(x *exhibit) {
			x.root = swap(x.root, `"start": "2025-04-16T00:00:00Z"`, `"start": "2025-04-16T00:00:00Z", "end": "2025-04-17T00:00:00Z"`)
		}, "the log's key is trusted"},
		"before the log's key": {openCase(t, "rekor2-happy-path", rekor2), func(x *exhibit) {
			x.root = swap(x.root, `"start": "2025-04-16T00:00:00Z"`, `"start": "2026-04-16T00:00:00Z"`)
		}, "the log's key is trusted"},
		"another kind beside the body": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) {
			x.bundle = swap(x.bundle, `"0.0.1"`, `"0.0.2"`)
		}, "want [\"hashedrekord\" \"0.0.2\"]"},
		"another key": {openCase(t, "managed-key-happy-path", publicRoot), func(x *exhibit) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			x.signer = bundle.Signer{Key: &key.PublicKey}
		}, "does not match what is signed"},
		"a key where a certificate signed": {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) {
			x.signer = bundle.Signer{Key: publicKey(t)}
		}, "a key was expected"},
		"a certificate where a key signed": {openCase(t, "managed-key-happy-path", publicRoot), func(*exhibit) {}, "a certificate was expected"},
		"nobody":                           {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.signer = bundle.Signer{} }, "expected signer"},
		"another identity":                 {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.signer.Identity += "x" }, "signer: got"},
		"another issuer":                   {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.signer.Issuer += "/" }, "issuer of the signer's certificate"},
		"another content":                  {openCase(t, "happy-path-v0.3", publicRoot), func(x *exhibit) { x.content = append(x.content, '\n') }, "artifact: got"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(string(tt.x.bundle), `"publicKey"`) {
				tt.x.signer = bundle.Signer{Key: publicKey(t)}
			}
			if err := tt.x.verify(t); err != nil {
				t.Fatalf("unbent: %v", err)
			}
			if name == "a certificate where a key signed" {
				tt.x.signer = beacon
			}
			tt.bend(&tt.x)
			if err := tt.x.verify(t); err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want %q in it", err, tt.reason)
			}
		})
	}
}

func publicKey(t *testing.T) crypto.PublicKey {
	t.Helper()
	key, err := cryptoutils.UnmarshalPEMToPublicKey(read(t, cases+"managed-key-happy-path/key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The content must have the caller's digest, whatever the signature is about.
func TestContentThatChanges(t *testing.T) {
	x := openCase(t, "happy-path-v0.3", publicRoot)
	r, err := parseRoot(x.root)
	if err != nil {
		t.Fatal(err)
	}
	s := x.subject()
	s.Digest = sha256Of([]byte("something else"))
	if _, err := bundle.Artifact(x.bundle, s, x.signer, r.Material, x.now); err == nil || !strings.Contains(err.Error(), "content: got") {
		t.Errorf("got %v, want the content's digest refused", err)
	}
}

// An entry of a Rekor v2 log may not have a checkpoint in the form of Rekor v1: nothing
// would bind the entry to the signature.
func TestArtifactLegacyCheckpoint(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	st := rel.Statement(attest.PredicateSign)
	signer := bundle.Signer{Identity: rel.Identity.SAN, Issuer: rel.Identity.Issuer}
	subject := bundle.Subject{Digest: rel.Image.Digest}
	if _, err := bundle.Artifact(p.Sign(rel.Signer(), st), subject, signer, p.Root().Material, time.Now()); err != nil {
		t.Fatal(err)
	}
	p.Origin = "127.0.0.1 - 12"
	var other *protobundle.Bundle
	p.Sign(rel.Signer(), []byte("another statement"), func(b *protobundle.Bundle) { other = b })
	bent := p.Sign(rel.Signer(), st, func(b *protobundle.Bundle) {
		b.VerificationMaterial.TlogEntries = other.VerificationMaterial.TlogEntries
	})
	if _, err := bundle.Artifact(bent, subject, signer, p.Root().Material, time.Now()); err == nil || !strings.Contains(err.Error(), `origin: got "127.0.0.1 - 12"`) {
		t.Errorf("got %v, want the checkpoint refused", err)
	}
}

// TestArtifactPartsMissing removes and empties every member of valid bundles in turn.
// Nothing panics, and the bundle verifies only without members that are not needed.
func TestArtifactPartsMissing(t *testing.T) {
	for name, root := range map[string]string{"happy-path-v0.3": publicRoot, "happy-path-intoto-in-dsse-v3": publicRoot, "rekor2-happy-path": cases + "rekor2-happy-path/trusted_root.json"} {
		x := openCase(t, name, root)
		if err := x.verify(t); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// The promise and the proof of Rekor v1 stand for each other; the hint
		// of a key and the sizes are repeated in the checkpoint, which counts.
		idle := map[string]bool{"treeSize": true, "rootHash": true, "logIndex": true, "inclusionPromise": true, "signedEntryTimestamp": true, "keyid": true, "timestampVerificationData": true, "rfc3161Timestamps": true}
		tried := 0
		var tree any
		if err := json.Unmarshal(x.bundle, &tree); err != nil {
			t.Fatal(err)
		}
		bend(t, tree, tree, func(member string, raw []byte) {
			tried++
			bent := x
			bent.bundle = raw
			if err := bent.verify(t); err == nil && !idle[member] {
				t.Errorf("%s: without %s it verifies", name, member)
			}
		})
		if tried < 30 {
			t.Errorf("%s: tried %d bent bundles, want at least 30", name, tried)
		}
	}
}

// bend calls try with root marshalled without each member below node, and with it empty.
func bend(t *testing.T, root, node any, try func(member string, raw []byte)) {
	switch n := node.(type) {
	case map[string]any:
		for name, value := range n {
			for _, v := range []any{nil, "", map[string]any{}} {
				if v == nil {
					delete(n, name)
				} else {
					n[name] = v
				}
				raw, err := json.Marshal(root)
				if err != nil {
					t.Fatal(err)
				}
				try(name, raw)
			}
			n[name] = value
			bend(t, root, value, try)
		}
	case []any:
		for _, value := range n {
			bend(t, root, value, try)
		}
	}
}

// A statement may name its subject by another digest than SHA-256; npm's do.
func TestSubjectBySHA512(t *testing.T) {
	read := func(name string) []byte {
		t.Helper()
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	x := exhibit{bundle: read("testdata/npm/sigstore-js-2.1.0-bundle.json"), content: read("testdata/npm/sigstore-js-2.1.0.tgz"), root: read(publicRoot), now: time.Now(), signer: bundle.Signer{
		Identity: "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main", Issuer: trust.GitHubIssuer,
	}}
	if err := x.verify(t); err != nil {
		t.Error(err)
	}
	x.content = append(x.content, 0)
	if err := x.verify(t); err == nil || !strings.Contains(err.Error(), `subject of the statement: got "sha512:`) {
		t.Errorf("another file: got %v", err)
	}
	// An image is known by the digest alone.
	r, err := parseRoot(x.root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Artifact(x.bundle, bundle.Subject{Digest: sha256Of(x.content)}, x.signer, r.Material, x.now); err == nil || !strings.Contains(err.Error(), `got "sha512:`) {
		t.Errorf("without the content: got %v", err)
	}
}
