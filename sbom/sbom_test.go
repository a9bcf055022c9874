package sbom

import (
	"strings"
	"testing"
	"time"
)

const digest = "sha256:abababababababababababababababababababababababababababababababab"

var spdx = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","creationInfo":{"created":"2026-01-02T03:04:05Z"},
"packages":[{"SPDXID":"SPDXRef-a","name":"a","versionInfo":"1.0","externalRefs":[{"referenceType":"cpe23Type","referenceLocator":"cpe:x"},{"referenceType":"purl","referenceLocator":"pkg:golang/a@1.0"}]},{"SPDXID":"SPDXRef-img","name":"app","checksums":[{"algorithm":"SHA256","checksumValue":"` + digest[7:] + `"}]}],
"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-img"}]}`

var cdx = `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"timestamp":"2026-01-02T03:04:05Z",
"component":{"name":"app","version":"` + digest + `","hashes":[{"alg":"SHA-256","content":"` + digest[7:] + `"}]}},"components":[{"type":"library","group":"org","name":"a","version":"1.0","purl":"pkg:golang/a@1.0"},{"type":"file"},{"type":"operating-system"}]}`

var spdx3 = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[
{"type":"CreationInfo","@id":"_:c","specVersion":"3.0.1","created":"2026-01-02T03:04:05Z"},
{"type":"SpdxDocument","spdxId":"urn:x:doc","creationInfo":"_:c","rootElement":["urn:x:sbom"]},
{"type":"software_Sbom","spdxId":"urn:x:sbom","creationInfo":"_:c","rootElement":["urn:x:img"]},
{"type":"software_Package","spdxId":"urn:x:img","creationInfo":"_:c","name":"app","verifiedUsing":[{"type":"Hash","algorithm":"sha256","hashValue":"` + digest[7:] + `"}]},
{"type":"software_Package","spdxId":"urn:x:a","creationInfo":"_:c","name":"a","software_packageVersion":"1.0","software_packageUrl":"pkg:golang/a@1.0"},
{"type":"software_File","spdxId":"urn:x:f","creationInfo":"_:c","name":"bin/a"}]}`

// TestVersions: the same list, whatever the format and its version.
func TestVersions(t *testing.T) {
	for _, tc := range []struct{ doc, kind, format, version string }{
		{strings.Replace(spdx, "SPDX-2.3", "SPDX-2.2", 1), PredicateSPDX + "/v2.2", "SPDX", "2.2"},
		{spdx, PredicateSPDX + "/v2.3", "SPDX", "2.3"},
		{spdx3, PredicateSPDX, "SPDX", "3.0.1"},
		{spdx3, PredicateSPDX + "/v3.0", "SPDX", "3.0.1"},
		{strings.Replace(spdx3, `"creationInfo":"_:c","rootElement":["urn:x:sbom"]`, `"creationInfo":{"type":"CreationInfo","specVersion":"3.0.0","created":"2026-01-02T03:04:05Z"},"rootElement":["urn:x:img"]`, 1), PredicateSPDX, "SPDX", "3.0.0"},
		{strings.Replace(cdx, `"1.6"`, `"1.4"`, 1), PredicateCycloneDX, "CycloneDX", "1.4"},
		{strings.Replace(cdx, `"1.6"`, `"1.5"`, 1), PredicateCycloneDX + "/v1.5", "CycloneDX", "1.5"},
		{cdx, PredicateCycloneDX, "CycloneDX", "1.6"},
		{strings.Replace(cdx, `"1.6"`, `"1.7"`, 1), PredicateCycloneDX, "CycloneDX", "1.7"},
	} {
		d, err := Read([]byte(tc.doc), tc.kind)
		if err != nil {
			t.Errorf("%s %s: %v", tc.format, tc.version, err)
			continue
		}
		name := map[string]string{"SPDX": "a", "CycloneDX": "org/a"}[tc.format]
		if want := (Package{Name: name, Version: "1.0", PURL: "pkg:golang/a@1.0"}); d.Format != tc.format || d.Version != tc.version || d.SubjectDigest != digest || len(d.List) != 1 || d.List[0] != want {
			t.Errorf("%s %s: got %+v, want one package, %+v", tc.format, tc.version, d, want)
		}
	}
	for name, replace := range map[string][2]string{
		"another version":        {`"specVersion":"3.0.1"`, `"specVersion":"3.1.0"`},
		"no version":             {`"specVersion":"3.0.1",`, ``},
		"two versions":           {`"@context":`, `"spdxVersion":"SPDX-2.3","@context":`},
		"two documents":          {`"type":"software_Sbom"`, `"type":"SpdxDocument"`},
		"no document":            {`"type":"SpdxDocument"`, `"type":"Bom"`},
		"one id twice":           {`"urn:x:a"`, `"urn:x:img"`},
		"no id":                  {`"spdxId":"urn:x:a",`, ``},
		"two roots":              {`["urn:x:img"]`, `["urn:x:img","urn:x:a"]`},
		"root is elsewhere":      {`["urn:x:img"]`, `["urn:x:other"]`},
		"root is a file":         {`["urn:x:img"]`, `["urn:x:f"]`},
		"root leads in a circle": {`["urn:x:img"]`, `["urn:x:sbom"]`},
		"digest that is none":    {digest[7:], "abc"},
		"no time":                {"2026-01-02T03:04:05Z", "yesterday"},
	} {
		doc := strings.Replace(spdx3, replace[0], replace[1], 1)
		if doc == spdx3 {
			t.Fatalf("%s: %q is not in the document", name, replace[0])
		}
		if got, err := Read([]byte(doc), PredicateSPDX); err == nil {
			t.Errorf("SPDX 3, %s: got %+v, want an error", name, got)
		}
	}
	// What others write: no digest of the image, and in CycloneDX no time.
	foreign := `{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"name":"app"}},"components":[{"type":"library","name":"a","components":[{"type":"library","name":"b"}]}]}`
	if d, err := Read([]byte(foreign), PredicateCycloneDX); err != nil || len(d.List) != 2 || d.List[1].Name != "b" {
		t.Errorf("got %+v, %v, want a and b", d, err)
	}
	if got, err := ReadOfImage([]byte(foreign), PredicateCycloneDX); err == nil {
		t.Errorf("got %+v, want an error, as it does not name the image's digest", got)
	}
}

