package bundle_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestParseRealEntries: signers and digests of real entries of Rekor v1 and v2 are read.
func TestParseRealEntries(t *testing.T) {
	files := []string{"testdata/npm/sigstore-js-2.1.0-bundle.json", "testdata/rekor2-dsse/bundle.sigstore.json"}
	for _, more := range []string{"../test/conformance/sigstore/testdata/cases/*/bundle.sigstore.json", "../../shared/data/bundles/*/bundle.sigstore.json"} {
		found, err := filepath.Glob(more)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	kinds := map[string]int{}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Parse(raw)
		if err != nil {
			continue // damaged on purpose
		}
		for _, e := range b.Entries {
			got, err := bundle.ParseEntry(e.GetCanonicalizedBody())
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			kinds[got.Kind+" "+got.Version]++
			s := got.Signers[0]
			if b.Certificate != nil && (s.Certificate == nil || len(s.Names) != 1 || len(s.Issuers) == 0) {
				t.Errorf("%s: got %+v, want the signer of the bundle", path, s)
			}
			if len(got.Digests) != 1 || !strings.HasPrefix(got.Digests[0], "sha256:") {
				t.Errorf("%s: got the digests %q", path, got.Digests)
			}
		}
	}
	t.Log(kinds)
	for _, kind := range []string{"hashedrekord 0.0.2", "dsse 0.0.1"} {
		if kinds[kind] == 0 {
			t.Errorf("no entry of kind %s was read", kind)
		}
	}
}

const statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}],"predicateType":"https://example.com/p","predicate":{}}`

// TestParseEntry: all names in a certificate are read, and what is no entry is refused.
func TestParseEntry(t *testing.T) {
	p := prooftest.New(t)
	b, err := bundle.Parse(p.Sign(prooftest.Identity{
		SAN: "https://ci.example/one", More: []string{"https://ci.example/two"}, Issuer: "https://issuer.example", OldIssuer: "https://old.example",
		SourceURI: "https://git.example/app", Commit: strings.Repeat("a", 40), Invocation: "https://ci.example/runs/1",
		Extensions: map[int]string{5: "acme/app"},
	}, []byte(statement)))
	if err != nil {
		t.Fatal(err)
	}
	body := string(b.Entries[0].GetCanonicalizedBody())
	e, err := bundle.ParseEntry([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	s := e.Signers[0]
	if got := fmt.Sprint(s.Names, s.Issuers, s.Extensions.RunInvocationURI); got != "[https://ci.example/one https://ci.example/two] [https://issuer.example https://old.example]https://ci.example/runs/1" {
		t.Errorf("got %s", got)
	}
	if !slices.Contains(s.Sources, "https://git.example/app") || len(s.Sources) != 2 {
		t.Errorf("got the sources %q", s.Sources)
	}
	if !s.Issued(p.Root().Material) || s.Issued(prooftest.New(t).Root().Material) {
		t.Error("the authority of the certificate was not told from another one")
	}
	cert := base64.StdEncoding.EncodeToString(b.Certificate.Raw)
	several := `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_512","digest":"qrs="},"signatures":[` +
		`{"content":"AA==","verifier":{"keyDetails":"X","x509Certificate":{"rawBytes":"` + cert + `"}}},` +
		`{"content":"AA==","verifier":{"keyDetails":"X","publicKey":{"rawBytes":"` + base64.StdEncoding.EncodeToString(b.Certificate.RawSubjectPublicKeyInfo) + `"}}}]}}}`
	if e, err := bundle.ParseEntry([]byte(several)); err != nil || len(e.Signers) != 2 || e.Digests[0] != "sha512:aabb" || e.Signers[1].Certificate != nil {
		t.Errorf("dsse 0.0.2: got %+v, %v", e, err)
	}
	// Fulcio's certificates have the issuer in both extensions, and the repository too.
	b, err = bundle.Parse(p.Sign(prooftest.Identity{SAN: "https://ci.example/one", Issuer: "https://issuer.example", OldIssuer: "https://issuer.example",
		SourceURI: "https://github.com/acme/app"}, []byte(statement)))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := bundle.ParseEntry(b.Entries[0].GetCanonicalizedBody()); err != nil || len(e.Signers[0].Issuers) != 1 || len(e.Signers[0].Sources) != 1 {
		t.Errorf("got %+v, %v, want one issuer and one source", e, err)
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"no JSON":             "hello",
		"an array":            "[]",
		"another kind":        strings.Replace(body, "hashedrekord", "helm", 1),
		"another version":     strings.Replace(body, `"0.0.2"`, `"0.0.9"`, 1),
		"no content":          `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`,
		"content of dsse":     strings.Replace(body, `"kind":"hashedrekord"`, `"kind":"dsse"`, 1),
		"another algorithm":   strings.Replace(body, "SHA2_256", "MD5", 1),
		"a certificate cut":   strings.Replace(body, cert, cert[:40], 1),
		"a member twice":      strings.Replace(body, `"kind":`, `"kind":"dsse","kind":`, 1),
		"a certificate twice": strings.Replace(body, `"x509Certificate":`, `"publicKey":{"rawBytes":"AA=="},"x509Certificate":`, 1),
		"no signatures":       `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"AAAA"},"signatures":[]}}}`,
		"many signatures": `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"AAAA"},"signatures":[` +
			strings.Repeat(`{},`, 64) + `{}]}}}`,
	} {
		if bad == body {
			t.Fatalf("%s: nothing was changed", name)
		}
		if e, err := bundle.ParseEntry([]byte(bad)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, e)
		}
	}
}

func BenchmarkParseEntry(b *testing.B) {
	p := prooftest.New(b)
	parsed, err := bundle.Parse(p.Sign(prooftest.Identity{SAN: "https://ci.example/one", Issuer: "https://issuer.example", SourceURI: "https://git.example/app"}, []byte(statement)))
	if err != nil {
		b.Fatal(err)
	}
	body := parsed.Entries[0].GetCanonicalizedBody()
	for b.Loop() {
		if _, err := bundle.ParseEntry(body); err != nil {
			b.Fatal(err)
		}
	}
}
