// Package colophon is the map of the house; it holds no code.
//
// Colophon proves which git commit a container image came from, and refuses the
// images that cannot prove it. Three jobs, in the order data flows:
//
//   - release turns a git commit into an image that carries its proof;
//   - verify answers accepted, rejected or undecided, with reasons;
//   - registry, cluster and responder act on what verify says.
//
// A package imports only from rows below its own; test/imports_test.go enforces it.
//
//	cmd/colophon        the CLI: one file a command, one library call each
//	cmd/colophond       main of the platform: flags and wiring; the work is in platform
//	cmd/colophon-scan   the SBOMs of an image, by Syft; a module of its own, started by platform/release
//	platform            serve: one table of roles and one file a role; hosts, configuration
//	platform/attestor   runs releases: the one role that holds a signing identity
//	platform/release    the main job, in order and atomically
//	platform/authority  what holds keys: issuer, ca, ctlog, log, indexlog, tsa, root
//	platform/builder    a recipe becomes an image in a sealed room
//	platform/registry   OCI images and what is attached to them
//	platform/front      the port and the API; platform/web the pages; platform/acme the certificate of the port
//	platform/archive    what was signed, found by its log entry
//	platform/search     which entries the log has, with proof that there are no others
//	platform/verdicts   whether images may run, read once and decided from memory
//	platform/admission  the webhooks of a Kubernetes cluster
//	platform/gate       a registry that serves of another one only images that policies accept
//	platform/follow     a monitor of logs; platform/witness cosigns them; platform/mirror copies them
//	platform/api        the platform's wire types and its client
//	platform/zone       a process with a user of its own, that sees its own directories alone
//	monitor             what logs have that no known release explains
//	verify              evidence, policy and time become a Verdict, link by link
//	policy              what a consumer demands
//	provenance          what a builder says, one file a builder: facts, level
//	sbom                what is inside an image, the same answer every time
//	source              git: a ref becomes a commit, a commit becomes a tree
//	oci                 images by digest: registries, layouts, archives
//	sign                a token becomes a certificate becomes a logged bundle
//	bundle              one signed thing about one subject: parse, verify, say what is wrong
//	audit               the records of an audit ledger, and whose signatures count
//	search              which entries a log has about something, and no others
//	trust               whom to trust for what: roots, identities, keys and their times
//	tlog                how a log proves it: checkpoints, tiles, inclusion, consistency
//	attest              what a proof says: statements, predicates, recipes; no I/O
//	internal            mechanisms named for the property they give
//
// attest to verify are the public library: what an outsider needs to check our
// proofs without trusting our binaries; platform promises nothing to importers.
// test/ holds what is true of the house as a whole: attacks, crashes, stories,
// conformance, interop, benchmarks. docs/ answers questions, spec/ defines the
// formats that are ours, and make writes to out/.
package colophon
