package pipeline

import (
	"regexp"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
)

// policy returns what a consumer demands: provenance and an SBOM by the pipeline of this repository,
// of a tag v*. A pipeline that the repository itself has is trusted for Build L2: whoever may push a
// tag can change its jobs. A shared workflow on GitHub is another repository's, pinned by its commit, so that
// nobody here can change what runs beside its identity: the policy trusts it for L3.
func (n *names) policy() ([]byte, error) {
	src, err := policy.ParseSource(n.Source)
	if err != nil {
		return nil, wrong("%v", err)
	}
	by, err := n.signer()
	if err != nil {
		return nil, wrong("%v", err)
	}
	built := policy.Provenance{Source: src, MinLevel: 2}
	if n.Workflow != "" && n.Kind == github {
		id := "https://github.com/" + n.Workflow
		built.MinLevel, built.Builders, built.Levels = 3, []string{id}, map[string]int{id: 3}
	}
	image, err := policy.ParseImage(n.Image + "@sha256:" + strings.Repeat("0", 64))
	if err != nil {
		return nil, wrong("%v", err)
	}
	set := &policy.Set{Name: "release", Unmatched: policy.DenyUnmatched, Rules: []policy.Rule{{
		Name: "release", Images: []policy.ImagePattern{{Glob: image.Name + "@*"}}, Mode: policy.Enforce,
		Accept: []policy.Policy{{
			Origin:       policy.SignerProvenance{Provenance: built, Signer: by},
			Attestations: []policy.Attestation{{PredicateType: attest.PredicateSPDX, Signer: by}},
		}},
	}}}
	if err := set.Check(); err != nil {
		return nil, err
	}
	d, err := set.Document()
	if err != nil {
		return nil, err
	}
	text, err := d.YAML()
	return append([]byte("# Written by \"colophon init "+n.Kind+"\". CI, the gate and the cluster decide by this file.\n"), text...), err
}

// signer returns who signs in the jobs: the pipeline at a tag v*, or the shared workflow at its commit,
// which releases no other refs.
func (n *names) signer() (policy.Signer, error) {
	if n.Workflow != "" && n.Kind == github {
		return policy.Identity{Name: "https://github.com/" + n.Workflow, Issuer: n.Issuer()}, nil
	}
	file := "/" + workflowFile
	if n.Kind == gitlab {
		file = "//" + gitlabFile // the component that it includes has no identity of its own
	}
	return policy.ParsePattern(regexp.QuoteMeta(n.Source+file)+`@refs/tags/v.*`, n.Issuer())
}
