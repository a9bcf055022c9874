package scan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Made from the documentation of ScanCode, not written by it.
const scanCodeJSON = `{"headers":[{"tool_name":"scancode-toolkit","tool_version":"32.5.0","errors":[],"output_format_version":"4.1.0"}],
"license_detections":[{"identifier":"apache_2_0-1","license_expression":"apache-2.0","license_expression_spdx":"Apache-2.0","detection_count":1}],
"files":[{"path":"src","type":"directory","detected_license_expression_spdx":null,"license_detections":[],"scan_errors":[]},
{"path":"src/main.go","type":"file","detected_license_expression_spdx":"Apache-2.0 AND MIT","license_detections":[{"license_expression":"mit","license_expression_spdx":"MIT"}],"scan_errors":[]}]}`

const spdxJSON = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","creationInfo":{"created":"2026-01-02T03:04:05Z"},"packages":[{"SPDXID":"SPDXRef-image","name":"app"},{"SPDXID":"SPDXRef-a","name":"a","versionInfo":"1","licenseConcluded":"MIT"},{"SPDXID":"SPDXRef-b","name":"b","versionInfo":"1","licenseDeclared":"NOASSERTION"}],
"relationships":[{"spdxElementId":"SPDXRef-DOCUMENT","relationshipType":"DESCRIBES","relatedSpdxElement":"SPDXRef-image"}]}`

const cycloneJSON = `{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"component":{"type":"container","name":"app"}},"components":[{"type":"library","name":"a","version":"1","licenses":[{"license":{"id":"GPL-2.0-only"}}]}]}`

func TestReadLicenses(t *testing.T) {
	for _, c := range []struct {
		raw    string
		format Format
		tool   string
		found  []string
	}{
		{scanCodeJSON, ScanCode, "scancode-toolkit 32.5.0", []string{"Apache-2.0", "Apache-2.0 AND MIT", "MIT"}},
		{spdxJSON, SPDX, "", []string{"MIT", "NOASSERTION"}},
		{cycloneJSON, CycloneDX, "", []string{"GPL-2.0-only"}},
	} {
		got, err := ReadLicenses([]byte(c.raw))
		if err != nil || got.Format != c.format || got.Tool != c.tool || !slices.Equal(got.Found, c.found) {
			t.Errorf("%s: got %+v, %v", c.format, got, err)
		}
	}
}

// TestHostileLicenses: a scan that failed, that names nothing, or whose text would fake a line is no license scan.
func TestHostileLicenses(t *testing.T) {
	var many strings.Builder
	for i := range maxLicenses + 1 {
		fmt.Fprintf(&many, `,{"license_expression_spdx":"L-%d"}`, i)
	}
	for what, c := range map[string]struct{ raw, want string }{
		"nothing":          {`{}`, "none of SPDX"},
		"twice":            {`{"bomFormat":"CycloneDX","bomFormat":"x"}`, "duplicate"},
		"another tool":     {strings.Replace(scanCodeJSON, "scancode-toolkit", "other", 1), "expected one"},
		"two headers":      {strings.Replace(scanCodeJSON, `"headers":[`, `"headers":[{"tool_name":"scancode-toolkit"},`, 1), "expected one"},
		"a scan that fell": {strings.Replace(scanCodeJSON, `"errors":[]`, `"errors":["disk full"]`, 1), "disk full"},
		"an unread file":   {strings.Replace(scanCodeJSON, `"scan_errors":[]}]`, `"scan_errors":["timeout"]}]`, 1), "timeout"},
		"no license":       {strings.ReplaceAll(spdxJSON, "MIT", "NOASSERTION"), "names no license"},
		"two lines":        {strings.Replace(scanCodeJSON, `"MIT"`, `"MIT\nBSD"`, 1), "one line"},
		"a long one":       {strings.Replace(scanCodeJSON, `"MIT"`, `"`+strings.Repeat("a", maxExpression+1)+`"`, 1), "at most 1000 bytes"},
		"very many":        {strings.Replace(scanCodeJSON, `"detection_count":1}`, `"detection_count":1}`+many.String(), 1), "more than 10000"},
		"wrong form":       {strings.Replace(scanCodeJSON, `"files":[`, `"files":[7,`, 1), "scancode:"},
	} {
		if _, err := ReadLicenses([]byte(c.raw)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", what, err, c.want)
		}
	}
}

func FuzzLicenses(f *testing.F) {
	for _, raw := range []string{scanCodeJSON, spdxJSON, cycloneJSON} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if l, err := ReadLicenses(raw); err == nil && (len(l.Found) == 0 || l.Format == "") {
			t.Errorf("got %+v", l)
		}
	})
}
