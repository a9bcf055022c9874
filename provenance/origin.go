package provenance

import (
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/trust"
)

// System is a kind of builder.
type System string

const (
	Colophon System = "Colophon"
	GitHub   System = "GitHub"
	GitLab   System = "GitLab"
	Tekton   System = "Tekton" // has no certificates of its own: a key or account that the consumer names signs
)

// Origin is what a signer's certificate says about the build that it was issued for.
// The CI system or platform vouches for it, so the provenance must agree with it. An
// Origin without a System is that of a signer without such a certificate: a key, a
// person, the account of a cluster.
type Origin struct {
	System   System
	Signer   string         // the certificate's subject alternative name
	Workflow trust.Workflow // Signer, parsed. GitHub only
	Pipeline trust.Pipeline // Signer, parsed. GitLab only

	Source     string // canonical repository address (source.Canonical)
	Ref        string // full ref
	Commit     string // hex
	Invocation string // URL of the run, job or release
	Parameters string // digest of the external parameters (attest.ParametersDigest). Colophon only

	// GitHub's certificates from before 2023 lack some of these.
	Config       string // the workflow that the run started with, with its ref
	Trigger      string // event that started the run, as in push or workflow_dispatch
	Runner       string // kind of machine, as in github-hosted. GitHub and GitLab
	RepositoryID string // decimal number
	OwnerID      string // decimal number
}

// SystemOf returns the system whose certificates have such a subject alternative
// name, or "" if there is none.
func SystemOf(name string) System {
	for _, s := range systems {
		if s.named(name) {
			return s.name
		}
	}
	return ""
}

// OriginOf reads a certificate by the rules of the system that its name belongs to
// (extensions: Fulcio, docs/oid-info.md). It fails if the certificate lacks something
// that the system always writes, or contradicts itself.
func OriginOf(id certificate.Summary) (Origin, error) {
	for _, s := range systems {
		if s.named(id.SubjectAlternativeName) {
			return s.origin(id)
		}
	}
	return Origin{Signer: id.SubjectAlternativeName}, nil
}
