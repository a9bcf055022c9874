package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Build types of Colophon's own builders. Each is the URL of the folder of spec/
// that defines it.
const (
	BuildTypeBuildKit = "https://github.com/colophon-build/colophon/tree/main/spec/buildkit/v1" // builds a Dockerfile
	BuildTypeGolang   = "https://github.com/colophon-build/colophon/tree/main/spec/golang/v1"   // builds a Go package
	BuildTypeFiles    = "https://github.com/colophon-build/colophon/tree/main/spec/files/v1"    // builds release files: binaries of a Go package

	BuildTypeDockerfileFiles = "https://github.com/colophon-build/colophon/tree/main/spec/dockerfile-files/v1" // builds release files: those of a stage of a Dockerfile
)

// LockMediaType is the media type of a lock file (spec/lock/v1): the digests of
// all that a build may download. It is attached to the image, and the provenance
// names it as the resolved dependency "lock".
const LockMediaType = "application/vnd.colophon.lock.v1+json"

// Provenance is the predicate of SLSA provenance v1
// (slsa.dev/spec/v1.2/build-provenance): which builder made the subject, from
// which inputs.
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition describes the inputs of a build. The meaning of its parameters
// depends on the build type.
type BuildDefinition struct {
	BuildType            string               `json:"buildType"`                      // URI
	ExternalParameters   json.RawMessage      `json:"externalParameters"`             // chosen by the requester; for Colophon's build types: ExternalParameters
	InternalParameters   json.RawMessage      `json:"internalParameters,omitempty"`   // chosen by the platform; for Colophon's build types: see ReadIsolation
	ResolvedDependencies []ResourceDescriptor `json:"resolvedDependencies,omitempty"` // the source, and all that the build downloaded
}

// RunDetails describes one execution of a build.
type RunDetails struct {
	Builder    BuilderInfo          `json:"builder"`
	Metadata   BuildMetadata        `json:"metadata"`
	Byproducts []ResourceDescriptor `json:"byproducts,omitempty"` // further outputs, such as logs
}

// BuilderInfo identifies the builder, which is responsible for the provenance.
type BuilderInfo struct {
	ID                  string               `json:"id"`                            // URI; compare it with the signer
	Version             map[string]string    `json:"version,omitempty"`             // component to version
	BuilderDependencies []ResourceDescriptor `json:"builderDependencies,omitempty"` // of the builder, not of the build
}

// BuildMetadata identifies one execution of a build, and when it ran.
type BuildMetadata struct {
	InvocationID string     `json:"invocationId,omitempty"`
	StartedOn    *time.Time `json:"startedOn,omitempty"`
	FinishedOn   *time.Time `json:"finishedOn,omitempty"`
}

// ResourceDescriptor identifies a file, an image or a source (in-toto attestation
// spec, v1/resource_descriptor.md).
type ResourceDescriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"` // algorithm, such as "sha256" or "gitCommit", to lower-case hex
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// hostScheme begins the URI of the host of a build: that of a name in the DNS (RFC 4501).
const hostScheme = "dns:"

// HostDependency returns the builder dependency of a Colophon platform that names the host of a build: the name
// or address by which the platform reaches it, without a port (spec/buildkit/v1 and spec/golang/v1, "Run details").
func HostDependency(host string) ResourceDescriptor {
	return ResourceDescriptor{Name: "host", URI: hostScheme + host}
}

// Host returns the host that HostDependency put among the builder's dependencies, or "".
func (b BuilderInfo) Host() string {
	for _, d := range b.BuilderDependencies {
		if host, ok := strings.CutPrefix(d.URI, hostScheme); ok && d.Name == "host" {
			return host
		}
	}
	return ""
}

// ExternalParameters holds all that the requester of a build chose. It is the
// form of BuildDefinition.ExternalParameters for Colophon's build types.
type ExternalParameters struct {
	Source SourceParameters `json:"source"`
	Recipe json.RawMessage  `json:"recipe"` // Recipe
	// Default is what the commit itself says about how the image is built, or nil if
	// it does not say. It is the one parameter that the requester did not choose: it
	// shows which part of Recipe the requester chose.
	Default *DefaultRecipe `json:"default,omitempty"`
	// Hermetic means that the platform built twice: the second build had no
	// network, only the downloads of the first, and both gave the same image.
	Hermetic bool `json:"hermetic,omitempty"`
	// CacheMounts means that the requester asked for cache mounts that are kept between
	// builds of the same source repository, branch and recipe.
	CacheMounts bool `json:"cacheMounts,omitempty"`
	// DockerAttestations means that the requester asked for an index with attestations in
	// BuildKit's form (DockerAttestation).
	DockerAttestations bool `json:"dockerAttestations,omitempty"`
	// Lock is the digest, sha256:hex, of the lock file that the requester gave,
	// or empty if there was none.
	Lock string `json:"lock,omitempty"`
}

// ParametersDigest returns the digest, sha256:hex, of external parameters as the
// provenance has them, byte for byte. The certificate of the signer names it (Fulcio's
// extension Build Config Digest, 1.3.6.1.4.1.57264.1.19).
func ParametersDigest(externalParameters []byte) string {
	sum := sha256.Sum256(externalParameters)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// SourceParameters identifies the source: what was requested, and the commit that
// the platform resolved it to.
type SourceParameters struct {
	URI    string `json:"uri"`           // canonical, without credentials; see source.Canonical
	Ref    string `json:"ref,omitempty"` // full ref such as refs/tags/v1.2.3, or empty if a commit was requested
	Commit string `json:"commit"`        // full commit id in hex
}

// ParseProvenance reads the predicate of SLSA provenance v1. It fails if builder
// id or build type is missing.
func ParseProvenance(predicate []byte) (*Provenance, error) {
	var p Provenance
	if err := strict.Unmarshal(predicate, limits.Statement, &p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if p.RunDetails.Builder.ID == "" {
		return nil, fmt.Errorf("provenance has no builder id")
	}
	if p.BuildDefinition.BuildType == "" {
		return nil, fmt.Errorf("provenance has no build type")
	}
	return &p, nil
}

// Provenance02 is the predicate of SLSA provenance v0.2
// (slsa.dev/provenance/v0.2), as far as Colophon uses it.
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

// ParseProvenance02 reads the predicate of SLSA provenance v0.2. It fails if
// builder id or build type is missing.
func ParseProvenance02(predicate []byte) (*Provenance02, error) {
	var p Provenance02
	if err := strict.Unmarshal(predicate, limits.Statement, &p); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	if p.Builder.ID == "" {
		return nil, fmt.Errorf("provenance has no builder id")
	}
	if p.BuildType == "" {
		return nil, fmt.Errorf("provenance has no build type")
	}
	return &p, nil
}

// Number holds the decimal digits of the number of a CI job or run, or is empty.
// Builders write it as a JSON number or as a string; both unmarshal into Number.
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
