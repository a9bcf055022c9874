package prooftest

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgverify "github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/attest"
)

// A spot is a place in a JSON document, with its value and functions that change it.
type spot struct {
	path  string
	value any
	set   func(any)
	drop  func()
}

// spots returns every place below the root, ordered by path.
func spots(t testing.TB, tree any) []spot {
	var all []spot
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case map[string]any:
			for name, value := range n {
				all = append(all, spot{path + "/" + name, value, func(v any) { n[name] = v }, func() { delete(n, name) }})
				walk(path+"/"+name, value)
			}
		case []any:
			for i, value := range n {
				all = append(all, spot{path + "/*", value, func(v any) { n[i] = v }, func() { n[i] = nil }})
				walk(path+"/*", value)
			}
		}
	}
	walk("", tree)
	slices.SortStableFunc(all, func(a, b spot) int { return strings.Compare(a.path, b.path) })
	return all
}

// Splice changes a JSON document as program says. Each change takes three bytes: the
// place, the kind of change, and the part of donor to use. A fuzz target finds more
// with parts of valid bundles than with random bytes, which hardly ever parse.
func Splice(t testing.TB, doc, donor, program []byte) []byte {
	for ; len(program) >= 3; program = program[3:] {
		var tree, other any
		if json.Unmarshal(doc, &tree) != nil || json.Unmarshal(donor, &other) != nil {
			return doc
		}
		mine, theirs := spots(t, tree), spots(t, other)
		if len(mine) == 0 || len(theirs) == 0 {
			return doc
		}
		at, with := mine[int(program[0])%len(mine)], int(program[2])
		switch program[1] % 8 {
		case 0:
			at.drop()
		case 1: // replace it by the same place of the donor
			for _, s := range theirs {
				if s.path == at.path {
					at.set(s.value)
				}
			}
		case 2: // replace it by any place of the donor
			at.set(theirs[with%len(theirs)].value)
		case 3: // repeat an element
			if list, ok := at.value.([]any); ok && len(list) > 0 {
				at.set(append(slices.Clone(list), list[with%len(list)]))
			}
		case 4: // append the donor's elements
			for _, s := range theirs {
				list, ok := at.value.([]any)
				if more, ok2 := s.value.([]any); ok && ok2 && s.path == at.path {
					at.set(append(slices.Clone(list), more...))
				}
			}
		case 5: // flip one bit
			if text, ok := at.value.(string); ok {
				if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
					raw[with%len(raw)] ^= 1 << (with % 8)
					at.set(base64.StdEncoding.EncodeToString(raw))
				} else if len(text) > 0 {
					b := []byte(text)
					b[with%len(b)] ^= 1
					at.set(string(b))
				}
			}
		case 6:
			at.set([]any{nil, "", 0, "0", "1", true, []any{}, map[string]any{}, "2026-01-01T00:00:00Z"}[with%9])
		case 7: // another base64 spelling of the same bytes
			if text, ok := at.value.(string); ok {
				at.set(strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text))
			}
		}
		out, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		doc = out
	}
	return doc
}

// SecondOpinion verifies a bundle with sigstore-go's verifier, used as its
// documentation says, and returns its error.
func SecondOpinion(raw, digest []byte, material root.TrustedMaterial, identity, issuer string) error {
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(raw); err != nil {
		return err
	}
	v, err := sgverify.NewVerifier(material, sgverify.WithSignedCertificateTimestamps(1), sgverify.WithTransparencyLog(1), sgverify.WithObserverTimestamps(1))
	if err != nil {
		return err
	}
	id, err := sgverify.NewShortCertificateIdentity(issuer, "", identity, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(b, sgverify.NewPolicy(sgverify.WithArtifactDigest("sha256", digest), sgverify.WithCertificateIdentity(id)))
	return err
}

// BundleSeeds returns real bundles, valid and invalid, and one of a platform. Only tests
// one directory below the module's root can call it.
func BundleSeeds(t testing.TB) [][]byte {
	t.Helper()
	paths, err := filepath.Glob("../test/conformance/sigstore/testdata/cases/*/bundle.sigstore.json")
	must(t, err)
	paths = append(paths, "../cmd/colophon/testdata/github-attestation/MODULE.bazel.intoto.jsonl", "../bundle/testdata/rekor2-dsse/bundle.sigstore.json")
	if len(paths) < 8 {
		t.Fatalf("got %d bundles, want at least 8", len(paths))
	}
	p := New(t)
	rel := p.Release(NewStore(t))
	seeds := [][]byte{p.Sign(rel.Signer(), rel.Statement(attest.PredicateSLSA1))}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		must(t, err)
		seeds = append(seeds, raw)
	}
	return seeds
}
