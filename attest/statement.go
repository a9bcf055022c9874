// Package attest reads and writes the documents that are signed about an
// artifact: in-toto statements (in-toto attestation spec v1) and their
// predicates SLSA provenance v1 and v0.2, and SLSA verification summary v1.
// It also names the media types, type URIs and annotations of these documents.
//
// ParseStatement reads a statement. Its PredicateType says which parser takes its
// Predicate: ParseProvenance, ParseProvenance02 or ParseVSA. The parsers are
// strict: they refuse duplicate members, and documents above 12 MiB. Members
// that the specifications do not define are ignored, as in-toto demands.
//
// The package verifies no signature and does no I/O. Package bundle verifies who
// signed a statement.
package attest

import (
	"encoding/json"
	"fmt"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// StatementType is the _type of an in-toto Statement v1.
const StatementType = "https://in-toto.io/Statement/v1"

const statementType01 = "https://in-toto.io/Statement/v0.1"

// PayloadType is the payload type of a DSSE envelope that holds a statement.
const PayloadType = "application/vnd.in-toto+json"

// Predicate types: what the Predicate of a statement is.
const (
	PredicateSLSA1  = "https://slsa.dev/provenance/v1"           // SLSA provenance v1: see ParseProvenance
	PredicateSLSA02 = "https://slsa.dev/provenance/v0.2"         // SLSA provenance v0.2: see ParseProvenance02
	PredicateVSA    = "https://slsa.dev/verification_summary/v1" // SLSA verification summary v1: see ParseVSA
	PredicateSPDX   = "https://spdx.dev/Document"                // an SBOM in SPDX; some signers append the version ("/v2.3")
	PredicateCDX    = "https://cyclonedx.org/bom"                // an SBOM in CycloneDX
	PredicateSign   = "https://sigstore.dev/cosign/sign/v1"      // cosign v3's signature of an image; the predicate is empty
)

// Annotations of a manifest that attaches a Sigstore bundle to an image (cosign
// bundle spec): what the bundle contains ("dsse-envelope"), and the predicate
// type of its statement.
const (
	AnnotationContent = "dev.sigstore.bundle.content"
	AnnotationType    = "dev.sigstore.bundle.predicateType"
)

// Statement is an in-toto Statement (in-toto attestation spec, v1/statement.md):
// it binds a predicate to the digests of its subjects.
type Statement struct {
	Type          string          `json:"_type"`         // StatementType
	Subject       []Subject       `json:"subject"`       // the artifacts that the statement is about; at least one
	PredicateType string          `json:"predicateType"` // URI; for the types that Colophon knows, see PredicateSLSA1
	Predicate     json.RawMessage `json:"predicate,omitempty"`
}

// Subject identifies one artifact by its digest.
type Subject struct {
	Name   string            `json:"name,omitempty"` // for people; only that of a release file of a platform is verified (BuildTypeFiles)
	Digest map[string]string `json:"digest"`         // algorithm, such as "sha256", to lower-case hex; at least one
}

// maxPredicateType is the maximum number of bytes of a predicate type.
const maxPredicateType = 4 << 10

// ParseStatement reads a Statement v1. It fails for any other statement version.
func ParseStatement(data []byte) (*Statement, error) {
	s, err := ParseAnyStatement(data)
	if err == nil && s.Type != StatementType {
		return nil, fmt.Errorf("statement type: got %q, want %q", s.Type, StatementType)
	}
	return s, err
}

// ParseAnyStatement reads a Statement v1 or v0.1. Both versions have the same
// members with the same meaning, and builders other than Colophon still write
// v0.1.
func ParseAnyStatement(data []byte) (*Statement, error) {
	var s Statement
	if err := strict.Unmarshal(data, limits.Statement, &s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if s.Type != StatementType && s.Type != statementType01 {
		return nil, fmt.Errorf("statement type: got %q, want %q", s.Type, StatementType)
	}
	if n := len(s.PredicateType); n > maxPredicateType {
		return nil, fmt.Errorf("predicate type of the statement: got %d bytes, want at most %d", n, maxPredicateType)
	}
	if len(s.Subject) == 0 {
		return nil, fmt.Errorf("statement has no subject")
	}
	for i, sub := range s.Subject {
		if len(sub.Digest) == 0 {
			return nil, fmt.Errorf("subject %d of the statement has no digest", i)
		}
	}
	return &s, nil
}

// NewStatement returns the JSON of a Statement v1 about one image. Name is the
// image's repository, sha256Hex its digest as 64 lower-case hex digits. Predicate
// is marshalled with encoding/json.
func NewStatement(name, sha256Hex, predicateType string, predicate any) ([]byte, error) {
	return NewStatementAbout([]Subject{{Name: name, Digest: map[string]string{"sha256": sha256Hex}}}, predicateType, predicate)
}

// NewStatementAbout is NewStatement for any subjects, at least one.
func NewStatementAbout(subjects []Subject, predicateType string, predicate any) ([]byte, error) {
	raw, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Statement{
		Type:          StatementType,
		Subject:       subjects,
		PredicateType: predicateType,
		Predicate:     raw,
	})
}
