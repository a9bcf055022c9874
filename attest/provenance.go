package attest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Build types of Colophon's own builders. Each names the folder of spec/ that defines it.
const (
	BuildTypeBuildKit = "https://github.com/colophon-build/colophon/tree/main/spec/buildkit/v1"
	BuildTypeGolang   = "https://github.com/colophon-build/colophon/tree/main/spec/golang/v1"
)

// LockMediaType is what pins the fetches of a build (spec/lock/v1): as a file
// attached to an image, and as a dependency of its provenance, named "lock".
const LockMediaType = "application/vnd.colophon.lock.v1+json"

// Provenance is the SLSA v1 provenance predicate (slsa.dev/spec/v1.2/build-provenance).
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

type BuildDefinition struct {
	BuildType            string               `json:"buildType"`
	ExternalParameters   json.RawMessage      `json:"externalParameters"` // ExternalParameters for our build types
	InternalParameters   json.RawMessage      `json:"internalParameters,omitempty"`
	ResolvedDependencies []ResourceDescriptor `json:"resolvedDependencies,omitempty"`
}

type RunDetails struct {
	Builder    BuilderInfo          `json:"builder"`
	Metadata   BuildMetadata        `json:"metadata"`
	Byproducts []ResourceDescriptor `json:"byproducts,omitempty"`
}

type BuilderInfo struct {
	ID                  string               `json:"id"`
	Version             map[string]string    `json:"version,omitempty"`
	BuilderDependencies []ResourceDescriptor `json:"builderDependencies,omitempty"`
}

type BuildMetadata struct {
	InvocationID string     `json:"invocationId,omitempty"`
	StartedOn    *time.Time `json:"startedOn,omitempty"`
	FinishedOn   *time.Time `json:"finishedOn,omitempty"`
}

// ResourceDescriptor is in-toto's (spec v1/resource_descriptor.md).
type ResourceDescriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// ExternalParameters of both our build types: all that a requester chose.
type ExternalParameters struct {
	Source SourceParameters `json:"source"`
	Recipe json.RawMessage  `json:"recipe"` // Recipe
	// Hermetic is a build that was done twice: what the first fetched was all that
	// the second could have, and both gave the same image.
	Hermetic bool `json:"hermetic,omitempty"`
	// Lock is the sha256:hex of the lock that the requester gave; empty where none was.
	Lock string `json:"lock,omitempty"`
}

// SourceParameters names the source as it was requested and resolved.
type SourceParameters struct {
	URI    string `json:"uri"`           // without credentials; see source.Canonical
	Ref    string `json:"ref,omitempty"` // full ref, or empty where a commit was asked for
	Commit string `json:"commit"`        // hex
}

// ParseProvenance reads an SLSA v1 predicate strictly.
func ParseProvenance(predicate []byte) (*Provenance, error) {
	var p Provenance
	if err := strict.Unmarshal(predicate, limits.Statement, &p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if p.RunDetails.Builder.ID == "" {
		return nil, fmt.Errorf("provenance names no builder id")
	}
	if p.BuildDefinition.BuildType == "" {
		return nil, fmt.Errorf("provenance names no build type")
	}
	return &p, nil
}

// Provenance02 is the SLSA v0.2 provenance predicate (slsa.dev/provenance/v0.2).
type Provenance02 struct {
	Builder    BuilderInfo `json:"builder"`
	BuildType  string      `json:"buildType"`
	Invocation struct {
		ConfigSource struct {
			URI        string            `json:"uri"`
			Digest     map[string]string `json:"digest"`
			EntryPoint string            `json:"entryPoint"`
		} `json:"configSource"`
		Parameters  json.RawMessage `json:"parameters"`
		Environment json.RawMessage `json:"environment"`
	} `json:"invocation"`
	Metadata struct {
		BuildInvocationID string `json:"buildInvocationID"`
	} `json:"metadata"`
	Materials []ResourceDescriptor `json:"materials"`
}

// ParseProvenance02 reads an SLSA v0.2 predicate strictly.
func ParseProvenance02(predicate []byte) (*Provenance02, error) {
	var p Provenance02
	if err := strict.Unmarshal(predicate, limits.Statement, &p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if p.Builder.ID == "" {
		return nil, fmt.Errorf("provenance names no builder id")
	}
	if p.BuildType == "" {
		return nil, fmt.Errorf("provenance names no build type")
	}
	return &p, nil
}

// Number is the number of a job or run, as JSON has it or as a string: the
// generators differ. Empty where there is none.
type Number string

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(data []byte) error {
	s := strings.Trim(string(data), `"`)
	if s == "null" {
		s = ""
	}
	if strings.Trim(s, "0123456789") != "" {
		return fmt.Errorf("got %s, want a number", data)
	}
	*n = Number(s)
	return nil
}
