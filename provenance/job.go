package provenance

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/trust"
)

// buildTypeGitLab is the build type of the provenance that GitLab writes today
// (docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1).
const buildTypeGitLab = "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1"

// OfJob returns the provenance of the CI job that a certificate was issued for, in the form
// of its CI system: what GitHub's action attest-build-provenance writes, or GitLab's runner.
// All of it is from the certificate, so that the CI system vouches for it, but for GitLab's
// runner and job: runner is the runner's number, and job the job's name, as the variables
// CI_RUNNER_ID and CI_JOB_NAME say.
//
// OfJob reads what it made, as a verifier will, and fails if that fails. It also fails for a
// signer that is no job of GitHub or GitLab. A job that signs about itself is not isolated
// from what it builds, so a verifier trusts this for less than Build L3, unless the job is
// one of a reusable workflow that nobody else can change.
func OfJob(id certificate.Summary, runner, job string) (*attest.Provenance, error) {
	by, err := OriginOf(id)
	if err != nil {
		return nil, err
	}
	p := &attest.Provenance{}
	p.BuildDefinition.ResolvedDependencies = []attest.ResourceDescriptor{{URI: attest.GitURI(by.Source, by.Ref), Digest: map[string]string{"gitCommit": by.Commit}}}
	p.RunDetails.Metadata.InvocationID = by.Invocation
	switch by.System {
	case GitHub:
		err = by.ofGitHub(p)
	case GitLab:
		err = by.ofGitLab(p, runner, job)
	default:
		err = fmt.Errorf("signer: got %q, want a job of GitHub or GitLab", by.Signer)
	}
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	_, err = Read(&attest.Statement{PredicateType: attest.PredicateSLSA1, Predicate: raw}, by)
	return p, err
}

func (o Origin) ofGitHub(p *attest.Provenance) error {
	config, err := trust.ParseWorkflow(o.Config)
	if err != nil {
		return fmt.Errorf("workflow of the certificate: %w", err)
	}
	path, ref := config.Path, o.Ref
	if config.Repository != o.Source { // one that the organization requires
		path, ref = strings.TrimPrefix(config.Repository, config.Server()+"/")+"/"+config.Path, config.Ref
	}
	p.RunDetails.Builder.ID = o.Signer
	def := &p.BuildDefinition
	def.BuildType = trust.BuildTypeActions
	if def.ExternalParameters, err = json.Marshal(map[string]any{"workflow": map[string]string{"ref": ref, "repository": o.Source, "path": path}}); err != nil {
		return err
	}
	def.InternalParameters, err = json.Marshal(map[string]any{"github": map[string]string{
		"event_name": o.Trigger, "repository_id": o.RepositoryID, "repository_owner_id": o.OwnerID, "runner_environment": o.Runner,
	}})
	return err
}

func (o Origin) ofGitLab(p *attest.Provenance, runner, job string) (err error) {
	number := o.Invocation[strings.LastIndexByte(o.Invocation, '/')+1:]
	p.RunDetails.Builder.ID = o.Source + "/-/runners/" + runner
	p.RunDetails.Metadata.InvocationID = number
	def := &p.BuildDefinition
	def.BuildType = buildTypeGitLab
	def.ResolvedDependencies[0].URI = o.Source
	if def.ExternalParameters, err = json.Marshal(map[string]any{"source": o.Source, "entryPoint": job, "variables": map[string]string{}}); err != nil {
		return err
	}
	def.InternalParameters, err = json.Marshal(map[string]any{"job": json.Number(number)})
	return err
}
