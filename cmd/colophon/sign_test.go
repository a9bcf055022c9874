package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
)

// store is a layout that behaves as a hostile or busy registry.
type store struct {
	*oci.Layout
	moved v1.Descriptor // what the tag names after something was attached
	loses bool          // what is attached
	wrote bool
}

func (s *store) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if s.wrote && s.moved.Digest.Hex != "" {
		return s.moved, nil
	}
	return s.Layout.Resolve(ctx, reference)
}

func (s *store) PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error) {
	s.wrote = true
	return s.Layout.PushManifest(ctx, raw, mediaType)
}

func (s *store) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	if s.loses {
		return nil, nil
	}
	return s.Layout.Referrers(ctx, subject)
}

// someImage returns an image at a tag of a store.
func someImage(t *testing.T) (*signedImage, *store) {
	t.Helper()
	l, err := oci.CreateLayout(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d, err := l.PushManifest(t.Context(), []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`), "application/vnd.oci.image.index.v1+json")
	if err == nil {
		err = l.Tag(t.Context(), "v1", d)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &store{Layout: l}
	return &signedImage{arg: "oci:layout:v1", ref: oci.Reference{Dir: l.Name(), Tag: "v1"}, dst: s, d: d}, s
}

func TestAttachment(t *testing.T) {
	i, _ := someImage(t)
	where, err := i.add(t.Context(), []byte(`{"a bundle":1}`), attest.PredicateSign)
	if err != nil {
		t.Fatal(err)
	}
	have, err := i.bundles(t.Context())
	if err != nil || len(have) != 1 || have[0].where != where || string(have[0].raw) != `{"a bundle":1}` {
		t.Errorf("got %+v, %v", have, err)
	}
}

func TestLostAttachment(t *testing.T) {
	i, s := someImage(t)
	s.loses = true
	if where, err := i.add(t.Context(), []byte("{}"), attest.PredicateSign); err == nil || !strings.Contains(err.Error(), "does not list it") {
		t.Errorf("got %q, %v", where, err)
	}
}

// What is named stands for other bytes once it is signed.
func TestSubjectChanges(t *testing.T) {
	i, s := someImage(t)
	s.moved = v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("e", 64)}}
	if _, err := i.add(t.Context(), []byte("{}"), attest.PredicateSign); err == nil || !strings.Contains(err.Error(), "only the first is signed") {
		t.Errorf("tag that moved: got %v", err)
	}
	path := filepath.Join(t.TempDir(), "app")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	f, err := openSignedFile(path, ".sigstore.json", "")
	if err != nil {
		t.Fatal(err)
	}
	write("two")
	if _, err := f.add(t.Context(), []byte("{}"), ""); err == nil || !strings.Contains(err.Error(), "nothing is signed") {
		t.Errorf("file that changed: got %v", err)
	}
	if _, err := os.Stat(path + ".sigstore.json"); err == nil {
		t.Error("the bundle was written")
	}
}

// A file with statements keeps those that it has; one with a signature is not replaced.
func TestBundlesBesideFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ suffix, to, want string }{
		{".intoto.jsonl", "", "{\"n\":1}\n{\"n\":2}\n"},
		{".sigstore.json", "", `{"n":1}`},
		{".intoto.jsonl", path + ".own", `{"n":1}`},
	} {
		f, err := openSignedFile(path, tt.suffix, tt.to)
		if err != nil {
			t.Fatal(err)
		}
		where, err := f.add(t.Context(), []byte(`{"n":1}`), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.add(t.Context(), []byte(`{"n":2}`), ""); (err == nil) != strings.Contains(tt.want, `"n":2`) {
			t.Errorf("%+v: second bundle: got %v", tt, err)
		}
		if got, err := os.ReadFile(where); err != nil || string(got) != tt.want {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}
}

// Commands that add to one file of statements at once lose none of them, and of two that
// sign one file, one is refused.
func TestBundlesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	add := func(suffix string) (written int) {
		var wg sync.WaitGroup
		results := make([]error, 24)
		for i := range results {
			wg.Go(func() {
				f, err := openSignedFile(path, suffix, "")
				if err == nil {
					_, err = f.add(context.Background(), fmt.Appendf(nil, `{"n":%d}`, i), "")
				}
				results[i] = err
			})
		}
		wg.Wait()
		for _, err := range results {
			if err == nil {
				written++
			} else if !strings.Contains(err.Error(), "somebody else") {
				t.Errorf("%s: %v", suffix, err)
			}
		}
		return written
	}
	if n := add(".intoto.jsonl"); n != 24 {
		t.Errorf("%d of 24 were added", n)
	}
	raw, err := os.ReadFile(path + ".intoto.jsonl")
	if n := strings.Count(string(raw), "\n"); err != nil || n != 24 {
		t.Errorf("%d of 24 statements are there, %v:\n%s", n, err, raw)
	}
	if n := add(".sigstore.json"); n != 1 {
		t.Errorf("%d signatures were written to one file, want 1", n)
	}
}

// A file that nobody could read any more is not written.
func TestTooManyStatements(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := strings.Repeat("{}\n", maxBundles)
	if err := os.WriteFile(path+".intoto.jsonl", []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openSignedFile(path, ".intoto.jsonl", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.add(t.Context(), []byte(`{"n":1}`), ""); err == nil || !strings.Contains(err.Error(), "nobody reads more") {
		t.Errorf("one more than the limit: got %v", err)
	}
	if raw, err := os.ReadFile(path + ".intoto.jsonl"); err != nil || string(raw) != full {
		t.Errorf("the file changed: %v", err)
	}
}

func TestPredicates(t *testing.T) {
	i, _ := someImage(t)
	spdx := func(hex string) string {
		return `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","documentNamespace":"https://example.com/1","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: x"]},
			"documentDescribes":["SPDXRef-app"],"packages":[{"SPDXID":"SPDXRef-app","name":"app","downloadLocation":"NOASSERTION","checksums":[{"algorithm":"SHA256","checksumValue":"` + hex + `"}]}],
			"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-app"}]}`
	}
	for name, tt := range map[string]struct{ kind, document, want string }{
		"own":              {"https://example.com/t/v1", `{"any":1}`, ""},
		"SBOM":             {"spdx", spdx(i.d.Digest.Hex), ""},
		"by another name":  {"spdxjson", spdx(i.d.Digest.Hex), ""},
		"by its URI":       {attest.PredicateSPDX, spdx(i.d.Digest.Hex), ""},
		"another image's":  {"spdx", spdx(strings.Repeat("e", 64)), "it is the SBOM of sha256:eeee"},
		"another format":   {"cyclonedx", spdx(i.d.Digest.Hex), "it is not an SBOM, CycloneDX"},
		"a member twice":   {"https://example.com/t/v1", `{"a":1,"a":2}`, "duplicate"},
		"no object":        {"https://example.com/t/v1", `[]`, "want an object"},
		"null":             {"https://example.com/t/v1", `null`, "expected a JSON object, found null"},
		"unknown type":     {"sdpx", `{}`, "expected a URI or one of slsaprovenance1"},
		"no builder":       {"slsaprovenance1", `{"buildDefinition":{"buildType":"https://x"},"runDetails":{}}`, "it is not SLSA provenance v1"},
		"no scanner":       {"vuln", `{"metadata":{}}`, `no member "scanner"`},
		"no time":          {"vuln", `{"scanner":{},"metadata":{"scanStartedOn":"yesterday"}}`, "it is not a vulnerability scan"},
		"no object inside": {"vuln", `{"scanner":"grype","metadata":{}}`, "it is not a vulnerability scan"},
		"a link":           {"link", `{"name":"build","command":["make"],"materials":{"a.c":{"sha256":"ab"}}}`, ""},
		"no name":          {"link", `{"materials":{}}`, `no member "name"`},
		"a link of v0.3":   {"link", `{"name":"build","materials":[{"name":"a.c"}]}`, "it is not an in-toto link"},
		"tests that ran":   {"test-result", `{"result":"PASSED","configuration":[]}`, ""},
		"neither nor":      {"test-result", `{"result":"passed","configuration":[]}`, "expected PASSED, WARNED or FAILED"},
		"no configuration": {"test-result", `{"result":"PASSED"}`, `no member "configuration"`},
	} {
		p, err := parsePredicate(tt.kind, []byte(tt.document))
		if err == nil {
			err = p.about(i)
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestSchema(t *testing.T) {
	for name, tt := range map[string]struct{ schema, document, want string }{
		"meets it":        {`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["a"],"properties":{"a":{"type":"integer"}}}`, `{"a":1}`, ""},
		"draft-07":        {`{"$schema":"http://json-schema.org/draft-07/schema#","required":["a"]}`, `{"a":1}`, ""},
		"its own parts":   {`{"$ref":"#/$defs/x","$defs":{"x":{"required":["a"]}}}`, `{}`, "does not meet"},
		"does not":        {`{"type":"object","required":["a"]}`, `{}`, "does not meet"},
		"too old":         {`{"$schema":"http://json-schema.org/draft-04/schema#"}`, `{}`, "expected JSON Schema 2020-12 or draft-07"},
		"another schema":  {`{"$ref":"https://example.com/schema.json"}`, `{}`, "--schema"},
		"a file's schema": {`{"$ref":"file:///etc/passwd"}`, `{}`, "--schema"},
		"no schema":       {`[]`, `{}`, "--schema"},
	} {
		file := filepath.Join(t.TempDir(), "schema.json")
		if err := os.WriteFile(file, []byte(tt.schema), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkSchema(file, []byte(tt.document)); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// Nothing in a directory is left out of the list in silence.
func TestListOfHostileDirectory(t *testing.T) {
	for name, put := range map[string]func(dir string) error{
		"a link":           func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "b")) },
		"a line in a name": func(dir string) error { return os.WriteFile(filepath.Join(dir, "b\nc"), nil, 0o600) },
		"another's list":   func(dir string) error { return os.WriteFile(filepath.Join(dir, listName), []byte("x"), 0o600) },
		"two lists": func(dir string) error {
			os.WriteFile(filepath.Join(dir, "checksums.txt"), nil, 0o600)
			return os.WriteFile(filepath.Join(dir, listName), nil, 0o600)
		},
		"the list is a link": func(dir string) error { return os.Symlink("a", filepath.Join(dir, listName)) },
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if path, err := listFiles(t.Context(), dir); err != nil || filepath.Base(path) != listName {
			t.Fatalf("got %q, %v", path, err)
		}
		os.Remove(filepath.Join(dir, listName))
		if err := put(dir); err != nil {
			t.Fatal(err)
		}
		if path, err := listFiles(t.Context(), dir); err == nil {
			t.Errorf("%s: got the list %s", name, path)
		}
	}
}
