package main

import (
	"encoding/json"
	"errors"

	"github.com/colophon-build/colophon/sbom/scan"
)

// Predicate types of what scanners and VEX documents say.
const (
	predicateVuln    = "https://cosign.sigstore.dev/attestation/vuln/v1"
	predicateOpenVEX = "https://openvex.dev/ns"
	predicateCSAF    = "https://docs.oasis-open.org/csaf/csaf/v2.0"
	predicateCDXVEX  = "https://cyclonedx.org/vex" // ours: that of an SBOM would make it one
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
	return &predicate{predicateVuln, out}, err == nil
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
	return &predicate{uri, raw}, true
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
