package sbom_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/sbom"
)

// What the SBOMs of our own releases lack.
func TestCheckReleased(t *testing.T) {
	all := []string{"example.com/hello@UNKNOWN", "github.com/google/uuid@v1.6.0", "stdlib@go1.26.8"}
	unlicensed := all[:2]
	for _, tt := range []struct {
		file, kind, list string
		want             []sbom.Missing
	}{
		{"hello.spdx.json", sbom.PredicateSPDX, sbom.NTIA, []sbom.Missing{{"supplier name", all}, {"author of SBOM data", nil}}},
		{"hello.cdx.json", sbom.PredicateCycloneDX, sbom.NTIA, []sbom.Missing{{"supplier name", all}, {"author of SBOM data", nil}}},
		{"hello.spdx.json", sbom.PredicateSPDX, sbom.CISA, []sbom.Missing{{"SBOM author", nil}, {"software producer", all}, {"component hash", []string{all[0], all[2]}}, {"license", unlicensed}, {"generation context", nil}}},
		{"hello.cdx.json", sbom.PredicateCycloneDX, sbom.BSI, []sbom.Missing{{"creator of the SBOM: an e-mail address or a URL", nil}, {"component creator", all}, {"distribution licences", unlicensed}, {"hash value of the deployable component (SHA-512)", all}}},
	} {
		raw, err := os.ReadFile("testdata/" + tt.file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := sbom.Check(raw, tt.kind, tt.list); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s, %s: got %+v, %v\nwant %+v", tt.file, tt.list, got, err, tt.want)
		}
	}
}

