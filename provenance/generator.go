package provenance

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
)

// This file reads what the builders of slsa-github-generator write. Workflows on
// GitHub call them; github.go reads their certificates.

// Builder returns the workflow that built: the signer or, if the signer signs for
// other builders, the workflow that d names. Such signers check the name.
func (o Origin) Builder(d *Document) (trust.Workflow, error) {
	if !o.Workflow.Delegates() {
		return o.Workflow, nil
	}
	w, err := trust.ParseWorkflow(d.Builder)
	if err == nil && w.Ref == "" {
		err = fmt.Errorf("builder id: got %q, want a workflow with its ref", d.Builder)
	}
	return w, err
}

// readGenerator02 reads the provenance of the generators for containers, files and Go
// (SLSA v0.2; internal/builders in slsa-github-generator).
func readGenerator02(d *Document, by Origin, f *Facts) error {
	p := d.v02
	var env struct {
		Ref     string          `json:"github_ref"`
		Commit  string          `json:"github_sha1"`
		Trigger string          `json:"github_event_name"`
		Run     attest.Number   `json:"github_run_id"`
		Attempt attest.Number   `json:"github_run_attempt"`
		Repo    attest.Number   `json:"github_repository_id"`
		Owner   attest.Number   `json:"github_repository_owner_id"`
		Payload json.RawMessage `json:"github_event_payload"`
	}
	if len(p.Invocation.Environment) > 0 {
		if err := strict.Unmarshal(p.Invocation.Environment, limits.Statement, &env); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	uri := attest.GitURI(by.Source, by.Ref)
	config := p.Invocation.ConfigSource
	claims := append([]claim{
		{"builder id", d.Builder, by.Signer},
		{"source", config.URI, uri},
		{"commit", config.Digest["sha1"], by.Commit},
		{"workflow", by.Source + "/" + config.EntryPoint + "@" + by.Ref, by.Config},
	}, said([]claim{
		{"ref of the environment", env.Ref, by.Ref},
		{"commit of the environment", env.Commit, by.Commit},
		{"trigger", env.Trigger, by.Trigger},
		{"repository id", string(env.Repo), by.RepositoryID},
		{"owner id", string(env.Owner), by.OwnerID},
		{"invocation", p.Metadata.BuildInvocationID, by.attempt()},
		{"run", attempt(env.Run, env.Attempt), by.attempt()},
	})...)
	if err := agree(claims); err != nil {
		return err
	}
	f.ofRun(by, by.Workflow, inputsOf(env.Payload))
	return sourceAmong(p.Materials, uri, by.Commit)
}

// readGenerator1 reads the provenance of the builders with SLSA v1: those that
// slsa-github-generator signs for, and its own container-based builder.
func readGenerator1(d *Document, by Origin, f *Facts) error {
	builder := by.Workflow
	if d.BuildType == trust.BuildTypeDelegated {
		var err error
		if builder, err = by.Builder(d); err != nil {
			return err
		}
	}
	def := d.v1.BuildDefinition
	var params struct {
		Source       *attest.ResourceDescriptor `json:"source"`
		Inputs       any                        `json:"inputs"` // what the caller chose; every value is accepted
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
		Repo       attest.Number   `json:"GITHUB_REPOSITORY_ID"`
		Owner      attest.Number   `json:"GITHUB_REPOSITORY_OWNER_ID"`
		Run        attest.Number   `json:"GITHUB_RUN_ID"` // the container-based builder writes a JSON number
		Attempt    attest.Number   `json:"GITHUB_RUN_ATTEMPT"`
		Workflow   string          `json:"GITHUB_WORKFLOW_REF"`
		Payload    json.RawMessage `json:"GITHUB_EVENT_PAYLOAD"`
	}
	if len(def.InternalParameters) > 0 {
		if err := strict.Unmarshal(def.InternalParameters, limits.Statement, &env); err != nil {
			return fmt.Errorf("internal parameters: %w", err)
		}
	}
	uri := attest.GitURI(by.Source, by.Ref)
	claims := []claim{{"builder id", d.Builder, builder.String()}}
	if def.BuildType == trust.BuildTypeContainerBased && params.Source == nil {
		return fmt.Errorf("external parameters: no source, want %s", uri)
	}
	if params.Source != nil {
		claims = append(claims, claim{"source", params.Source.URI, uri}, claim{"commit", commitOf(*params.Source), by.Commit})
	}
	claims = append(claims, said([]claim{
		{"trigger", env.Trigger, by.Trigger},
		{"ref", env.Ref, by.Ref},
		{"commit", env.Commit, by.Commit},
		{"source", onGitHub(env.Repository), by.Source},
		{"repository id", string(env.Repo), by.RepositoryID},
		{"owner id", string(env.Owner), by.OwnerID},
		{"run", attempt(env.Run, env.Attempt), by.attempt()},
		{"workflow", onGitHub(env.Workflow), by.Config},
	})...)
	if id := d.v1.RunDetails.Metadata.InvocationID; id != "" && id != by.Invocation {
		claims = append(claims, claim{"invocation", id, by.attempt()})
	}
	if err := agree(claims); err != nil {
		return err
	}
	f.ofRun(by, builder, inputsOf(env.Payload))
	return sourceAmong(def.ResolvedDependencies, uri, by.Commit)
}

// inputsOf returns the inputs in GitHub's event, or nil if it cannot be parsed, which
// meets no demand.
func inputsOf(payload json.RawMessage) map[string]any {
	var e struct {
		Inputs map[string]any `json:"inputs"`
	}
	if len(payload) == 0 || strict.Unmarshal(payload, limits.Statement, &e) != nil {
		return nil
	}
	return e.Inputs
}

// attempt returns the name of a run as the generators write it, RUN-ATTEMPT, or "" if
// neither is known.
func attempt(run, attempt attest.Number) string {
	if run == "" && attempt == "" {
		return ""
	}
	return string(run + "-" + attempt)
}

// attempt returns the same from the certificate.
func (o Origin) attempt() string {
	run, n, ok := strings.Cut(strings.TrimPrefix(o.Invocation, o.Source+"/actions/runs/"), "/attempts/")
	if !ok {
		return ""
	}
	return run + "-" + n
}

// onGitHub returns the address of a path on github.com, or "" for no path.
func onGitHub(path string) string {
	if path == "" {
		return ""
	}
	return githubURL + path
}
