// Package colophon is the map of the house; it holds no code.
//
// Colophon proves which git commit a container image came from, and refuses the
// images that cannot prove it. Three jobs, in the order data flows:
//
//   - release turns a git commit into an image that carries its proof;
//   - verify answers accepted, rejected or undecided, with reasons;
//   - registry, cluster and responder act on what verify says.
//
// A package imports only from rows above its own; test/imports_test.go enforces it.
//
//	attest    what a proof says: statements, provenance, bundles; no I/O
//	tlog      how a log proves it: checkpoints, tiles, inclusion, consistency
//	trust     whom to believe: trust roots, identities, keys and their times
//	source    git: a ref becomes a commit, a commit becomes a tree
//	oci       images by digest: registries, layouts, referrers
//	sbom      what is inside an image, the same answer every time
//	policy    what a consumer demands
//	verify    bundle, trust, policy and time become a Verdict, link by link
//	build     a recipe becomes an image in a sealed room:
//	          build/sandbox, build/gateway, build/buildkit, build/golang
//	sign      a token becomes a certificate becomes a logged bundle
//	release   the main job: the above in order, atomically
//
// internal/api is the wire between CLI and platform. The other packages under
// internal/ are the platform's services, which meet over wire formats and never
// import each other, and small mechanisms named for the property they give:
// durable, limits, strict, keys, peer, confine.
//
// Two commands: cmd/colophon, the thin CLI, and cmd/colophond, the platform.
// attest to verify are the public library: what an outsider needs to check our
// proofs without trusting our binaries. docs/ answers questions, spec/ defines
// the formats that are ours.
package colophon
