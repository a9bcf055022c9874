// Package attest says what a proof says: in-toto statements, SLSA provenance
// and the predicates Colophon reads and writes. It does no I/O.
package attest

import (
	"encoding/json"
	"fmt"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Type URIs of statements and predicates, and media types around them.
const (
	StatementType     = "https://in-toto.io/Statement/v1"
	StatementType01   = "https://in-toto.io/Statement/v0.1"
	PayloadType       = "application/vnd.in-toto+json"
	PredicateSLSA1    = "https://slsa.dev/provenance/v1"
	PredicateSLSA02   = "https://slsa.dev/provenance/v0.2"
	PredicateSPDX     = "https://spdx.dev/Document/v2.3"
	PredicateCDX      = "https://cyclonedx.org/bom"
	PredicateSign     = "https://sigstore.dev/cosign/sign/v1"
	BundleMediaType   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	AnnotationContent = "dev.sigstore.bundle.content"
	AnnotationType    = "dev.sigstore.bundle.predicateType"
)

// Statement is an in-toto Statement v1 (in-toto attestation spec, v1/statement.md).
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate,omitempty"`
}

// Subject names one artifact. Digest maps an algorithm ("sha256") to lower-case hex.
type Subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// ParseStatement reads a Statement v1 strictly. Other statement versions are refused.
func ParseStatement(data []byte) (*Statement, error) {
	s, err := ParseAnyStatement(data)
	if err == nil && s.Type != StatementType {
		return nil, fmt.Errorf("statement type: got %q, want %q", s.Type, StatementType)
	}
	return s, err
}

// ParseAnyStatement reads a Statement v1 or v0.1 strictly: the same members
// with the same meaning, as signers of other houses still write both.
func ParseAnyStatement(data []byte) (*Statement, error) {
	var s Statement
	if err := strict.Unmarshal(data, limits.Statement, &s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if s.Type != StatementType && s.Type != StatementType01 {
		return nil, fmt.Errorf("statement type: got %q, want %q", s.Type, StatementType)
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

// NewStatement marshals a statement about the image with the given sha256
// (64 hex digits), named by its repository.
func NewStatement(name, sha256Hex, predicateType string, predicate any) ([]byte, error) {
	raw, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Statement{
		Type:          StatementType,
		Subject:       []Subject{{Name: name, Digest: map[string]string{"sha256": sha256Hex}}},
		PredicateType: predicateType,
		Predicate:     raw,
	})
}
