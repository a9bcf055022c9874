package pipeline

import (
	"regexp"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// policy returns what a consumer demands: provenance and an SBOM by the pipeline of this repository,
// of a tag v*. A pipeline that the repository itself has is trusted for Build L2: whoever may push a
// tag can change its jobs. A shared workflow on GitHub is another repository's, pinned by its commit, so that
// nobody here can change what runs beside its identity: the policy trusts it for L3. A platform is
// trusted for what its trust document says, and must reach L3.
func (n *names) policy() ([]byte, error) {
	src, err := policy.ParseSource(n.Source)
	if err != nil {
		return nil, wrong("%v", err)
	}
	demanded, err := n.demanded(src)
	if err != nil {
		return nil, wrong("%v", err)
	}
	image, err := policy.ParseImage(n.Image + "@sha256:" + strings.Repeat("0", 64))
	if err != nil {
		return nil, wrong("%v", err)
	}
	set := &policy.Set{Name: "release", Unmatched: policy.DenyUnmatched, Rules: []policy.Rule{{
		Name: "release", Images: []policy.ImagePattern{{Glob: image.Name + "@*"}}, Mode: policy.Enforce,
		Accept: []policy.Policy{demanded},
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

// demanded returns what an image must prove.
func (n *names) demanded(src policy.Source) (policy.Policy, error) {
	built := policy.Provenance{Source: src, MinLevel: 2}
	if n.Kind == colophon { // the platform attaches SBOMs, and its trust document names its builders
		built.MinLevel = 3
		return policy.Policy{Origin: policy.BuilderProvenance{Provenance: built, Root: n.Platform}}, nil
	}
	if n.Workflow != "" && n.Kind == github {
		id := "https://github.com/" + n.Workflow
		built.MinLevel, built.Builders, built.Levels = 3, []string{id}, map[string]int{id: 3}
	}
	if n.Kind == tekton { // Chains signs provenance alone, and its provenance names no ref
		built.Builders = []string{trust.TektonBuilder}
		key, err := policy.ParseKey(string(n.Chains))
		return policy.Policy{Origin: policy.SignerProvenance{Provenance: built, Signer: key}}, err
	}
	by, err := n.signer()
	return policy.Policy{
		Origin:       policy.SignerProvenance{Provenance: built, Signer: by},
		Attestations: []policy.Attestation{{PredicateType: attest.PredicateSPDX, Signer: by}},
	}, err
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
