package attest

import "slices"

// BundleMediaType is the media type of a Sigstore bundle v0.3, the version that
// Colophon writes.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Media types and annotations with which cosign v2 attaches signatures to an
// image. A manifest under the tag sha256-HEX.sig has one layer a signature, with
// SimpleSigningMediaType. A manifest under the tag sha256-HEX.att has one layer a
// statement, with EnvelopeMediaType. The annotations of the layer hold the rest
// of the evidence. A certificate chain among them is ignored: the trust root has
// its own.
const (
	EnvelopeMediaType      = "application/vnd.dsse.envelope.v1+json"            // a DSSE envelope
	SimpleSigningMediaType = "application/vnd.dev.cosign.simplesigning.v1+json" // a payload that names the image
	Cosign2Signature       = "dev.cosignproject.cosign/signature"               // base64 of the signature of the payload; empty for an envelope, which holds its own
	Cosign2Certificate     = "dev.sigstore.cosign/certificate"                  // PEM; missing if a key signed
	Cosign2Bundle          = "dev.sigstore.cosign/bundle"                       // JSON: the log entry, and the log's promise to include it
	Cosign2Timestamp       = "dev.sigstore.cosign/rfc3161timestamp"             // JSON: an RFC 3161 response for the signature
)

// Unsigned attestations as BuildKit stores them (BuildKit's
// docs/attestations/attestation-storage.md): an entry of the image's index, for the
// platform unknown/unknown, with the annotations DockerReferenceType, which is
// DockerAttestation, and DockerReferenceDigest, which is the digest of the entry that it
// is about. Each layer of its manifest is a statement, of media type PayloadType, with
// the annotation InTotoPredicateType.
const (
	DockerReferenceType   = "vnd.docker.reference.type"
	DockerReferenceDigest = "vnd.docker.reference.digest"
	DockerAttestation     = "attestation-manifest"
	InTotoPredicateType   = "in-toto.io/predicate-type"
)

// bundleMediaTypes lists the two media types of each Sigstore bundle version
// (protobuf-specs, sigstore_bundle.proto). The index is the minor version.
var bundleMediaTypes = [][]string{
	1: {"application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle.v0.1+json"},
	2: {"application/vnd.dev.sigstore.bundle+json;version=0.2", "application/vnd.dev.sigstore.bundle.v0.2+json"},
	3: {"application/vnd.dev.sigstore.bundle+json;version=0.3", BundleMediaType},
}

// BundleVersion returns the minor version, 1 to 3, of the Sigstore bundle format
// v0.1 to v0.3 that has the media type t. It returns 0 for any other media type.
func BundleVersion(t string) int {
	for minor, spellings := range bundleMediaTypes {
		if slices.Contains(spellings, t) {
			return minor
		}
	}
	return 0
}

// IsBundleMediaType reports whether t is the media type of a Sigstore bundle v0.1
// to v0.3.
func IsBundleMediaType(t string) bool { return BundleVersion(t) > 0 }
