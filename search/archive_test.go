package search

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/tlog/prefix"
)

var update = flag.Bool("update-archive", false, "write spec/archive/v1/keys.json")

// vector is one of spec/archive/v1/keys.json.
type vector struct {
	What    string   `json:"what"`
	Record  string   `json:"record"`
	Content string   `json:"content"`
	Keys    []string `json:"keys"` // KIND VALUE
}

const digest1 = "1111111111111111111111111111111111111111111111111111111111111111"

func statementOf(predicateType, predicate string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"r.example/app","digest":{"sha256":"%s"}}],"predicateType":%q,"predicate":%s}`, digest1, predicateType, predicate)
}

func archiveVectors() (list []vector) {
	const slsa, slsa02, spdx, cdx = "https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document/v2.3", "https://cyclonedx.org/bom"
	long := strings.Repeat("x", 500)
	add := func(what, form, content string, change func(*Record)) {
		r := Record{Number: int64(len(list)) + 1, Since: time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC), Form: form, Digest: hashName([]byte(content)), Size: int64(len(content))}
		if change != nil {
			change(&r)
		}
		var keys []string
		for _, k := range ArchiveKeys(r, []byte(content)) {
			keys = append(keys, string(k.Kind)+" "+k.Value)
		}
		list = append(list, vector{what, string(r.Bytes()), content, keys})
	}
	add("provenance", "statement", statementOf(slsa, `{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://git.example/a@refs/tags/v1@2","digest":{"gitCommit":"ab","gitTree":"cd"}},{"uri":"https://f.example/t.tgz","digest":{"sha256":"ef"}}]},"runDetails":{"builder":{"id":"https://b.example","builderDependencies":[{"uri":"pkg:golang/buildkit@1"}]},"metadata":{"invocationId":"https://b.example/1"}}}`), nil)
	add("a repository by ssh, and one without git+", "statement", statementOf(slsa, `{"buildDefinition":{"resolvedDependencies":[{"uri":"git+ssh://git@git.example/a"},{"uri":"https://git.example/b","digest":{"gitCommit":"ab"}}]},"runDetails":{"builder":{"id":"b"}}}`), nil)
	add("base images", "statement", statementOf(slsa, `{"buildDefinition":{"resolvedDependencies":[{"uri":"pkg:docker/golang@1.26?platform=linux%2Famd64","digest":{"sha256":"aa"}},{"uri":"pkg:docker/r.example%3A5000/t/base?digest=sha256%3Abb"},{"uri":"docker://r.example:5000/x:1","digest":{"sha256":"cc"}},{"uri":"oci://r.example/y"},{"uri":"pkg:oci/z@sha256%3Add?repository_url=r.example"}]},"runDetails":{"builder":{"id":"b"}}}`), nil)
	add("provenance 0.2", "statement", statementOf(slsa02, `{"builder":{"id":"b"},"invocation":{"configSource":{"uri":"git+https://git.example/a@refs/heads/main","digest":{"sha1":"ab"}}},"metadata":{"buildInvocationID":"7"},"materials":[{"uri":"https://f.example/x","digest":{"sha256":"ef"}}]}`), nil)
	add("SPDX", "statement", statementOf(spdx, `{"spdxVersion":"SPDX-2.3","packages":[{"name":"openssl","versionInfo":"3.0.1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/openssl@3.0.1?arch=amd64#x"},{"referenceType":"cpe23Type","referenceLocator":"cpe"}]},{"name":"bare"}]}`), nil)
	add("SPDX 3 and a package without name", "statement", statementOf(spdx, `{"spdxVersion":"SPDX-3.0","packages":[{"name":""}]}`), nil)
	add("CycloneDX", "statement", statementOf(cdx, `{"bomFormat":"CycloneDX","metadata":{"component":{"name":"app","version":"1"}},"components":[{"group":"@babel","name":"core","version":"7","purl":"pkg:npm/%40babel/core@7","components":[{"name":"inner","purl":"pkg:npm/inner"}]}]}`), nil)
	add("a predicate of a type that is not read", "statement", statementOf("https://example.com/p", `[1]`), nil)
	add("a predicate that cannot be read", "statement", statementOf(slsa, `{"runDetails":[]}`), nil)
	add("a long value, and one with a zero byte", "statement", statementOf(cdx, `{"bomFormat":"CycloneDX","components":[{"name":"a","version":"`+long+`"},{"name":"b\u0000c"}]}`), nil)
	add("two members of one name", "statement", `{"subject":[],"subject":[]}`, nil)
	add("cosign's signature", "cosign-signature", `{"critical":{"identity":{"docker-reference":"r.example/app"},"image":{"docker-manifest-digest":"sha256:ab"},"type":"cosign container image signature"},"optional":null}`, nil)
	add("an envelope", "dsse", `{"payloadType":"application/vnd.in-toto+json","payload":"eyJwcmVkaWNhdGVUeXBlIjoidCJ9","signatures":[]}`, nil)
	add("an envelope of another type", "dsse", `{"payloadType":"text/plain","payload":"eyJwcmVkaWNhdGVUeXBlIjoidCJ9"}`, nil)
	add("a bundle of a plain signature", "bundle", `{"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"ERERERERERERERERERERERERERERERERERERERERERE="}}}`, func(r *Record) { r.Entry = digest1 })
	add("a bundle of both", "bundle", `{"messageSignature":{},"dsseEnvelope":{}}`, nil)
	add("spellings of one base image", "statement", statementOf(slsa, `{"buildDefinition":{"resolvedDependencies":[{"uri":"docker://docker.io/library/golang:1.26@sha256:aa"},{"uri":"oci://index.docker.io/library/golang","digest":{"sha256":"aa"}},`+
		`{"uri":"pkg:docker/library/golang@1.26"},{"uri":"pkg:oci/golang@sha256%3Aaa?repository_url=docker.io%2Flibrary%2Fgolang&tag=1.26"},{"uri":"pkg:docker/team/base@1?repository_url=r.example:5000#x"},{"uri":"docker://r.example/library/a"},{"uri":"docker://docker.io/team/library/a"}]},"runDetails":{"builder":{"id":"b"}}}`), nil)
	add("spellings of one repository", "statement", statementOf(slsa02, `{"builder":{"id":"b"},"materials":[{"uri":"git+HTTPS://Git.Example:443/Team/app.git/"},{"uri":"git+http://git.example:443"},{"uri":"git+ssh://git@git.example/app.git"},{"uri":"git+https://user@git.example/app.git"}]}`), nil)
	add("spellings of packages", "statement", statementOf(cdx, `{"bomFormat":"CycloneDX","components":[{"name":"a","purl":"pkg:PyPI/Zope.Interface_x@5%2B1"},{"name":"a","purl":"pkg://npm/@babel/core@7#lib"},{"name":"a","purl":"pkg:deb/debian/b@1%3A2%zz"},{"name":"a","purl":"no URL@"}]}`), nil)
	add("a name of Docker Hub", "cosign-signature", `{"critical":{"identity":{"docker-reference":"index.docker.io/library/app"},"image":{"docker-manifest-digest":"`+digest1+`"}}}`, nil)
	add("notation", "notation", `x`, func(r *Record) { r.Attached = "sha512:ab" })
	add("attached to another artifact too", "statement", ``, func(r *Record) { r.Of, r.Attached = 1, "sha256:ab" })
	return list
}

