package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/sbom/scan"
)

// Predicate types of what scanners and VEX documents say.
const (
	predicateVuln    = "https://cosign.sigstore.dev/attestation/vuln/v1"
	predicateOpenVEX = "https://openvex.dev/ns"
	predicateCSAF    = "https://docs.oasis-open.org/csaf/csaf/v2.0"
	predicateCDXVEX  = "https://cyclonedx.org/vex" // ours: that of an SBOM would make it one
	predicateSCAI    = "https://in-toto.io/attestation/scai/v0.3"
)

// scanned returns the predicate for the document of a scanner: as cosign specifies it, with the whole
// document as the result. It has no time of its own, so that the same document is the same predicate.
func scanned(raw []byte) (*predicate, bool) {
	d, err := scan.Read(raw)
	if err != nil || d.VEX() {
		return nil, false
	}
	var p struct {
		Scanner struct {
			URI     string          `json:"uri"`
			Version string          `json:"version,omitempty"`
			Result  json.RawMessage `json:"result"`
		} `json:"scanner"`
		Metadata struct{} `json:"metadata"`
	}
	p.Scanner.URI, p.Scanner.Version, p.Scanner.Result = scannerURIs[d.Format], d.Tool, raw
	out, err := json.Marshal(p)
	return &predicate{uri: predicateVuln, raw: out}, err == nil
}

// scannerURIs name the format of a result.
var scannerURIs = map[scan.Format]string{
	scan.SARIF: "https://docs.oasis-open.org/sarif/sarif/v2.1.0", scan.Trivy: "https://trivy.dev",
	scan.Grype: "https://github.com/anchore/grype", scan.OSV: "https://google.github.io/osv-scanner",
}

// exploitability returns the predicate for a VEX document: the document itself.
func exploitability(raw []byte) (*predicate, bool) {
	d, err := scan.Read(raw)
	if err != nil || !d.VEX() {
		return nil, false
	}
	uri := map[scan.Format]string{scan.OpenVEX: predicateOpenVEX, scan.CSAF: predicateCSAF, scan.CycloneDX: predicateCDXVEX}[d.Format]
	return &predicate{uri: uri, raw: raw}, true
}

// notVEX says what is wrong with a document that exploitability did not read.
func notVEX(raw []byte) error {
	d, err := scan.Read(raw)
	switch {
	case err != nil:
		return err
	case !d.VEX():
		return errors.New("it is what the scanner " + d.Tool + " found: --type vuln")
	}
	return nil
}

// scaiReport is a SCAI attribute report (in-toto attestation, scai.md): what a tool asserts about the subject, with its evidence.
type scaiReport struct {
	Attributes []scaiAttribute `json:"attributes"`
	Producer   *scaiResource   `json:"producer,omitempty"`
}

type scaiAttribute struct {
	Attribute string        `json:"attribute"`
	Evidence  *scaiResource `json:"evidence,omitempty"`
}

// scaiResource is an in-toto resource descriptor.
type scaiResource struct {
	Name      string            `json:"name,omitempty"`
	Digest    map[string]string `json:"digest,omitempty"`
	MediaType string            `json:"mediaType,omitempty"`
	Content   []byte            `json:"content,omitempty"`
}

// The attributes of a license scan: that there was one, which has the document, and one for each license.
const (
	licensesScanned = "LICENSES_SCANNED"
	licenseFound    = "LICENSE_FOUND: "
)

// scanMediaTypes are those of documents in license scans.
var scanMediaTypes = map[scan.Format]string{scan.SPDX: "application/spdx+json", scan.CycloneDX: "application/vnd.cyclonedx+json", scan.ScanCode: "application/json"}

// licensed returns the predicate for a license scan: a SCAI report that has the whole document as evidence. In-toto has no
// predicate about licenses. The predicate of an SBOM does not serve, because verify compares each SBOM with the image.
func licensed(raw []byte) (*predicate, bool) {
	l, err := scan.ReadLicenses(raw)
	if err != nil {
		return nil, false
	}
	sum := sha256.Sum256(raw)
	digest := map[string]string{"sha256": hex.EncodeToString(sum[:])}
	report := scaiReport{Attributes: []scaiAttribute{{licensesScanned, &scaiResource{string(l.Format), digest, scanMediaTypes[l.Format], raw}}}}
	for _, found := range l.Found {
		report.Attributes = append(report.Attributes, scaiAttribute{licenseFound + found, &scaiResource{Digest: digest}})
	}
	if l.Tool != "" {
		report.Producer = &scaiResource{Name: l.Tool}
	}
	out, err := json.Marshal(report)
	return &predicate{predicateSCAI, out, l.About}, err == nil
}

// checkSCAI checks a document that is a SCAI report already, and says of any other why it is no license scan.
func checkSCAI(raw []byte) error {
	var report struct {
		Attributes []struct {
			Attribute string `json:"attribute"`
		} `json:"attributes"`
	}
	if has("attributes")(raw) != nil {
		_, err := scan.ReadLicenses(raw)
		return err
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		return err
	}
	if len(report.Attributes) == 0 {
		return errors.New("attributes: expected at least one")
	}
	for i, a := range report.Attributes {
		if a.Attribute == "" {
			return fmt.Errorf("attributes: item %d has no attribute", i)
		}
	}
	return nil
}
