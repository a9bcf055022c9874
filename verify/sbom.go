package verify

import (
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// inventory is what an SBOM comes down to in a verdict.
type inventory struct {
	format   string // "SPDX 2.3"
	packages int
}

// readSBOM parses a document, and checks that it describes the image.
func readSBOM(predicate []byte, kind string, digest v1.Hash) (*inventory, error) {
	if kind == attest.PredicateCDX {
		return readCycloneDX(predicate, digest)
	}
	return readSPDX(predicate, digest)
}

// spdxDocument is the part of SPDX 2.3 JSON that tells what is described.
type spdxDocument struct {
	Version  string   `json:"spdxVersion"`
	ID       string   `json:"SPDXID"`
	Describe []string `json:"documentDescribes"`
	Packages []struct {
		ID        string `json:"SPDXID"`
		Name      string `json:"name"`
		Version   string `json:"versionInfo"`
		Checksums []struct {
			Algorithm string `json:"algorithm"`
			Value     string `json:"checksumValue"`
		} `json:"checksums"`
	} `json:"packages"`
	Relationships []struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	} `json:"relationships"`
}

func readSPDX(predicate []byte, digest v1.Hash) (*inventory, error) {
	var doc spdxDocument
	if err := strict.Unmarshal(predicate, limits.Statement, &doc); err != nil {
		return nil, fmt.Errorf("SPDX: %w", err)
	}
	if doc.Version != "SPDX-2.3" {
		return nil, fmt.Errorf("SPDX version: got %q, want %q", doc.Version, "SPDX-2.3")
	}
	described := make(map[string]bool)
	for _, id := range doc.Describe {
		described[id] = true
	}
	for _, r := range doc.Relationships {
		if r.Type == "DESCRIBES" && r.From == doc.ID {
			described[r.To] = true
		}
	}
	var got []string
	for _, p := range doc.Packages {
		if !described[p.ID] {
			continue
		}
		if p.Version == digest.String() {
			return &inventory{"SPDX 2.3", len(doc.Packages) - 1}, nil
		}
		for _, sum := range p.Checksums {
			if strings.EqualFold(sum.Algorithm, digest.Algorithm) && sum.Value == digest.Hex {
				return &inventory{"SPDX 2.3", len(doc.Packages) - 1}, nil
			}
			got = append(got, sum.Value)
		}
	}
	return nil, fmt.Errorf("SPDX: what the document describes: got %q, want %q", strings.Join(got, ", "), digest)
}

// cdxDocument is the part of CycloneDX 1.6 JSON that tells what is described.
type cdxDocument struct {
	Format   string `json:"bomFormat"`
	Version  string `json:"specVersion"`
	Metadata struct {
		Component struct {
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

func readCycloneDX(predicate []byte, digest v1.Hash) (*inventory, error) {
	var doc cdxDocument
	if err := strict.Unmarshal(predicate, limits.Statement, &doc); err != nil {
		return nil, fmt.Errorf("CycloneDX: %w", err)
	}
	if doc.Format != "CycloneDX" || doc.Version != "1.6" {
		return nil, fmt.Errorf("CycloneDX format and version: got %q %q, want \"CycloneDX\" \"1.6\"", doc.Format, doc.Version)
	}
	about := doc.Metadata.Component
	matches := about.Version == digest.String()
	for _, h := range about.Hashes {
		// CycloneDX spells the algorithm "SHA-256".
		matches = matches || strings.EqualFold(strings.ReplaceAll(h.Algorithm, "-", ""), digest.Algorithm) && h.Content == digest.Hex
	}
	if !matches {
		return nil, fmt.Errorf("CycloneDX: the document describes %q, want %q", about.Version, digest)
	}
	return &inventory{"CycloneDX 1.6", len(doc.Components)}, nil
}
