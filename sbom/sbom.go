// Package sbom reads SBOMs of container images: SPDX 2.2, 2.3 and 3.0
// (spdx.github.io/spdx-spec) and CycloneDX 1.4 to 1.7 (cyclonedx.org/specification)
// in JSON, as they are attached to images. Read returns the same list of packages
// for each format. Package sbom/contents compares it with the image.
package sbom

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/source"
)

// Predicate types of the two formats, as cosign attests them. A version may follow,
// as in https://spdx.dev/Document/v2.3.
const (
	PredicateSPDX      = "https://spdx.dev/Document"
	PredicateCycloneDX = "https://cyclonedx.org/bom"
)

// Info is what a document says about itself and the image.
type Info struct {
	Format        string    // "SPDX" or "CycloneDX"
	Version       string    // of the format: "2.3", "3.0.1", "1.6"
	Name          string    // name of the image described
	Packages      int       // number of packages, without the image itself
	SubjectDigest string    // "sha256:HEX" of the image described; empty if the document has none
	Created       time.Time // UTC; zero if a CycloneDX document has none
	Source        string    // what the image was built from, git+URI@COMMIT; empty if the document does not say
}

// Package is one package that a document lists. Files, the operating system and the
// image itself are not packages.
type Package struct {
	Name    string
	Version string // as written in the document; may be empty
	PURL    string // package URL (github.com/package-url/purl-spec); may be empty
	License string // SPDX expression, or a name, as written in the document; empty if it does not say, and of SPDX 3
}

// Document is a parsed SBOM.
type Document struct {
	Info
	List []Package // in the order of the document
	// Unread names the files of the image that the scanner could not read, so that the
	// list may lack packages. Colophon's scanner says so; others leave it out in silence.
	Unread []string
}

// unread introduces the name of a file that the scanner could not read: in the comment of an
// annotation of an SPDX document, and as the name of a property of a CycloneDX document's
// metadata. cmd/colophon-scan writes them.
const (
	unreadSPDX      = "colophon: not read: "
	unreadCycloneDX = "colophon:not-read"
)

// maxPackages is the maximum number of packages in a document.
const maxPackages = 200_000

// Format returns the format of documents with a predicate type: "SPDX", "CycloneDX",
// or "" if it is neither. A version may follow the predicate type ("/v2.3").
func Format(predicateType string) string {
	format, _ := formatOf(predicateType)
	return format
}

func formatOf(predicateType string) (format, version string) {
	base := predicateType
	if i := strings.LastIndex(predicateType, "/v"); i > 0 {
		base, version = predicateType[:i], predicateType[i+2:]
	}
	switch base {
	case PredicateSPDX:
		return "SPDX", version
	case PredicateCycloneDX:
		return "CycloneDX", version
	}
	return "", ""
}

// Read parses a document of at most limits.Statement bytes (12 MiB) in the format
// that the predicate type names. It fails unless the document describes exactly one
// thing, lists at most 200,000 packages, and has the version in the predicate type,
// if there is one.
func Read(predicate []byte, predicateType string) (*Document, error) {
	format, version := formatOf(predicateType)
	read := readCycloneDX
	switch format {
	case "":
		return nil, fmt.Errorf("predicate type: got %q, want %q or %q", predicateType, PredicateSPDX, PredicateCycloneDX)
	case "SPDX":
		read = readSPDX
	}
	d, err := read(predicate)
	if err == nil && len(d.List) > maxPackages {
		err = fmt.Errorf("got %d packages, want at most %d", len(d.List), maxPackages)
	}
	if err != nil {
		return nil, fmt.Errorf("%s document: %w", format, err)
	}
	if version != "" && version != d.Version && !strings.HasPrefix(d.Version, version+".") {
		return nil, fmt.Errorf("%s document: version: got %q, the predicate type says %q", format, d.Version, version)
	}
	d.Packages = len(d.List)
	return d, nil
}

// ReadOfImage is like Read, and fails if the document has no digest of the image or no
// creation time.
func ReadOfImage(predicate []byte, predicateType string) (*Document, error) {
	d, err := Read(predicate, predicateType)
	switch {
	case err != nil:
		return nil, err
	case d.SubjectDigest == "":
		return nil, fmt.Errorf("%s document: there is no sha256 digest of the image", d.Format)
	case d.Created.IsZero():
		return nil, fmt.Errorf("%s document: there is no creation time", d.Format)
	}
	return d, nil
}

// subject records a digest of the image. All digests in a document must be the same.
func (i *Info) subject(hex string) error {
	h, err := v1.NewHash("sha256:" + hex)
	if err != nil {
		return fmt.Errorf("digest of the image: got %q: %w", hex, err)
	}
	if i.SubjectDigest != "" && i.SubjectDigest != h.String() {
		return fmt.Errorf("digest of the image: got %s and %s, want one", i.SubjectDigest, h)
	}
	i.SubjectDigest = h.String()
	return nil
}

// built records the source if it names a commit. Documents by others name a
// repository or a web page here.
func (i *Info) built(from string) {
	if at := strings.LastIndexByte(from, '@'); strings.HasPrefix(from, "git+") && at > 0 && source.IsCommitID(from[at+1:]) {
		i.Source = from
	}
}

// created records the creation time.
func (i *Info) created(at string) error {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("creation time: got %q, want RFC 3339", at)
	}
	i.Created = t.UTC()
	return nil
}
