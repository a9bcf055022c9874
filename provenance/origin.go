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
	Tekton   System = "Tekton" // has no certificates of its own: signed by a key or account that the consumer names
)

// Origin is what a signer's certificate says about the build that it was issued
// for. The CI system or platform vouches for it, so that the provenance is
// compared with it. The zero value, and one without a System, stand for a signer
// whose certificate says nothing about a build, or who has none: a key, a person,
// the account of a cluster.
type Origin struct {
	System   System
	Signer   string         // the certificate's subject alternative name
	Workflow trust.Workflow // Signer, parsed. GitHub only
	Pipeline trust.Pipeline // Signer, parsed. GitLab only

	Source     string // canonical repository address (source.Canonical)
	Ref        string // full ref
	Commit     string // hex
	Invocation string // URL of the run, job or release

	// GitHub's certificates from before 2023 lack some of these.
	Config       string // the workflow that the run began with, with its ref
	Trigger      string // what started the run, as in push or workflow_dispatch
	Runner       string // the kind of machine, as in github-hosted. GitHub and GitLab
	RepositoryID string // a number
	OwnerID      string // a number
}

// SystemOf returns the system whose certificates have such a name, a subject
// alternative name; "" where it is none that is known.
func SystemOf(name string) System {
	for _, s := range systems {
		if s.named(name) {
			return s.name
		}
	}
	return ""
}

// OriginOf reads a certificate, by the rules of the system that its name is of.
// It fails where the certificate lacks what that system always writes, or
// contradicts itself.
func OriginOf(id certificate.Summary) (Origin, error) {
	for _, s := range systems {
		if s.named(id.SubjectAlternativeName) {
			return s.origin(id)
		}
	}
	return Origin{Signer: id.SubjectAlternativeName}, nil
}
