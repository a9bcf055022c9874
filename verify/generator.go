package verify

import (
	"encoding/json"
	"fmt"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
)

// delegated has r name the builder that its signer signed for: the provenance
// says which. Only signers that check what they say there may be asked.
func (r *run) delegated(s *attest.Statement) error {
	var id string
	switch s.PredicateType {
	case attest.PredicateSLSA02:
		p, err := attest.ParseProvenance02(s.Predicate)
		if err != nil {
			return err
		}
		id = p.Builder.ID
	case attest.PredicateSLSA1:
		p, err := attest.ParseProvenance(s.Predicate)
		if err != nil {
			return err
		}
		id = p.RunDetails.Builder.ID
	}
	w, err := trust.ParseWorkflow(id)
	if err == nil && w.Ref == "" {
		err = fmt.Errorf("builder id: got %q, want one with its ref", id)
	}
	r.builder = w
	return err
}

// agreeGenerator compares what the builders of slsa-github-generator with SLSA
// provenance v1 say: those that it signs for, and its container-based one.
func (r *run) agreeGenerator(p *attest.Provenance) error {
	def := p.BuildDefinition
	var params struct {
		Source       *attest.ResourceDescriptor `json:"source"`
		Inputs       any                        `json:"inputs"` // what the builder was asked for; any will do
		Vars         any                        `json:"vars"`
		BuilderImage any                        `json:"builderImage"`
		ConfigPath   any                        `json:"configPath"`
		Config       any                        `json:"config"`
		BuildConfig  any                        `json:"buildConfig"`
	}
	if err := strict.UnmarshalKnown(def.ExternalParameters, limits.Statement, &params); err != nil {
		return fmt.Errorf("external parameters: %w", err)
	}
	var env struct {
		Trigger    string          `json:"GITHUB_EVENT_NAME"`
		Ref        string          `json:"GITHUB_REF"`
		Commit     string          `json:"GITHUB_SHA"`
		Repository string          `json:"GITHUB_REPOSITORY"`
		Repo       string          `json:"GITHUB_REPOSITORY_ID"`
		Owner      string          `json:"GITHUB_REPOSITORY_OWNER_ID"`
		Run        string          `json:"GITHUB_RUN_ID"`
		Attempt    string          `json:"GITHUB_RUN_ATTEMPT"`
		Workflow   string          `json:"GITHUB_WORKFLOW_REF"`
		Payload    json.RawMessage `json:"GITHUB_EVENT_PAYLOAD"`
	}
	if len(def.InternalParameters) > 0 {
		if err := strict.Unmarshal(def.InternalParameters, limits.Statement, &env); err != nil {
			return fmt.Errorf("internal parameters: %w", err)
		}
	}
	r.startedWith(inputsOf(env.Payload))
	uri := attest.GitURI(r.source, r.ref)
	claims := []claim{{"builder id", p.RunDetails.Builder.ID, r.builder.String()}}
	if def.BuildType == trust.BuildTypeContainerBased && params.Source == nil {
		return fmt.Errorf("external parameters: no source, want %s", uri)
	}
	if params.Source != nil {
		claims = append(claims, claim{"source", params.Source.URI, uri}, claim{"commit", commitOf(*params.Source), r.commit})
	}
	for _, c := range []claim{
		{"trigger", env.Trigger, r.trigger},
		{"ref", env.Ref, r.ref},
		{"commit", env.Commit, r.commit},
		{"source", githubURL + env.Repository, r.source},
		{"repository id", env.Repo, r.repositoryID},
		{"owner id", env.Owner, r.ownerID},
		{"run", env.Run + "-" + env.Attempt, invocation02(r)},
		{"workflow", githubURL + env.Workflow, r.config},
	} {
		if c.says != "" && c.says != githubURL && c.says != "-" {
			claims = append(claims, c)
		}
	}
	if id := p.RunDetails.Metadata.InvocationID; id != "" && id != r.invocation {
		claims = append(claims, claim{"invocation", id, invocation02(r)})
	}
	if err := agree(claims); err != nil {
		return err
	}
	return sourceAmong(def.ResolvedDependencies, uri, r.commit)
}
