package verify_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestForeignBundle verifies what staging Sigstore signed and logged.
func TestForeignBundle(t *testing.T) {
	raw := read(t, "testdata/rekor2-dsse/bundle.sigstore.json")
	r, err := trust.Parse(read(t, "testdata/rekor2-dsse/trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := attest.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: b.Statement.Subject[0].Digest["sha256"]}
	_, id, err := verify.Bundle(raw, r, digest)
	if err != nil || id.Issuer != "https://token.actions.githubusercontent.com" {
		t.Fatalf("got %+v, %v, want GitHub's issuer", id, err)
	}
	other := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	if _, _, err := verify.Bundle(raw, r, other); err == nil || !strings.Contains(err.Error(), "subject of the statement") {
		t.Errorf("another digest: got %v, want a complaint about the subject", err)
	}
	if _, _, err := verify.Bundle(raw, prooftest.New(t).Root(), digest); err == nil || !strings.Contains(err.Error(), "not of a trusted authority") {
		t.Errorf("another root: got %v, want a complaint about the authority", err)
	}
}

// TestBundleWithPartsMissing removes, empties and nulls every member of a good
// bundle in turn. Nothing may panic, and what verifies may only have lost what
// nobody relies on.
func TestBundleWithPartsMissing(t *testing.T) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	good := p.Sign(rel.Identity, rel.Statement(attest.PredicateSLSA1))
	r := p.Root()
	if _, _, err := verify.Bundle(good, r, rel.Image.Digest); err != nil {
		t.Fatal(err)
	}
	// Repeated in the checkpoint, which counts.
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
					if _, _, err := verify.Bundle(raw, r, rel.Image.Digest); err == nil && !idle[name] {
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
				if _, _, err := verify.Bundle(raw, r, rel.Image.Digest); err == nil {
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

// FuzzBundle: hostile bytes never panic, and never verify.
func FuzzBundle(f *testing.F) {
	p := prooftest.New(f)
	rel := p.Release(prooftest.NewStore(f))
	r := p.Root()
	f.Add(read(f, "testdata/rekor2-dsse/bundle.sigstore.json"))
	stranger := prooftest.New(f)
	for _, kind := range prooftest.Kinds {
		f.Add(stranger.Sign(rel.Identity, rel.Statement(kind)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, id, err := verify.Bundle(raw, r, rel.Image.Digest); err == nil {
			t.Errorf("verifies, as signed by %q", id.SubjectAlternativeName)
		}
	})
}
