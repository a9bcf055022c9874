// Package limits defines the caps on input from outside: from a registry, a repository, a
// builder or a client. Honest input stays far below them, and hostile input within them
// cannot exhaust the machine.
package limits

// Caps on documents. All sizes are bytes.
const (
	Manifest       = 4 << 20  // an OCI manifest or index; the distribution spec asks registries to take 4 MiB
	Config         = 8 << 20  // an image configuration
	Bundle         = 16 << 20 // a Sigstore bundle, which may contain an SBOM
	Statement      = 12 << 20 // a decoded in-toto statement
	TrustRoot      = 4 << 20  // a trusted root or a platform's trust document
	Referrers      = 4096     // referrers of one subject, all of which a reader examines
	IndexManifests = 256      // manifests in one index
	Layers         = 512      // layers of one manifest
	LayerPacked    = 16 << 30 // one layer as stored, usually compressed
	Request        = 1 << 20  // a JSON request to the API
	Release        = 96 << 20 // a request for a release, which may contain a lock file as text
	Lock           = 64 << 20 // a lock file: the list of a build's downloads
	LockFetches    = 100_000  // fetches in one lock
	FetchURL       = 8 << 10  // the URL of a download of a build
	FetchHeader    = 8 << 10  // one recorded header of a download
	JSONDepth      = 64       // nesting of any JSON document
)
