// Package sbom reads what is inside an image: SPDX 2.3 and CycloneDX 1.6 JSON
// documents as they are attached to images. Package sbom/generate writes them.
package sbom

import (
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Predicate types of the two formats, as cosign attests them.
const (
	PredicateSPDX      = "https://spdx.dev/Document"
	PredicateCycloneDX = "https://cyclonedx.org/bom"
)

// Info is what a document says of itself.
type Info struct {
	Format        string    // "SPDX" or "CycloneDX"
	Version       string    // "2.3", "1.6"
	Name          string    // of the image described
	Packages      int       // without the image itself
	SubjectDigest string    // "sha256:hex" of the image described
	Created       time.Time // UTC
}

// Summary reads a document of at most limits.Statement bytes. The predicate
// type decides the format, with or without a trailing version ("/v2.3"). A
// document that does not say which one image it describes is an error.
func Summary(predicate []byte, predicateType string) (Info, error) {
	base, version := predicateType, ""
	if i := strings.LastIndex(predicateType, "/v"); i > 0 {
		base, version = predicateType[:i], predicateType[i+2:]
	}
	var info Info
	var err error
	switch base {
	case PredicateSPDX:
		info, err = readSPDX(predicate)
	case PredicateCycloneDX:
		info, err = readCycloneDX(predicate)
	default:
		return Info{}, fmt.Errorf("got predicate type %q, want %q or %q", predicateType, PredicateSPDX, PredicateCycloneDX)
	}
	if err != nil {
		return Info{}, err
	}
	if version != "" && version != info.Version {
		return Info{}, fmt.Errorf("%s document: got version %q, want %q as its predicate type says", info.Format, info.Version, version)
	}
	return info, nil
}

type spdxPackage struct {
	ID        string `json:"SPDXID"`
	Name      string `json:"name"`
	Checksums []struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	} `json:"checksums"`
}

func readSPDX(data []byte) (Info, error) {
	var doc struct {
		Version  string `json:"spdxVersion"`
		ID       string `json:"SPDXID"`
		Creation struct {
			Created string `json:"created"`
		} `json:"creationInfo"`
		Describes     []string      `json:"documentDescribes"`
		Packages      []spdxPackage `json:"packages"`
		Relationships []struct {
			From string `json:"spdxElementId"`
			Type string `json:"relationshipType"`
			To   string `json:"relatedSpdxElement"`
		} `json:"relationships"`
	}
	fail := func(err error) (Info, error) { return Info{}, fmt.Errorf("SPDX document: %w", err) }
	if err := strict.Unmarshal(data, limits.Statement, &doc); err != nil {
		return fail(err)
	}
	if doc.Version != "SPDX-2.3" {
		return fail(fmt.Errorf("got version %q, want %q", doc.Version, "SPDX-2.3"))
	}
	about := map[string]bool{}
	for _, id := range doc.Describes {
		about[id] = true
	}
	for _, r := range doc.Relationships {
		if r.Type == "DESCRIBES" && r.From == doc.ID {
			about[r.To] = true
		}
	}
	if len(about) != 1 {
		return fail(fmt.Errorf("it describes %d things, want one", len(about)))
	}
	seen := map[string]bool{}
	var image *spdxPackage
	for i, p := range doc.Packages {
		if seen[p.ID] {
			return fail(fmt.Errorf("two packages have the id %q", p.ID))
		}
		seen[p.ID] = true
		if about[p.ID] {
			image = &doc.Packages[i]
		}
	}
	if image == nil {
		return fail(errors.New("what it describes is not among its packages"))
	}
	info := Info{Format: "SPDX", Version: "2.3", Name: image.Name, Packages: len(doc.Packages) - 1}
	for _, c := range image.Checksums {
		if c.Algorithm == "SHA256" {
			if err := info.subject(c.Value); err != nil {
				return fail(err)
			}
		}
	}
	return info.finish(doc.Creation.Created)
}

func readCycloneDX(data []byte) (Info, error) {
	var doc struct {
		Format   string `json:"bomFormat"`
		Version  string `json:"specVersion"`
		Metadata struct {
			Timestamp string `json:"timestamp"`
			Component struct {
				Name    string `json:"name"`
				Version string `json:"version"`
				Hashes  []struct {
					Algorithm string `json:"alg"`
					Content   string `json:"content"`
				} `json:"hashes"`
			} `json:"component"`
		} `json:"metadata"`
		Components []struct {
			Type string `json:"type"`
		} `json:"components"`
	}
	fail := func(err error) (Info, error) { return Info{}, fmt.Errorf("CycloneDX document: %w", err) }
	if err := strict.Unmarshal(data, limits.Statement, &doc); err != nil {
		return fail(err)
	}
	if doc.Format != "CycloneDX" {
		return fail(fmt.Errorf("got format %q, want %q", doc.Format, "CycloneDX"))
	}
	if doc.Version != "1.6" {
		return fail(fmt.Errorf("got version %q, want %q", doc.Version, "1.6"))
	}
	image := doc.Metadata.Component
	info := Info{Format: "CycloneDX", Version: "1.6", Name: image.Name}
	for _, c := range doc.Components {
		if c.Type != "file" && c.Type != "operating-system" {
			info.Packages++
		}
	}
	for _, h := range image.Hashes {
		if h.Algorithm == "SHA-256" {
			if err := info.subject(h.Content); err != nil {
				return fail(err)
			}
		}
	}
	// What syft writes by itself: no hash, the digest as the version.
	if hex, ok := strings.CutPrefix(image.Version, "sha256:"); ok {
		if err := info.subject(hex); err != nil {
			return fail(err)
		}
	}
	return info.finish(doc.Metadata.Timestamp)
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

func (i Info) finish(created string) (Info, error) {
	if i.SubjectDigest == "" {
		return Info{}, fmt.Errorf("%s document: it does not give the sha256 digest of the image it describes", i.Format)
	}
	t, err := time.Parse(time.RFC3339, created)
	if err != nil {
		return Info{}, fmt.Errorf("%s document: got creation time %q, want RFC 3339", i.Format, created)
	}
	i.Created = t.UTC()
	return i, nil
}
