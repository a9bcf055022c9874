package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// run is what the certificate of a GitHub workflow says of the run that it was
// issued to: GitHub's word, which the provenance is held to. What certificates
// of before 2023 do not say is empty.
type run struct {
	workflow              trust.Workflow // who signed
	builder               trust.Workflow // who built: the signer, or whom it signed for
	source, ref, commit   string
	config                string // the workflow that the run began with, with its ref
	invocation            string
	trigger, runner       string
	repositoryID, ownerID string
	process               string         // build type, as the provenance has it
	inputs                map[string]any // as the provenance has them
}

const githubURL = "https://github.com/"

// runOf reads a workflow's certificate. Where an extension of today and its
// forerunner are both there, they must agree.
func runOf(id certificate.Summary) (*run, error) {
	w, err := trust.ParseWorkflow(id.SubjectAlternativeName)
	if err != nil {
		return nil, err
	}
	if w.Ref == "" {
		return nil, fmt.Errorf("signer: got %q, want a workflow with its ref", w)
	}
	if id.Issuer != trust.GitHubIssuer {
		return nil, fmt.Errorf("issuer of the signer's certificate: got %q, want %q", id.Issuer, trust.GitHubIssuer)
	}
	if id.BuildSignerURI != "" && id.BuildSignerURI != id.SubjectAlternativeName {
		return nil, fmt.Errorf("build signer of the certificate: got %q, want %q", id.BuildSignerURI, id.SubjectAlternativeName)
	}
	r := &run{workflow: w, builder: w, config: id.BuildConfigURI, invocation: id.RunInvocationURI, runner: id.RunnerEnvironment,
		repositoryID: id.SourceRepositoryIdentifier, ownerID: id.SourceRepositoryOwnerIdentifier}
	old := id.GithubWorkflowRepository
	if old != "" {
		old = githubURL + old
	}
	for _, e := range []struct {
		what     string
		into     *string
		now, old string
	}{
		{"source", &r.source, id.SourceRepositoryURI, old},
		{"ref", &r.ref, id.SourceRepositoryRef, id.GithubWorkflowRef},
		{"commit", &r.commit, id.SourceRepositoryDigest, id.GithubWorkflowSHA},
		{"trigger", &r.trigger, id.BuildTrigger, id.GithubWorkflowTrigger},
	} {
		if e.now != "" && e.old != "" && e.now != e.old {
			return nil, fmt.Errorf("%s: the certificate says %q and %q", e.what, e.now, e.old)
		}
		if *e.into = e.now; e.now == "" {
			*e.into = e.old
		}
		if *e.into == "" && e.into != &r.trigger {
			return nil, fmt.Errorf("%s: the certificate says nothing of it", e.what)
		}
	}
	if canonical, err := source.Canonical(r.source); err != nil || canonical != r.source || !strings.HasPrefix(r.source, githubURL) {
		return nil, fmt.Errorf("source of the certificate: got %q, want a repository on github.com", r.source)
	}
	return r, r.consistent(id)
}

// consistent holds the rest of what a certificate says of the run to the
// source: nothing in it may be of another repository or commit.
func (r *run) consistent(id certificate.Summary) error {
	owner, _, _ := strings.Cut(strings.TrimPrefix(r.source, githubURL), "/")
	claims := []claim{{"owner", githubURL + owner, id.SourceRepositoryOwnerURI}}
	// A workflow of the source at the ref that was built is what the commit has.
	if r.workflow.Repository == r.source && r.workflow.Ref == r.ref {
		claims = append(claims, claim{"commit of the signer", r.commit, id.BuildSignerDigest})
	}
	if w, err := trust.ParseWorkflow(id.BuildConfigURI); err == nil && w.Repository == r.source && w.Ref == r.ref {
		claims = append(claims, claim{"commit of the workflow", r.commit, id.BuildConfigDigest})
	}
	for _, c := range claims {
		if c.certificate != "" && c.says != c.certificate {
			return fmt.Errorf("%s: the certificate says %q, and %q where its source is named", c.what, c.certificate, c.says)
		}
	}
	if r.invocation != "" && !strings.HasPrefix(r.invocation, r.source+"/actions/runs/") {
		return fmt.Errorf("invocation: the certificate says %q, want a run of %s", r.invocation, r.source)
	}
	return nil
}

