// Package sbom reads what is inside an image: SPDX 2.2, 2.3 and 3.0 and
// CycloneDX 1.4 to 1.7 JSON documents as they are attached to images. Package
// platform/release/scan writes SPDX 2.3 and CycloneDX 1.6.
package sbom

import (
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/source"
)

// Predicate types of the two formats, as cosign attests them.
const (
	PredicateSPDX      = "https://spdx.dev/Document"
	PredicateCycloneDX = "https://cyclonedx.org/bom"
)

// Info is what a document says of itself.
type Info struct {
	Format        string    // "SPDX" or "CycloneDX"
	Version       string    // "2.3", "3.0.1", "1.6"
	Name          string    // of the image described
	Packages      int       // without the image itself
	SubjectDigest string    // "sha256:hex" of the image described; empty where Read found none
	Created       time.Time // UTC; zero where a CycloneDX document does not say
	Source        string    // what the image was built from, git+URI@COMMIT; empty where the document does not say
}

// Package is one thing that a document lists. Files, the operating system and
// the image itself are none.
type Package struct {
	Name    string
	Version string // as the document has it; may be empty
	PURL    string // package URL (github.com/package-url/purl-spec); may be empty
}

// Document is what was read of a document.
type Document struct {
	Info
	List []Package // in the order of the document
}

// maxPackages bounds the list of a document.
const maxPackages = 200_000

// Format is "SPDX" or "CycloneDX" for the predicate type of a document in that
// format, with or without a trailing version ("/v2.3"), and "" for any other.
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

// Read reads a document of at most limits.Statement bytes, in the format that
// the predicate type names. It must say which one thing it describes.
func Read(predicate []byte, predicateType string) (*Document, error) {
	format, version := formatOf(predicateType)
	read := readCycloneDX
	switch format {
	case "":
		return nil, fmt.Errorf("got predicate type %q, want %q or %q", predicateType, PredicateSPDX, PredicateCycloneDX)
	case "SPDX":
		read = readSPDX
	}
	d, err := read(predicate)
	if err == nil && len(d.List) > maxPackages {
		err = fmt.Errorf("it lists %d packages, at most %d are taken", len(d.List), maxPackages)
	}
	if err != nil {
		return nil, fmt.Errorf("%s document: %w", format, err)
	}
	if version != "" && version != d.Version && !strings.HasPrefix(d.Version, version+".") {
		return nil, fmt.Errorf("%s document: got version %q, want %q as its predicate type says", format, d.Version, version)
	}
	d.Packages = len(d.List)
	return d, nil
}

// Summary is Read for a document that must give the digest of the image, and a
// time.
func Summary(predicate []byte, predicateType string) (Info, error) {
	d, err := Read(predicate, predicateType)
	switch {
	case err != nil:
		return Info{}, err
	case d.SubjectDigest == "":
		return Info{}, fmt.Errorf("%s document: it does not give the sha256 digest of the image it describes", d.Format)
	case d.Created.IsZero():
		return Info{}, fmt.Errorf("%s document: it does not say when it was made", d.Format)
	}
	return d.Info, nil
}

// subject takes one statement of the image's digest; all must agree.
func (i *Info) subject(hex string) error {
	h, err := v1.NewHash("sha256:" + hex)
	if err != nil {
		return fmt.Errorf("got digest %q of the image: %w", hex, err)
	}
	if i.SubjectDigest != "" && i.SubjectDigest != h.String() {
		return fmt.Errorf("it names two digests of the image, %s and %s", i.SubjectDigest, h)
	}
	i.SubjectDigest = h.String()
	return nil
}

// built takes what names a commit. Other documents name a repository, or a page.
func (i *Info) built(from string) {
	if at := strings.LastIndexByte(from, '@'); strings.HasPrefix(from, "git+") && at > 0 && source.IsCommitID(from[at+1:]) {
		i.Source = from
	}
}

func (i *Info) created(at string) error {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("got creation time %q, want RFC 3339", at)
	}
	i.Created = t.UTC()
	return nil
}
