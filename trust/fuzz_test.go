package trust_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// FuzzParse: sigstore-go accepts each trust root that Parse accepts; it is not empty;
// and a platform names only its own builders.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("../test/conformance/sigstore/testdata/cases/*/trusted_root.json")
	if err != nil {
		f.Fatal(err)
	}
	paths = append(paths, "tuf/sigstore_trusted_root.json", "../bundle/testdata/rekor2-dsse/trusted_root.json")
	if len(paths) < 3 {
		f.Fatalf("got %d seeds, want at least 3", len(paths))
	}
	p := prooftest.New(f)
	seeds := [][]byte{p.Document(), p.TrustedRoot(), p.PlainRoot("https://accounts.example.com").Raw}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, raw)
	}
	for _, raw := range seeds {
		if _, err := trust.Parse(raw); err != nil {
			f.Fatalf("seed: %v", err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = trust.ParseMaterial(raw)
		r, err := trust.Parse(raw)
		if err != nil {
			return
		}
		plain := raw
		var doc trust.Document
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatalf("parsed by us alone: %v", err)
		}
		if len(doc.TrustedRoot) > 0 {
			plain = doc.TrustedRoot
		}
		if _, err := root.NewTrustedRootFromJSON(plain); err != nil {
			t.Errorf("parsed by us alone: %v", err)
		}
		if len(r.Material.FulcioCertificateAuthorities()) == 0 || len(trust.Authorities(r.Material)) != len(r.Material.FulcioCertificateAuthorities()) {
			t.Error("no authority, or one that is not known")
		}
		for _, b := range r.Builders {
			if issuer, err := trust.IssuerOf(b.ID); err != nil || issuer != r.Issuer {
				t.Errorf("builder %q is of %q, %v, and the document of %q", b.ID, issuer, err, r.Issuer)
			}
		}
	})
}

// FuzzIdentity: names of workflows and builders are read in one way only.
func FuzzIdentity(f *testing.F) {
	for _, id := range []string{
		"https://github.com/team/app/.github/workflows/release.yml@refs/tags/v1.0.0", "https://github.com/team/app/.github/workflows/release.yml",
		"https://platform.example/builders/buildkit/v1", "https://gitlab.com/team/app//.gitlab-ci.yml@refs/heads/main", "http://127.0.0.1:8080",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if w, err := trust.ParseWorkflow(id); err == nil && w.String() != id {
			t.Errorf("workflow %q was read as %q", id, w)
		}
		if issuer, err := trust.IssuerOf(id); err == nil && (issuer == "" || len(id) <= len(issuer) || id[:len(issuer)] != issuer) {
			t.Errorf("builder %q was read as of %q", id, issuer)
		}
		_ = trust.CheckOrigin(id)
		_ = trust.CheckBuilderID(id)
	})
}