const fullSPDX = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: syft-1","Organization: ACME (sbom@acme.example)"]},
	"packages":[{"SPDXID":"SPDXRef-image","name":"app"},{"SPDXID":"SPDXRef-a","name":"a","versionInfo":"1","supplier":"Organization: ACME","licenseConcluded":"MIT",
		"checksums":[{"algorithm":"SHA512","checksumValue":"00"}],"externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/a@1"}]}],
	"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-image"},{"spdxElementId":"SPDXRef-image","relationshipType":"CONTAINS","relatedSpdxElement":"SPDXRef-a"}]}`

const fullCycloneDX = `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"timestamp":"2026-01-02T03:04:05Z","lifecycles":[{"phase":"build"}],"tools":{"components":[{"type":"application","name":"syft"}]},
		"manufacturer":{"name":"ACME","url":["https://acme.example"]},"component":{"type":"container","name":"app","bom-ref":"i"}},
	"components":[{"type":"library","bom-ref":"a","name":"a","version":"1","purl":"pkg:npm/a@1","supplier":{"name":"ACME"},"licenses":[{"license":{"id":"MIT"}}],"hashes":[{"alg":"SHA-512","content":"00"}]}],
	"dependencies":[{"ref":"i","dependsOn":["a"]}]}`

// Each part that is taken away is missing then, in all lists that have it.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		document, old, new string
		want               string // LIST:ELEMENT …
	}{
		{fullSPDX, "", "", "bsi:format cisa:generation"},
		{fullSPDX, `Organization: ACME (sbom@acme.example)`, `Organization: ACME`, "bsi:format bsi:creator cisa:generation"},
		{fullSPDX, `,"Organization: ACME (sbom@acme.example)"`, ``, "bsi:format bsi:creator cisa:SBOM cisa:generation ntia:author"},
		{fullSPDX, `"Tool: syft-1",`, ``, "bsi:format cisa:tool cisa:generation"},
		{fullSPDX, `"supplier":"Organization: ACME"`, `"supplier":"NOASSERTION"`, "bsi:format bsi:component cisa:software cisa:generation ntia:supplier"},
		{fullSPDX, `"licenseConcluded":"MIT"`, `"licenseConcluded":"NONE"`, "bsi:format bsi:distribution cisa:license cisa:generation"},
		{fullSPDX, `"versionInfo":"1"`, `"versionInfo":""`, "bsi:format bsi:component cisa:component cisa:generation ntia:version"},
		{fullSPDX, `"SHA512"`, `"SHA256"`, "bsi:format bsi:hash cisa:generation"},
		{fullSPDX, `"purl"`, `"website"`, "bsi:format cisa:software cisa:generation ntia:other"},
		{fullSPDX, `"CONTAINS"`, `"OTHER"`, "bsi:format bsi:dependencies cisa:dependency cisa:generation ntia:dependency"},
		{fullSPDX, `"checksums":[{`, `"checksums":[7,{`, ""}, // what Read refuses
		{fullCycloneDX, "", "", ""},
		{fullCycloneDX, `"1.6"`, `"1.5"`, "bsi:format"},
		{fullCycloneDX, `,"url":["https://acme.example"]`, ``, "bsi:creator"},
		{fullCycloneDX, `"manufacturer":{"name":"ACME","url":["https://acme.example"]},`, ``, "bsi:creator cisa:SBOM ntia:author"},
		{fullCycloneDX, `"timestamp":"2026-01-02T03:04:05Z",`, ``, "bsi:timestamp cisa:timestamp ntia:timestamp"},
		{fullCycloneDX, `"lifecycles":[{"phase":"build"}],`, ``, "cisa:generation"},
		{fullCycloneDX, `"components":[{"type":"application","name":"syft"}]`, ``, "cisa:tool"},
		{fullCycloneDX, `"supplier":{"name":"ACME"}`, `"supplier":"ACME"`, "bsi:component cisa:software ntia:supplier"},
		{fullCycloneDX, `"purl":"pkg:npm/a@1",`, ``, "cisa:software ntia:other"},
		{fullCycloneDX, `"licenses":[{"license":{"id":"MIT"}}],`, ``, "bsi:distribution cisa:license"},
		{fullCycloneDX, `"dependsOn":["a"]`, `"dependsOn":[]`, "bsi:dependencies cisa:dependency ntia:dependency"},
		{fullCycloneDX, `"hashes":[{"alg":"SHA-512","content":"00"}]`, `"hashes":[]`, "bsi:hash cisa:component"},
	} {
		kind := sbom.PredicateSPDX
		if strings.Contains(tt.document, "bomFormat") {
			kind = sbom.PredicateCycloneDX
		}
		if strings.Count(tt.document, tt.old) != 1 && tt.old != "" {
			t.Fatalf("%q is not in the document once", tt.old)
		}
		var got []string
		for _, list := range []string{sbom.BSI, sbom.CISA, sbom.NTIA} {
			missing, err := sbom.Check([]byte(strings.Replace(tt.document, tt.old, tt.new, 1)), kind, list)
			if err != nil && !strings.Contains(tt.new, "7") {
				t.Fatalf("%q: %v", tt.new, err)
			}
			for _, m := range missing {
				element, _, _ := strings.Cut(strings.TrimRight(strings.Fields(m.Element)[0], ":"), " ")
				got = append(got, list+":"+element)
			}
		}
		if want := strings.Fields(tt.want); !slices.Equal(got, want) {
			t.Errorf("%q → %q: got %q, want %q", tt.old, tt.new, got, want)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ document, kind, list, want string }{
		"another list":   {fullSPDX, sbom.PredicateSPDX, "nist", "want one of ntia, cisa, bsi"},
		"another format": {fullSPDX, sbom.PredicateCycloneDX, sbom.NTIA, "CycloneDX document"},
		"no document":    {`{}`, sbom.PredicateSPDX, sbom.NTIA, "SPDX document"},
		"SPDX 3": {`{"@context":"x","@graph":[{"type":"SpdxDocument","spdxId":"d","rootElement":["p"],"creationInfo":{"specVersion":"3.0.1","created":"2026-01-02T03:04:05Z"}},{"type":"software_Package","spdxId":"p","name":"app"}]}`,
			sbom.PredicateSPDX, sbom.NTIA, "cannot be checked"},
	} {
		if got, err := sbom.Check([]byte(tt.document), tt.kind, tt.list); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, got, err, tt.want)
		}
	}
}
