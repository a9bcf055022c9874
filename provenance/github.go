package provenance

import (
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// github is for workflows on GitHub. This file reads Artifact Attestations and npm's
// provenance; generator.go reads what slsa-github-generator writes.
var github = system{
	name:   GitHub,
	named:  func(san string) bool { _, err := trust.ParseWorkflow(san); return err == nil },
	origin: githubOrigin,
	forms: []form{
		{attest.PredicateSLSA1, among(trust.BuildTypeActions, trust.BuildTypeActionsOld), readGitHub},
		{attest.PredicateSLSA1, among(trust.BuildTypeDelegated, trust.BuildTypeContainerBased), readGenerator1},
		{attest.PredicateSLSA02, among(trust.BuildTypeGeneratorContainer, trust.BuildTypeGeneratorGeneric, trust.BuildTypeGeneratorGo), readGenerator02},
	},
	wants: "one of a workflow on GitHub",
}

const githubURL = "https://github.com/" // slsa-github-generator builds nowhere else

// githubOrigin reads a workflow's certificate (Fulcio, docs/oid-info.md). If it has
// both an extension and the older one that it replaced, they must agree.
func githubOrigin(id certificate.Summary) (Origin, error) {
	w, err := trust.ParseWorkflow(id.SubjectAlternativeName)
	if err != nil {
		return Origin{}, err
	}
	if w.Ref == "" {
		return Origin{}, fmt.Errorf("signer: got %q, want a workflow with its ref", w)
	}
	if err := w.CheckIssuer(id.Issuer); err != nil {
		return Origin{}, err
	}
	if id.BuildSignerURI != "" && strings.ReplaceAll(id.BuildSignerURI, " ", "%20") != w.String() {
		return Origin{}, fmt.Errorf("build signer of the certificate: got %q, want %q", id.BuildSignerURI, id.SubjectAlternativeName)
	}
	o := Origin{
		System: GitHub, Signer: id.SubjectAlternativeName, Workflow: w,
		Config: id.BuildConfigURI, Invocation: id.RunInvocationURI, Runner: id.RunnerEnvironment,
		RepositoryID: id.SourceRepositoryIdentifier, OwnerID: id.SourceRepositoryOwnerIdentifier,
	}
	old := id.GithubWorkflowRepository
	if old != "" {
		old = w.Server() + "/" + old
	}
	for _, e := range []struct {
		what     string
		into     *string
		now, old string
	}{
		{"source", &o.Source, id.SourceRepositoryURI, old},
		{"ref", &o.Ref, id.SourceRepositoryRef, id.GithubWorkflowRef},
		{"commit", &o.Commit, id.SourceRepositoryDigest, id.GithubWorkflowSHA},
		{"trigger", &o.Trigger, id.BuildTrigger, id.GithubWorkflowTrigger},
	} {
		if e.now != "" && e.old != "" && e.now != e.old {
			return Origin{}, fmt.Errorf("%s in the certificate: got %q and %q, want one value", e.what, e.now, e.old)
		}
		if *e.into = e.now; e.now == "" {
			*e.into = e.old
		}
		if *e.into == "" && e.into != &o.Trigger {
			return Origin{}, fmt.Errorf("%s: the certificate has none", e.what)
		}
	}
	if canonical, err := source.Canonical(o.Source); err != nil || canonical != o.Source || !strings.HasPrefix(o.Source, w.Server()+"/") {
		return Origin{}, fmt.Errorf("source of the certificate: got %q, want a repository on %s", o.Source, w.Server())
	}
	return o, o.consistent(id)
}

// consistent fails if anything else in a workflow's certificate is of another
// repository or commit than its source.
func (o Origin) consistent(id certificate.Summary) error {
	claims := []claim{{"owner", o.Source[:strings.LastIndexByte(o.Source, '/')], id.SourceRepositoryOwnerURI}}
	// A workflow of the source at the ref that was built is a file of the commit.
	if o.Workflow.Repository == o.Source && o.Workflow.Ref == o.Ref {
		claims = append(claims, claim{"commit of the signer", o.Commit, id.BuildSignerDigest})
	}
	if w, err := trust.ParseWorkflow(id.BuildConfigURI); err == nil && w.Repository == o.Source && w.Ref == o.Ref {
		claims = append(claims, claim{"commit of the workflow", o.Commit, id.BuildConfigDigest})
	}
	for _, c := range claims {
		if c.certificate != "" && c.says != c.certificate {
			return fmt.Errorf("%s: the certificate says %q, want %q by its source", c.what, c.certificate, c.says)
		}
	}
	if o.Invocation != "" && !strings.HasPrefix(o.Invocation, o.Source+"/actions/runs/") {
		return fmt.Errorf("invocation: the certificate says %q, want a run of %s", o.Invocation, o.Source)
	}
	return nil
}

// readGitHub reads GitHub Artifact Attestations
// (actions.github.io/buildtypes/workflow/v1), and npm's provenance in the older form.
func readGitHub(d *Document, by Origin, f *Facts) error {
	def := d.v1.BuildDefinition
	var params struct {
		Workflow struct {
			Ref        string `json:"ref"`
			Repository string `json:"repository"`
			Path       string `json:"path"`
		} `json:"workflow"`
		Inputs any `json:"inputs"` // inputs of the workflow
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
	builder := by.Signer
	if d.BuildType == trust.BuildTypeActionsOld {
		builder = githubURL + "actions/runner/" + by.Runner
	}
	w, gh := params.Workflow, internal.GitHub
	config, ref := w.Repository+"/"+w.Path, by.Ref
	if !strings.HasPrefix(w.Path, ".github/") {
		// A workflow that the organization requires lives in another repository: its
		// path begins with the name of that, and the ref is the workflow's.
		config, ref = by.Workflow.Server()+"/"+w.Path, w.Ref
	}
	claims := append([]claim{
		{"builder id", d.Builder, builder},
		{"source", w.Repository, by.Source},
		{"ref", w.Ref, ref},
		{"workflow", config + "@" + w.Ref, by.Config},
		{"invocation", d.v1.RunDetails.Metadata.InvocationID, by.Invocation},
	}, said([]claim{
		{"trigger", gh.Trigger, by.Trigger},
		{"repository id", gh.Repo, by.RepositoryID},
		{"owner id", gh.Owner, by.OwnerID},
		{"runner", gh.Runner, by.Runner},
	})...)
	if err := agree(claims); err != nil {
		return err
	}
	inputs, _ := params.Inputs.(map[string]any)
	f.ofRun(by, by.Workflow, inputs)
	return sourceAmong(def.ResolvedDependencies, attest.GitURI(by.Source, by.Ref), by.Commit)
}

// ofRun sets what the certificate says about a workflow's run. It keeps the inputs
// only if a person started the run; otherwise they come from a calling workflow.
func (f *Facts) ofRun(by Origin, builder trust.Workflow, inputs map[string]any) {
	f.Builder, f.Source, f.Ref, f.Commit = builder.String(), by.Source, by.Ref, by.Commit
	if by.Trigger == "workflow_dispatch" {
		f.Inputs = inputs
	}
}

// said returns the claims that the provenance has a value for: some versions of a
// builder leave some out.
func said(claims []claim) (out []claim) {
	for _, c := range claims {
		if c.says != "" {
			out = append(out, c)
		}
	}
	return out
}
