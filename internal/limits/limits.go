// Package limits holds the caps on everything that is read from outside: a
// registry, a repository, a builder, a client. They are generous for honest
// input and small enough that hostile input cannot exhaust the machine.
package limits

// All sizes are bytes.
const (
	Manifest       = 4 << 20  // an OCI manifest or index; the distribution spec asks registries to take 4 MiB
	Config         = 8 << 20  // an image configuration
	Bundle         = 16 << 20 // a Sigstore bundle; an SBOM travels inside
	Statement      = 12 << 20 // a decoded in-toto statement
	TrustRoot      = 4 << 20  // a trusted root or platform document
	Referrers      = 512      // referrers of one subject that are looked at
	IndexManifests = 256      // manifests in one index
	Layers         = 512      // layers of one manifest
	LayerPacked    = 16 << 30 // one layer as stored
	Request        = 1 << 20  // a JSON request to the API
	Release        = 96 << 20 // one that asks for a release; a lock travels inside, as text
	Lock           = 64 << 20 // a lock of what a build fetches
	LockFetches    = 100_000  // fetches in one lock
	FetchURL       = 8 << 10  // the URL of a fetch
	FetchHeader    = 8 << 10  // one header of a fetch that is recorded
	JSONDepth      = 64       // nesting of any JSON document
)
