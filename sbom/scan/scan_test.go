package scan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/sbom/scan"
)

// The documents in testdata are made from the documentation of the formats: none was written by the tool.

const log4j = "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"

func read(t *testing.T, name string) *scan.Document {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := scan.Read(raw)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// TestFormats: each format says the same: log4j-core 2.14.1 has CVE-2021-44228, or does not.
func TestFormats(t *testing.T) {
	for name, want := range map[string]struct {
		tool    string
		n       int
		finding scan.Finding
	}{
		"sarif":         {"Trivy 0.60.0", 2, scan.Finding{ID: "CVE-2021-44228", Severity: "error"}},
		"trivy":         {"Trivy 0.60.0", 1, scan.Finding{ID: "CVE-2021-44228", Package: "log4j-core", Version: "2.14.1", PURL: log4j, Severity: "CRITICAL"}},
		"grype":         {"grype 0.90.0", 2, scan.Finding{ID: "GHSA-jfh8-c2jp-5v3q", Aliases: []string{"CVE-2021-44228"}, Package: "log4j-core", Version: "2.14.1", PURL: log4j, Severity: "Critical"}},
		"osv":           {"OSV-Scanner", 1, scan.Finding{ID: "GHSA-jfh8-c2jp-5v3q", Aliases: []string{"CVE-2021-44228"}, Package: "org.apache.logging.log4j:log4j-core", Version: "2.14.1"}},
		"openvex":       {"Shop Security", 1, scan.Finding{ID: "CVE-2021-44228", Aliases: []string{"GHSA-jfh8-c2jp-5v3q"}, Package: "log4j-core", Version: "2.14.1", PURL: log4j, Product: "pkg:oci/app?repository_url=reg.example.com/team/app", Status: scan.NotAffected}},
		"csaf":          {"Shop Security", 1, scan.Finding{ID: "CVE-2021-44228", Package: "log4j-core", Version: "2.14.1", PURL: log4j, Product: "CSAFPID-1", Status: scan.NotAffected}},
		"cyclonedx-vex": {"", 1, scan.Finding{ID: "CVE-2021-44228", Aliases: []string{"GHSA-jfh8-c2jp-5v3q"}, Package: "log4j-core", Version: "2.14.1", PURL: log4j, Product: "log4j", Severity: "critical", Status: scan.NotAffected}},
	} {
		d := read(t, name)
		if d.Tool != want.tool || len(d.Findings) != want.n {
			t.Errorf("%s: got %q and %d findings, want %q and %d", name, d.Tool, len(d.Findings), want.tool, want.n)
			continue
		}
		if got := fmt.Sprintf("%+v", d.Findings[0]); got != fmt.Sprintf("%+v", want.finding) {
			t.Errorf("%s: got %s, want %+v", name, got, want.finding)
		}
		if vex := strings.Contains(name, "vex") || name == "csaf"; d.VEX() != vex {
			t.Errorf("%s: VEX: got %t", name, d.VEX())
		}
	}
	if s := read(t, "sarif").Findings[1].Status; s != scan.NotAffected {
		t.Errorf("a suppressed result: got %q", s)
	}
	if s := read(t, "grype").Findings[1].Status; s != scan.Fixed {
		t.Errorf("an ignored match: got %q", s)
	}
}

// TestSays: which findings have no VEX statement. A statement about another version, package or vulnerability says nothing.
func TestSays(t *testing.T) {
	found := read(t, "grype").Findings[0]
	for _, name := range []string{"openvex", "csaf", "cyclonedx-vex"} {
		vex := []*scan.Document{read(t, "trivy"), read(t, name)}
		if got := scan.Says(vex, found); got != scan.NotAffected {
			t.Errorf("%s: got %q, want not_affected", name, got)
		}
		for what, change := range map[string]func(*scan.Finding){
			"another version":       func(f *scan.Finding) { f.PURL, f.Version = strings.Replace(f.PURL, "2.14.1", "2.14.10", 1), "2.14.10" },
			"another package":       func(f *scan.Finding) { f.PURL = strings.Replace(f.PURL, "core", "api", 1) },
			"another vulnerability": func(f *scan.Finding) { f.ID, f.Aliases = "CVE-2021-45046", nil },
		} {
			other := found
			if change(&other); scan.Says(vex, other) != "" {
				t.Errorf("%s, %s: got %q, want nothing", name, what, scan.Says(vex, other))
			}
		}
	}
}

// TestSaysOfTheUnknown: a statement about something that has no package URL is not about all packages; one about the whole
// image is.
func TestSaysOfTheUnknown(t *testing.T) {
	openvex := func(products string) string {
		return `{"@context":"https://openvex.dev/ns/v0.2.0","statements":[{"vulnerability":{"name":"CVE-2021-44228"},"status":"not_affected","products":[` + products + `]}]}`
	}
	for what, tt := range map[string]struct {
		raw  string
		want scan.Status
	}{
		"the whole image":             {openvex(`{"@id":"pkg:oci/app@sha256:1"}`), scan.NotAffected},
		"no product":                  {openvex(``), scan.NotAffected},
		"another product":             {openvex(`{"@id":"https://example.com/another-product"}`), ""},
		"a part without package URL":  {openvex(`{"@id":"pkg:oci/app@sha256:1","subcomponents":[{"@id":"zlib"}]}`), ""},
		"this part by its name":       {openvex(`{"@id":"pkg:oci/app@sha256:1","subcomponents":[{"@id":"log4j-core"}]}`), scan.NotAffected},
		"a product of CSAF":           {`{"document":{"csaf_version":"2.0"},"product_tree":{},"vulnerabilities":[{"cve":"CVE-2021-44228","product_status":{"known_not_affected":["CSAFPID-7"]}}]}`, ""},
		"a component without its URL": {`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-2021-44228","analysis":{"state":"not_affected"},"affects":[{"ref":"zlib"}]}]}`, ""},
	} {
		d, err := scan.Read([]byte(tt.raw))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, found := range []string{"grype", "sarif"} {
			f := read(t, found).Findings[0]
			if f.Package == "" && what == "this part by its name" {
				continue // SARIF names no package
			}
			if got := scan.Says([]*scan.Document{d}, f); got != tt.want {
				t.Errorf("%s, %s: got %q, want %q", what, found, got, tt.want)
			}
		}
	}
}

// TestReadRefuses: what is of none of the formats, or contradicts its own.
func TestReadRefuses(t *testing.T) {
	for what, tt := range map[string]struct{ raw, says string }{
		"nothing":               {`{}`, "none of"},
		"no object":             {`[]`, ""},
		"twice the same member": {`{"version":"2.1.0","version":"2.1.0","runs":[]}`, ""},
		"another SARIF":         {`{"version":"2.0.0","runs":[]}`, "version"},
		"another Trivy":         {`{"SchemaVersion":1,"ArtifactName":"a","Results":[]}`, "SchemaVersion"},
		"another VEX":           {`{"@context":"https://evil.example","statements":[]}`, "@context"},
		"an unknown status":     {`{"@context":"https://openvex.dev/ns/v0.2.0","statements":[{"vulnerability":{"name":"CVE-1"},"status":"fine"}]}`, "status"},
		"an unknown state":      {`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"fine"}}]}`, "state"},
		"another CSAF":          {`{"document":{"csaf_version":"1.0"},"vulnerabilities":[]}`, "csaf_version"},
		"a finding without id":  {`{"matches":[{"artifact":{"name":"a"}}],"descriptor":{}}`, "no id"},
	} {
		if d, err := scan.Read([]byte(tt.raw)); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %+v, %v, want %q", what, d, err, tt.says)
		}
	}
}

// TestManyFindings: a document with more findings than are read is refused.
func TestManyFindings(t *testing.T) {
	raw := `{"version":"2.1.0","runs":[{"results":[` + strings.TrimSuffix(strings.Repeat(`{"ruleId":"a"},`, 200_001), ",") + `]}]}`
	if _, err := scan.Read([]byte(raw)); err == nil || !strings.Contains(err.Error(), "at most 200000") {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := scan.Read(raw)
		if err != nil {
			return
		}
		for _, finding := range d.Findings {
			scan.Says([]*scan.Document{d}, finding)
		}
	})
}
