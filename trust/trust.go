// Package trust says whom to believe: platforms, their trust roots, and the
// builders they speak for.
package trust

// Document is what a platform serves at /.well-known/colophon.json, and what
// `trust add` pins: its fingerprint covers every byte of it. Spec: spec/trust.
type Document struct {
	URL         string    `json:"url"`         // the platform's origin
	Issuer      string    `json:"issuer"`      // OIDC issuer of its own workloads
	Builders    []Builder `json:"builders"`    // who may sign provenance
	TrustedRoot RawJSON   `json:"trustedRoot"` // Sigstore trusted root (protobuf-specs, JSON)
}

// Builder is a builder id and the SLSA Build level it is believed for.
type Builder struct {
	ID    string `json:"id"`
	Level int    `json:"level"`
}

// RawJSON is JSON kept as the bytes received.
type RawJSON []byte
