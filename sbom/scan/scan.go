// Package scan reads what vulnerability scanners and VEX documents say about the packages of an image: SARIF
// 2.1.0, the JSON of Trivy, Grype and OSV-Scanner, OpenVEX, CSAF 2.0 and CycloneDX with vulnerabilities. Read returns
// the same for each format, as far as the format says it. It reads the members that it needs and ignores
// the others, because these formats are other people's and get new ones.
package scan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Format is the format of a document.
type Format string

// Formats.
const (
	SARIF     Format = "sarif"
	Trivy     Format = "trivy"
	Grype     Format = "grype"
	OSV       Format = "osv"
	OpenVEX   Format = "openvex"
	CSAF      Format = "csaf"
	CycloneDX Format = "cyclonedx"
)

// maxFindings limits what one document says.
const maxFindings = 200_000

// Status is what a VEX document says about a vulnerability in a package. The words are those of OpenVEX.
type Status string

// Statuses.
const (
	Affected      Status = "affected"
	NotAffected   Status = "not_affected"
	Fixed         Status = "fixed"
	Investigating Status = "under_investigation"
)

// Finding is what a document says about one vulnerability: that a package has it, or what a VEX document
// says about it.
type Finding struct {
	ID       string   // CVE-2021-44228, GHSA-…
	Aliases  []string // other ids of the same vulnerability
	Package  string   // name; empty if the document does not say
	Version  string
	PURL     string // package URL; of a VEX document: of a product, or of a part of it
	Product  string // of a VEX document: what the statement is about, as written there, such as the package URL of an image
	Severity string // as written; empty if the document does not say
	Status   Status // of a VEX document, and of what a scanner suppressed because of one; else empty
}

// Document is a document that was read.
type Document struct {
	Format   Format
	Tool     string // name and version of what wrote it, or its author; empty if the document does not say
	Findings []Finding
}

// VEX reports whether the document says which vulnerabilities matter, and is not a scanner's list of what is there.
func (d *Document) VEX() bool { return slices.Contains([]Format{OpenVEX, CSAF, CycloneDX}, d.Format) }

// Read reads a document of at most limits.Statement bytes (12 MiB), and finds out its format. It returns an error if
// the document is of none of the formats, or contradicts its own.
func Read(raw []byte) (*Document, error) {
	var members map[string]json.RawMessage
	if err := strict.Unmarshal(raw, limits.Statement, &members); err != nil {
		return nil, err
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return members[n] == nil })
	}
	var read func([]byte) (*Document, error)
	switch {
	case has("runs", "version"):
		read = readSARIF
	case has("matches", "descriptor"):
		read = readGrype
	case has("ArtifactName"), has("SchemaVersion", "Results"):
		read = readTrivy
	case has("@context", "statements"):
		read = readOpenVEX
	case has("document", "vulnerabilities"):
		read = readCSAF
	case has("bomFormat", "vulnerabilities"):
		read = readCycloneDX
	case has("results"):
		read = readOSV
	default:
		return nil, errors.New("it is none of SARIF, Trivy, Grype, OSV-Scanner, OpenVEX, CSAF and CycloneDX with vulnerabilities")
	}
	d, err := read(raw)
	if err == nil && len(d.Findings) > maxFindings {
		err = fmt.Errorf("got %d findings, want at most %d", len(d.Findings), maxFindings)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// decode decodes what a reader needs of a document.
func decode[T any](raw []byte, format Format) (d T, err error) {
	if err = strict.Unmarshal(raw, limits.Statement, &d); err != nil {
		err = fmt.Errorf("%s: %w", format, err)
	}
	return d, err
}

// splitPURL returns name and version in a package URL, as its type writes them.
func splitPURL(purl string) (name, version string) {
	plain, _, _ := strings.Cut(purl, "?")
	plain, _, _ = strings.Cut(plain, "#")
	if at := strings.LastIndexByte(plain, '@'); at > strings.LastIndexByte(plain, '/') {
		plain, version = plain[:at], plain[at+1:]
	}
	return plain[strings.LastIndexByte(plain, '/')+1:], version
}

// Says returns what VEX documents say about a vulnerability in a package, by its id or one of its aliases: the status of
// the last one that says anything, or "".
func Says(documents []*Document, f Finding) (status Status) {
	ids := append([]string{f.ID}, f.Aliases...)
	for _, d := range documents {
		if !d.VEX() {
			continue
		}
		for _, s := range d.Findings {
			same := slices.ContainsFunc(append([]string{s.ID}, s.Aliases...), func(id string) bool { return slices.Contains(ids, id) })
			if same && s.matches(f) {
				status = s.Status
			}
		}
	}
	return status
}

// matches reports whether a statement is about the package of a finding. A statement without a version is
// about all versions, and one about a whole image about all packages. Of a product that is named in another
// way, nobody knows what it is.
func (s Finding) matches(f Finding) bool {
	if s.PURL == "" && s.Package == "" {
		return s.Product == "" || ofImage(s.Product)
	}
	if s.PURL != "" && f.PURL != "" {
		a, _, _ := strings.Cut(s.PURL, "?")
		b, _, _ := strings.Cut(f.PURL, "?")
		return a == b || s.Version == "" && strings.HasPrefix(b, a+"@")
	}
	return s.Package == f.Package && (s.Version == "" || s.Version == f.Version)
}
