package attest

import "slices"

// How cosign v2 attaches what it signs: manifests under the tags sha256-HEX.sig
// (each layer is a payload of simple signing) and sha256-HEX.att (each layer is an
// envelope). The rest is in the annotations of the layer. It may contain the
// chain of the certificate, which nobody trusts: trust roots have their own.
const (
	EnvelopeMediaType      = "application/vnd.dsse.envelope.v1+json"
	SimpleSigningMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	Cosign2Signature       = "dev.cosignproject.cosign/signature"   // base64, over the payload; empty beside an envelope
	Cosign2Certificate     = "dev.sigstore.cosign/certificate"      // PEM; without it a key signed
	Cosign2Bundle          = "dev.sigstore.cosign/bundle"           // JSON: the log's promise
	Cosign2Timestamp       = "dev.sigstore.cosign/rfc3161timestamp" // JSON: an RFC 3161 response over the signature
)

// bundleMediaTypes are the spellings of Sigstore bundles v0.1 to v0.3
// (protobuf-specs, sigstore_bundle.proto), by their minor version.
var bundleMediaTypes = [][]string{
	1: {"application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle.v0.1+json"},
	2: {"application/vnd.dev.sigstore.bundle+json;version=0.2", "application/vnd.dev.sigstore.bundle.v0.2+json"},
	3: {"application/vnd.dev.sigstore.bundle+json;version=0.3", BundleMediaType},
}

// BundleVersion returns the minor version of the Sigstore bundles v0.1 to v0.3
// that have the media type t, or 0 where t is something else.
func BundleVersion(t string) int {
	for minor, spellings := range bundleMediaTypes {
		if slices.Contains(spellings, t) {
			return minor
		}
	}
	return 0
}

// IsBundleMediaType says whether t is a Sigstore bundle v0.1 to v0.3.
func IsBundleMediaType(t string) bool { return BundleVersion(t) > 0 }
