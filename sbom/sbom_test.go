package sbom

import (
	"strings"
	"testing"
	"time"
)

const digest = "sha256:abababababababababababababababababababababababababababababababab"

var spdx = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","creationInfo":{"created":"2026-01-02T03:04:05Z"},
"packages":[{"SPDXID":"SPDXRef-a","name":"a"},{"SPDXID":"SPDXRef-img","name":"app","checksums":[{"algorithm":"SHA256","checksumValue":"` + digest[7:] + `"}]}],
"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-img"}]}`

var cdx = `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"timestamp":"2026-01-02T03:04:05Z",
"component":{"name":"app","version":"` + digest + `","hashes":[{"alg":"SHA-256","content":"` + digest[7:] + `"}]}},"components":[{"type":"library"},{"type":"file"},{"type":"operating-system"}]}`

func TestSummary(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		doc, kind string
		want      Info
	}{
		{spdx, "https://spdx.dev/Document", Info{"SPDX", "2.3", "app", 1, digest, at}},
		{spdx, "https://spdx.dev/Document/v2.3", Info{"SPDX", "2.3", "app", 1, digest, at}},
		{cdx, "https://cyclonedx.org/bom", Info{"CycloneDX", "1.6", "app", 1, digest, at}},
		{cdx, "https://cyclonedx.org/bom/v1.6", Info{"CycloneDX", "1.6", "app", 1, digest, at}},
	} {
		if got, err := Summary([]byte(tc.doc), tc.kind); err != nil || got != tc.want {
			t.Errorf("%s: got %+v, %v; want %+v", tc.kind, got, err, tc.want)
		}
	}
	other := strings.Repeat("cd", 32)
	for _, tc := range []struct{ name, doc, kind, from, to string }{
		{"wrong kind", spdx, PredicateCycloneDX, "", ""},
		{"unknown kind", spdx, "https://example.com/sbom", "", ""},
		{"kind of another version", spdx, PredicateSPDX + "/v2.2", "", ""},
		{"other version", spdx, PredicateSPDX, "SPDX-2.3", "SPDX-2.2"},
		{"describes nothing", spdx, PredicateSPDX, "DESCRIBES", "CONTAINS"},
		{"describes two", spdx, PredicateSPDX, `"packages":`, `"documentDescribes":["SPDXRef-a"],"packages":`},
		{"describes what is not there", spdx, PredicateSPDX, `"relatedSpdxElement":"SPDXRef-img"`, `"relatedSpdxElement":"SPDXRef-x"`},
		{"two with one id", spdx, PredicateSPDX, "SPDXRef-a", "SPDXRef-img"},
		{"no digest", spdx, PredicateSPDX, "SHA256", "SHA1"},
		{"no digest that is one", spdx, PredicateSPDX, digest[7:], "abc"},
		{"duplicate member", spdx, PredicateSPDX, `"SPDXID":"SPDXRef-DOCUMENT"`, `"SPDXID":"SPDXRef-DOCUMENT","SPDXID":"SPDXRef-x"`},
		{"no time", spdx, PredicateSPDX, "2026-01-02T03:04:05Z", "yesterday"},
		{"trailing data", spdx + "{}", PredicateSPDX, "", ""},
		{"other version", cdx, PredicateCycloneDX, `"1.6"`, `"1.5"`},
		{"other format", cdx, PredicateCycloneDX, `"CycloneDX"`, `"cyclonedx"`},
		{"two digests", cdx, PredicateCycloneDX, `"content":"` + digest[7:], `"content":"` + other},
		{"no component", cdx, PredicateCycloneDX, `"component"`, `"comp"`},
	} {
		doc := tc.doc
		if tc.from != "" {
			if doc = strings.Replace(doc, tc.from, tc.to, 1); doc == tc.doc {
				t.Fatalf("%s: %q is not in the document", tc.name, tc.from)
			}
		}
		if got, err := Summary([]byte(doc), tc.kind); err == nil {
			t.Errorf("%s: got %+v, want an error", tc.name, got)
		}
	}
}