// TestArchiveVectors compares the keys with the vectors of the spec.
func TestArchiveVectors(t *testing.T) {
	const path = "../spec/archive/v1/keys.json"
	if *update {
		data, err := json.MarshalIndent(archiveVectors(), "", " ")
		if err == nil {
			err = os.WriteFile(path, append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(data, &list); err != nil || len(list) < 18 {
		t.Fatalf("%d vectors: %v", len(list), err)
	}
	for _, v := range list {
		r, err := ParseRecord([]byte(v.Record))
		if err != nil {
			t.Errorf("%s: %v", v.What, err)
			continue
		}
		var got []string
		for _, k := range ArchiveKeys(r, []byte(v.Content)) {
			got = append(got, string(k.Kind)+" "+k.Value)
			if !slices.Contains(ArchiveKinds(), k.Kind) {
				t.Errorf("%s: the kind %q is not listed", v.What, k.Kind)
			}
		}
		if !slices.Equal(got, v.Keys) {
			t.Errorf("%s: got %q, want %q", v.What, got, v.Keys)
		}
	}
}

// TestArchiveBounds: a record has a bounded number of keys, a key a bounded length, and what is cut is
// still found by how it begins.
func TestArchiveBounds(t *testing.T) {
	packages := func(n int) []byte {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"name":"p%d","version":"1"}`, i))
		}
		return []byte(statementOf("https://cyclonedx.org/bom", `{"bomFormat":"CycloneDX","components":[`+strings.Join(list, ",")+`]}`))
	}
	for _, c := range []struct{ n, want int }{{maxArchiveKeys - 4, maxArchiveKeys}, {maxArchiveKeys, 2}} { // beside content, digest, name, predicate
		content := packages(c.n)
		keys := ArchiveKeys(Record{Form: "statement", Digest: hashName(content)}, content)
		if len(keys) != c.want || c.want == 2 && keys[1].Kind != Unparsed {
			t.Errorf("%d packages: got %d keys, want %d", c.n, len(keys), c.want)
		}
	}
	for _, value := range []string{strings.Repeat("a", maxExact), strings.Repeat("a", maxExact+1), strings.Repeat("a", 1<<20), "log4j@\x00"} {
		k := ArchiveKey(Package, value)
		if n := len(k.At(1)); n > prefix.MaxKey || len(k.Value) > maxValue || strings.Contains(k.Value, "\x00") {
			t.Errorf("a value of %d bytes has a key of %d", len(value), n)
		}
		if begin := value[:min(len(value), 6)]; !strings.HasPrefix(k.Value, strings.TrimRight(begin, "\x00")) {
			t.Errorf("a value that begins with %q is not found by it: %q", begin, k.Value[:10])
		}
	}
	if _, err := (ArchiveQuestion{Kind: Package, Value: strings.Repeat("a", maxExact+1), Prefix: true}).span(); err == nil {
		t.Error("a beginning that no key can have was accepted")
	}
	if _, err := (ArchiveQuestion{Kind: Package, Value: "a", From: make([]byte, maxFrom+1)}).span(); err == nil {
		t.Error("a place that no key can have was accepted")
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, v := range archiveVectors() {
		f.Add([]byte(v.Record))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRecord(data); err == nil && !bytes.Equal(r.Bytes(), data) {
			t.Errorf("%q is not what it was read from: %q", r.Bytes(), data)
		}
	})
}

// BenchmarkArchiveMap computes the map of 40 SBOMs of 10,000 packages, half of which each shares with
// the one before, and reports disk and time of one.
func BenchmarkArchiveMap(b *testing.B) {
	const sboms, packages = 40, 10_000
	content := func(n int) []byte {
		var list []string
		for i := range packages {
			id := i + n*packages/2
			list = append(list, fmt.Sprintf(`{"name":"libsomething-%d-dev","versionInfo":"1.%d.0-2+deb12u1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/libsomething-%d-dev@1.%d.0-2+deb12u1?arch=amd64"}]}`, id, id%40, id, id%40))
		}
		return []byte(statementOf("https://spdx.dev/Document", `{"spdxVersion":"SPDX-2.3","packages":[`+strings.Join(list, ",")+`]}`))
	}
	for b.Loop() {
		var entries [][]byte
		contents := map[string][]byte{}
		size := 0
		for n := range sboms {
			c := content(n)
			r := Record{Number: int64(n) + 1, Form: "statement", Digest: hashName(c), Size: int64(len(c))}
			contents[r.Digest], size = c, size+len(c)
			entries = append(entries, r.Bytes())
		}
		m := &ArchiveMap{Dir: b.TempDir(), Content: func(_ context.Context, r Record) ([]byte, error) { return contents[r.Digest], nil }}
		began := time.Now()
		built, err := m.Extend(b.Context(), prefix.Map{}, 0, entries)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds())/sboms, "ms/SBOM")
		path := m.Dir + "/map"
		if err := built.Write(path, nil); err != nil {
			b.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/sboms/1024, "disk-KiB/SBOM")
		b.ReportMetric(float64(size)/sboms/1024, "content-KiB/SBOM")
		b.ReportMetric(float64(built.Len())/sboms, "keys/SBOM")
	}
}