func TestReadOfImage(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		doc, kind string
		want      Info
	}{
		{spdx, "https://spdx.dev/Document", Info{"SPDX", "2.3", "app", 1, digest, at, ""}},
		{spdx, "https://spdx.dev/Document/v2.3", Info{"SPDX", "2.3", "app", 1, digest, at, ""}},
		{cdx, "https://cyclonedx.org/bom", Info{"CycloneDX", "1.6", "app", 1, digest, at, ""}},
		{cdx, "https://cyclonedx.org/bom/v1.6", Info{"CycloneDX", "1.6", "app", 1, digest, at, ""}},
	} {
		if got, err := ReadOfImage([]byte(tc.doc), tc.kind); err != nil || got.Info != tc.want {
			t.Errorf("%s: got %+v, %v; want %+v", tc.kind, got, err, tc.want)
		}
	}
	other := strings.Repeat("cd", 32)
	for _, tc := range []struct{ name, doc, kind, from, to string }{
		{"wrong kind", spdx, PredicateCycloneDX, "", ""},
		{"unknown kind", spdx, "https://example.com/sbom", "", ""},
		{"kind of another version", spdx, PredicateSPDX + "/v2.2", "", ""},
		{"other version", spdx, PredicateSPDX, "SPDX-2.3", "SPDX-2.1"},
		{"describes nothing", spdx, PredicateSPDX, "DESCRIBES", "CONTAINS"},
		{"describes two", spdx, PredicateSPDX, `"packages":`, `"documentDescribes":["SPDXRef-a"],"packages":`},
		{"describes what is not there", spdx, PredicateSPDX, `"relatedSpdxElement":"SPDXRef-img"`, `"relatedSpdxElement":"SPDXRef-x"`},
		{"two with one id", spdx, PredicateSPDX, "SPDXRef-a", "SPDXRef-img"},
		{"no digest", spdx, PredicateSPDX, "SHA256", "SHA1"},
		{"no digest that is one", spdx, PredicateSPDX, digest[7:], "abc"},
		{"duplicate member", spdx, PredicateSPDX, `"SPDXID":"SPDXRef-DOCUMENT"`, `"SPDXID":"SPDXRef-DOCUMENT","SPDXID":"SPDXRef-x"`},
		{"no time", spdx, PredicateSPDX, "2026-01-02T03:04:05Z", "yesterday"},
		{"trailing data", spdx + "{}", PredicateSPDX, "", ""},
		{"other version", cdx, PredicateCycloneDX, `"1.6"`, `"1.3"`},
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
		if got, err := ReadOfImage([]byte(doc), tc.kind); err == nil {
			t.Errorf("%s: got %+v, want an error", tc.name, got)
		}
	}
}

func TestTooManyPackages(t *testing.T) {
	one := strings.Index(cdx, `{"type":"library"`)
	for n, want := range map[int]string{maxPackages - 1: "", maxPackages: "at most 200000"} { // and the one that is there
		doc := cdx[:one] + strings.Repeat(`{"type":"library","name":"b"},`, n) + cdx[one:]
		if _, err := Read([]byte(doc), PredicateCycloneDX); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d packages: got %v, want %q", n+1, err, want)
		}
	}
}

// TestLicenses: what a document says about the license of a package, in any form that it may
// have. It decides nothing, so that a form that nobody knows is none.
func TestLicenses(t *testing.T) {
	for said, want := range map[string]string{
		`"licenseConcluded":"MIT","licenseDeclared":"ISC"`: "MIT", `"licenseConcluded":"NOASSERTION","licenseDeclared":"ISC"`: "ISC",
		`"licenseConcluded":"NONE"`: "", `"licenseConcluded":["MIT"]`: "",
	} {
		if d, err := Read([]byte(strings.Replace(spdx, `"name":"a"`, `"name":"a",`+said, 1)), PredicateSPDX); err != nil || len(d.List) != 1 || d.List[0].License != want {
			t.Errorf("SPDX, %s: got %+v, %v, want %q", said, d, err, want)
		}
	}
	for said, want := range map[string]string{
		`[{"license":{"id":"MIT"}}]`: "MIT", `[{"license":{"name":"Own"}}]`: "Own", `[{"expression":"MIT OR ISC"}]`: "MIT OR ISC", `[{"license":{"id":"MIT"}},{"license":{"name":"My Own"}}]`: "MIT AND (My Own)",
		`[]`: "", `{"id":"MIT"}`: "", `["MIT"]`: "", `[{"license":"MIT"}]`: "",
	} {
		if d, err := Read([]byte(strings.Replace(cdx, `"name":"a"`, `"name":"a","licenses":`+said, 1)), PredicateCycloneDX); err != nil || len(d.List) != 1 || d.List[0].License != want {
			t.Errorf("CycloneDX, %s: got %+v, %v, want %q", said, d, err, want)
		}
	}
}