// claim is one thing that two documents say.
type claim struct{ what, says, certificate string }

// agree compares claims; of what the certificate does not say there is nothing
// to compare, which only certificates of before 2023 leave out.
func agree(claims []claim) error {
	for _, c := range claims {
		if c.certificate != "" && c.says != c.certificate {
			return fmt.Errorf("%s: the provenance says %q, its signer's certificate %q", c.what, c.says, c.certificate)
		}
	}
	return nil
}

// workflowProvenance holds the provenance of a GitHub workflow to the
// certificate that signed it, then to the policy.
func (c *check) workflowProvenance(s *attest.Statement, r *run, b trust.PublicBuilder) (*provenance, error) {
	prov := &provenance{uri: r.source, ref: r.ref, commit: r.commit, built: c.builtBy(r.builder.String(), b.Level)}
	prov.built.runner = r.runner
	var err error
	switch s.PredicateType {
	case attest.PredicateSLSA02:
		err = r.agree02(s.Predicate, b)
	case attest.PredicateSLSA1:
		err = r.agree1(s.Predicate, b)
	default:
		err = fmt.Errorf("predicate: got %q, want %q or %q", s.PredicateType, attest.PredicateSLSA1, attest.PredicateSLSA02)
	}
	if err != nil {
		return nil, err
	}
	prov.built.process, prov.inputs = r.process, r.inputs
	return prov, c.demand(prov)
}

func buildType(got string, b trust.PublicBuilder) error {
	if !slices.Contains(b.BuildTypes, got) {
		return fmt.Errorf("build type: got %q, want one that %q makes: %q", got, b.Workflow, b.BuildTypes)
	}
	return nil
}

