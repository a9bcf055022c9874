package scan

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sbom"
)

// Formats of license scans beside CycloneDX.
const (
	SPDX     Format = "spdx"
	ScanCode Format = "scancode"
)

const (
	maxLicenses   = 10_000 // different expressions of one document
	maxExpression = 1000   // bytes of one
)

// noLicense is what SPDX says of a package whose license is not known (SPDX 2.3, 7.13).
const noLicense = "NOASSERTION"

// Licenses is what a document says about licenses.
type Licenses struct {
	Format Format
	Tool   string   // name and version of what wrote it; empty if the document does not say
	About  string   // digest that the document says it is about, sha256:HEX; empty if it does not say
	Found  []string // SPDX expressions, or names, as written: sorted, each once. NOASSERTION: of something it is not known
}

// ReadLicenses reads a license scan of at most limits.Statement bytes (12 MiB): an SPDX or CycloneDX document whose packages
// have licenses, or the JSON of ScanCode 32 or later, as its documentation describes it. It returns an error if the
// document is none of them, contradicts its own format, or names no license.
func ReadLicenses(raw []byte) (*Licenses, error) {
	var members map[string]json.RawMessage
	if err := strict.Unmarshal(raw, limits.Statement, &members); err != nil {
		return nil, err
	}
	l, err := &Licenses{}, error(nil)
	found := map[string]bool{}
	switch {
	case members["spdxVersion"] != nil || members["@graph"] != nil:
		l.Format = SPDX
		l.About, err = ofPackages(found, raw, sbom.PredicateSPDX)
	case members["bomFormat"] != nil:
		l.Format = CycloneDX
		l.About, err = ofPackages(found, raw, sbom.PredicateCycloneDX)
	case members["headers"] != nil && members["files"] != nil:
		l.Format = ScanCode
		l.Tool, err = scanCode(found, raw)
	default:
		err = errors.New("it is none of SPDX, CycloneDX and ScanCode's JSON")
	}
	if err != nil {
		return nil, err
	}
	l.Found = slices.Sorted(maps.Keys(found))
	if len(l.Found) == 0 || len(l.Found) == 1 && l.Found[0] == noLicense {
		return nil, fmt.Errorf("%s: it names no license", l.Format)
	}
	return l, nil
}

// note adds an expression.
func note(found map[string]bool, expression string) error {
	if expression = strings.TrimSpace(expression); expression == "" || expression == "NONE" {
		expression = noLicense
	}
	if len(expression) > maxExpression || printable.Line(expression) != expression {
		return fmt.Errorf("license: expected one line of at most %d bytes, found %.60q", maxExpression, expression)
	}
	if found[expression] = true; len(found) > maxLicenses {
		return fmt.Errorf("got more than %d different licenses", maxLicenses)
	}
	return nil
}

func ofPackages(found map[string]bool, raw []byte, predicateType string) (about string, err error) {
	d, err := sbom.Read(raw, predicateType)
	if err != nil {
		return "", err
	}
	for _, p := range d.List {
		if err := note(found, p.License); err != nil {
			return "", err
		}
	}
	return d.SubjectDigest, nil
}

// scanCode reads the JSON of ScanCode in the format that its version 32 introduced.
func scanCode(found map[string]bool, raw []byte) (tool string, err error) {
	type detection struct {
		SPDX string `json:"license_expression_spdx"`
	}
	d, err := decode[struct {
		Headers []struct {
			Tool    string   `json:"tool_name"`
			Version string   `json:"tool_version"`
			Errors  []string `json:"errors"`
		} `json:"headers"`
		Detections []detection `json:"license_detections"`
		Files      []struct {
			Path       string      `json:"path"`
			SPDX       *string     `json:"detected_license_expression_spdx"`
			Detections []detection `json:"license_detections"`
			Errors     []string    `json:"scan_errors"`
		} `json:"files"`
	}](raw, ScanCode)
	if err != nil {
		return "", err
	}
	if len(d.Headers) != 1 || !strings.HasPrefix(d.Headers[0].Tool, "scancode") {
		return "", errors.New("scancode: headers: expected one, of the tool scancode-toolkit")
	}
	if h := d.Headers[0]; len(h.Errors) > 0 {
		return "", fmt.Errorf("scancode: the scan has errors: %.200q", h.Errors[0])
	}
	for _, f := range d.Files {
		if len(f.Errors) > 0 {
			return "", fmt.Errorf("scancode: %.200q could not be scanned: %.200q", f.Path, f.Errors[0])
		}
		if f.SPDX != nil {
			err = note(found, *f.SPDX)
		}
		for _, one := range f.Detections {
			err = errors.Join(err, note(found, one.SPDX))
		}
		if err != nil {
			return "", err
		}
	}
	for _, one := range d.Detections {
		if err := note(found, one.SPDX); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(d.Headers[0].Tool + " " + d.Headers[0].Version), nil
}