// agree02 compares what slsa-github-generator writes (SLSA provenance v0.2).
func (r *run) agree02(predicate []byte, b trust.PublicBuilder) error {
	p, err := attest.ParseProvenance02(predicate)
	if err != nil {
		return err
	}
	if err := buildType(p.BuildType, b); err != nil {
		return err
	}
	r.process = p.BuildType
	var env struct {
		Ref     string          `json:"github_ref"`
		Commit  string          `json:"github_sha1"`
		Trigger string          `json:"github_event_name"`
		Run     string          `json:"github_run_id"`
		Attempt string          `json:"github_run_attempt"`
		Repo    string          `json:"github_repository_id"`
		Owner   string          `json:"github_repository_owner_id"`
		Payload json.RawMessage `json:"github_event_payload"`
	}
	if len(p.Invocation.Environment) > 0 {
		if err := strict.Unmarshal(p.Invocation.Environment, limits.Statement, &env); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	r.startedWith(inputsOf(env.Payload))
	uri := attest.GitURI(r.source, r.ref)
	config := p.Invocation.ConfigSource
	claims := []claim{
		{"builder id", p.Builder.ID, r.builder.String()},
		{"source", config.URI, uri},
		{"commit", config.Digest["sha1"], r.commit},
		{"workflow", r.source + "/" + config.EntryPoint + "@" + r.ref, r.config},
	}
	// Old versions of the generator leave some of these out.
	for _, c := range []claim{
		{"ref of the environment", env.Ref, r.ref},
		{"commit of the environment", env.Commit, r.commit},
		{"trigger", env.Trigger, r.trigger},
		{"repository id", env.Repo, r.repositoryID},
		{"owner id", env.Owner, r.ownerID},
		{"invocation", p.Metadata.BuildInvocationID, invocation02(r)},
		{"run", env.Run + "-" + env.Attempt, invocation02(r)},
	} {
		if c.says != "" && c.says != "-" {
			claims = append(claims, c)
		}
	}
	if err := agree(claims); err != nil {
		return err
	}
	return sourceAmong(p.Materials, uri, r.commit)
}

// inputsOf reads what GitHub told the run of its trigger; nil where it cannot
// be read, which meets no demand.
func inputsOf(payload json.RawMessage) map[string]any {
	var e struct {
		Inputs map[string]any `json:"inputs"`
	}
	if len(payload) == 0 || strict.Unmarshal(payload, limits.Statement, &e) != nil {
		return nil
	}
	return e.Inputs
}

// startedWith keeps the inputs of a run that somebody started by hand. Of any
// other run they would be somebody else's.
func (r *run) startedWith(inputs map[string]any) {
	if r.trigger == "workflow_dispatch" {
		r.inputs = inputs
	}
}

// invocation02 is the run as RUN-ATTEMPT.
func invocation02(r *run) string {
	id, attempt, ok := strings.Cut(strings.TrimPrefix(r.invocation, r.source+"/actions/runs/"), "/attempts/")
	if !ok {
		return ""
	}
	return id + "-" + attempt
}

// agree1 compares what GitHub Artifact Attestations say (SLSA provenance v1).
func (r *run) agree1(predicate []byte, b trust.PublicBuilder) error {
	p, err := attest.ParseProvenance(predicate)
	if err != nil {
		return err
	}
	def := p.BuildDefinition
	if err := buildType(def.BuildType, b); err != nil {
		return err
	}
	r.process = def.BuildType
	if def.BuildType == trust.BuildTypeDelegated || def.BuildType == trust.BuildTypeContainerBased {
		return r.agreeGenerator(p)
	}
	var params struct {
		Workflow struct {
			Ref        string `json:"ref"`
			Repository string `json:"repository"`
			Path       string `json:"path"`
		} `json:"workflow"`
		Inputs any `json:"inputs"` // what the workflow was started with
		Vars   any `json:"vars"`
	}
	// Unknown external parameters could change what was built (SLSA v1.2,
	// "Verifying artifacts").
	if err := strict.UnmarshalKnown(def.ExternalParameters, limits.Statement, &params); err != nil {
		return fmt.Errorf("external parameters: %w", err)
	}
	var internal struct {
		GitHub struct {
			Trigger string `json:"event_name"`
			Repo    string `json:"repository_id"`
			Owner   string `json:"repository_owner_id"`
			Runner  string `json:"runner_environment"`
		} `json:"github"`
	}
	if len(def.InternalParameters) > 0 {
		if err := strict.Unmarshal(def.InternalParameters, limits.Statement, &internal); err != nil {
			return fmt.Errorf("internal parameters: %w", err)
		}
	}
	inputs, _ := params.Inputs.(map[string]any)
	r.startedWith(inputs)
	w, gh := params.Workflow, internal.GitHub
	claims := []claim{
		{"builder id", p.RunDetails.Builder.ID, r.builderID(def.BuildType)},
		{"source", w.Repository, r.source},
		{"ref", w.Ref, r.ref},
		{"workflow", w.Repository + "/" + w.Path + "@" + w.Ref, r.config},
		{"invocation", p.RunDetails.Metadata.InvocationID, r.invocation},
	}
	for _, c := range []claim{
		{"trigger", gh.Trigger, r.trigger},
		{"repository id", gh.Repo, r.repositoryID},
		{"owner id", gh.Owner, r.ownerID},
		{"runner", gh.Runner, r.runner},
	} {
		if c.says != "" {
			claims = append(claims, c)
		}
	}
	if err := agree(claims); err != nil {
		return err
	}
	return sourceAmong(def.ResolvedDependencies, attest.GitURI(r.source, r.ref), r.commit)
}

// builderID is what a provenance of the build type names as its builder: the
// workflow, or under GitHub's old build type the kind of machine.
func (r *run) builderID(buildType string) string {
	if buildType == trust.BuildTypeActionsOld {
		return githubURL + "actions/runner/" + r.runner
	}
	return r.builder.String()
}

// sourceAmong fails unless the dependencies name the source, and all that do
// name it at the commit.
func sourceAmong(deps []attest.ResourceDescriptor, uri, commit string) error {
	found := false
	for _, d := range deps {
		if d.URI != uri {
			continue
		}
		if got := commitOf(d); got != commit {
			return fmt.Errorf("dependency %s: got commit %q, want %q", uri, got, commit)
		}
		found = true
	}
	if !found {
		return errors.New("the source is not among the dependencies: want " + uri)
	}
	return nil
}

// commitOf is the commit that a descriptor names, under the name of today or
// of before; empty where the two differ.
func commitOf(d attest.ResourceDescriptor) string {
	now, old := d.Digest["gitCommit"], d.Digest["sha1"]
	if now != "" && old != "" && now != old {
		return ""
	}
	if now == "" {
		return old
	}
	return now
}
