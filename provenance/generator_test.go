package provenance_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

const generatorWorkflows = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/"

func TestGenerator(t *testing.T) {
	const example = "https://github.com/slsa-framework/example-package"
	for name, want := range map[string]provenance.Facts{
		"generator-container-v1.7.0": {
			System: provenance.GitHub, Builder: generatorWorkflows + "generator_container_slsa3.yml@refs/tags/v1.7.0", BuildType: trust.BuildTypeGeneratorContainer,
			Source: example, Ref: "refs/heads/main", Commit: "62cb1f1e485829bafe8bbec8b9900c0cb7624fe7",
			Invocation: example + "/actions/runs/5201384557/attempts/1", Trigger: "workflow_dispatch", Runner: "github-hosted",
		},
		"generator-container-v2.0.0": {
			System: provenance.GitHub, Builder: generatorWorkflows + "generator_container_slsa3.yml@refs/tags/v2.0.0", BuildType: trust.BuildTypeGeneratorContainer,
			Source: example, Ref: "refs/tags/v13.0.30", Commit: "693130cb6cb840a7bc9cb18c6510d536a95dc7e6",
			Invocation: example + "/actions/runs/8791219607/attempts/1", Trigger: "push", Runner: "github-hosted",
		},
		"container-based": {
			System: provenance.GitHub, Builder: generatorWorkflows + "builder_container-based_slsa3.yml@refs/tags/v1.9.0", BuildType: trust.BuildTypeContainerBased,
			Source: example, Ref: "refs/heads/main", Commit: "2bcaa7495e1cbd11fbd4f598d857b3a6f18df933",
			Invocation: example + "/actions/runs/5947340677/attempts/1", Trigger: "workflow_dispatch", Runner: "github-hosted",
		},
	} {
		got := facts(t, load(t, name))
		got.Inputs = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	other := strings.Repeat("ab", 20)
	bendAll(t, load(t, "generator-container-v1.7.0"), []bend{
		{name: "builder id", old: "slsa3.yml@refs/tags/v1.7.0", new: "slsa3.yml@refs/tags/v1.7.1", want: "builder id: the provenance says"},
		{name: "build type", old: "container@v1", new: "container@v2", want: "build type"},
		{name: "predicate of another version", old: "slsa.dev/provenance/v0.2", new: "slsa.dev/provenance/v1", want: "no builder id"},
		{name: "source", old: `"configSource":{"uri":"git+https://github.com/slsa-framework/example-package@`, new: `"configSource":{"uri":"git+https://github.com/slsa-framework/evil@`, want: "source: the provenance says"},
		{name: "workflow", old: `"entryPoint":"`, new: `"entryPoint":"x`, want: "workflow: the provenance says"},
		{name: "ref", old: `"github_ref":"refs/heads/main"`, new: `"github_ref":"refs/heads/dev"`, want: "ref of the environment"},
		{name: "commit", old: `"github_sha1":"62`, new: `"github_sha1":"63`, want: "commit of the environment"},
		{name: "trigger", old: `"github_event_name":"workflow_dispatch"`, new: `"github_event_name":"push"`, want: "trigger: the provenance says"},
		{name: "repository id", old: `"github_repository_id":"48`, new: `"github_repository_id":"49`, want: "repository id: the provenance says"},
		{name: "owner id", old: `"github_repository_owner_id":"80`, new: `"github_repository_owner_id":"81`, want: "owner id: the provenance says"},
		{name: "run", old: `"github_run_id":"52`, new: `"github_run_id":"53`, want: "run: the provenance says"},
		{name: "invocation", old: `"buildInvocationID":"52`, new: `"buildInvocationID":"53`, want: "invocation: the provenance says"},
		{name: "material of another ref", old: `"materials":[{"uri":"git+https://github.com/slsa-framework/example-package@refs/heads/main`, new: `"materials":[{"uri":"git+https://github.com/slsa-framework/example-package@refs/heads/dev`, want: "not among the dependencies"},
		{name: "commit in certificate", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest, c.GithubWorkflowSHA = other, other }, want: "commit"},
	})
	bendAll(t, load(t, "container-based"), []bend{
		{name: "builder id", old: "slsa3.yml@refs/tags/v1.9.0", new: "slsa3.yml@refs/tags/v1.9.1", want: "builder id: the provenance says"},
		{name: "source", old: `"source":{"uri":"git+https://github.com/slsa-framework/example-package@refs/heads/main"`, new: `"source":{"uri":"git+https://github.com/slsa-framework/example-package@refs/heads/dev"`, want: "source: the provenance says"},
		{name: "no source", old: `"externalParameters":{"source":`, new: `"externalParameters":{"config":`, want: "external parameters: no source"},
		{name: "unknown parameter", old: `"externalParameters":{`, new: `"externalParameters":{"command":"x",`, want: "external parameters"},
		{name: "commit", old: `"GITHUB_SHA":"2b`, new: `"GITHUB_SHA":"2c`, want: "commit: the provenance says"},
		{name: "repository", old: `"GITHUB_REPOSITORY":"slsa-framework/example-package"`, new: `"GITHUB_REPOSITORY":"slsa-framework/evil"`, want: "source: the provenance says"},
		{name: "run", old: `"GITHUB_RUN_ID":59`, new: `"GITHUB_RUN_ID":58`, want: "run: the provenance says"},
		{name: "run as a text", old: `"GITHUB_RUN_ID":5947340677`, new: `"GITHUB_RUN_ID":"5947340677"`},
		{name: "run with a point", old: `"GITHUB_RUN_ID":5947340677`, new: `"GITHUB_RUN_ID":5947340677.0`, want: "internal parameters"},
		{name: "workflow", old: `"GITHUB_WORKFLOW_REF":"slsa-framework/`, new: `"GITHUB_WORKFLOW_REF":"evil/`, want: "workflow: the provenance says"},
		{name: "invocation", old: `"invocationId":"https`, new: `"invocationId":"http`, want: "invocation: the provenance says"},
		{name: "invocation, as other versions write it", old: `"invocationId":"https://github.com/slsa-framework/example-package/actions/runs/5947340677/attempts/1"`, new: `"invocationId":"5947340677-1"`},
	})
}

// TestDelegated: slsa-github-generator signs for builders of others, and says
// in the provenance for which.
func TestDelegated(t *testing.T) {
	const (
		delegator = generatorWorkflows + "delegator_generic_slsa3.yml@refs/tags/v2.0.0"
		based     = generatorWorkflows + "builder_container-based_slsa3.yml@refs/tags/v1.9.0"
		maven     = generatorWorkflows + "builder_maven_slsa3.yml@refs/tags/v2.0.0"
	)
	s := load(t, "container-based")
	s.signer.SubjectAlternativeName, s.signer.BuildSignerURI = delegator, delegator
	s.statement = strings.Replace(s.statement, trust.BuildTypeContainerBased, trust.BuildTypeDelegated, 1)
	s.statement = strings.Replace(s.statement, based, maven, 1)
	if got := facts(t, s); got.Builder != maven || got.BuildType != trust.BuildTypeDelegated {
		t.Errorf("got %+v, want builder %s", got, maven)
	}
	by, err := provenance.OriginOf(s.signer)
	if err != nil {
		t.Fatal(err)
	}
	st, err := attest.ParseAnyStatement([]byte(s.statement))
	if err != nil {
		t.Fatal(err)
	}
	d, err := provenance.Parse(st)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := by.Builder(d); err != nil || w.String() != maven {
		t.Errorf("got %v, %v, want %s", w, err, maven)
	}
	named := func(san string) func(*certificate.Summary) {
		return func(c *certificate.Summary) { c.SubjectAlternativeName, c.BuildSignerURI = san, san }
	}
	bendAll(t, s, []bend{
		{name: "builder without a ref", old: "builder_maven_slsa3.yml@refs/tags/v2.0.0", new: "builder_maven_slsa3.yml", want: "want a workflow with its ref"},
		{name: "no workflow", old: maven, new: "https://example.com/builder", want: "workflow: got"},
		{name: "delegator of a branch", signer: named(strings.Replace(delegator, "tags/v2.0.0", "heads/main", 1)), want: "builder id: the provenance says"},
		{name: "somebody's delegator", signer: named(strings.Replace(delegator, "slsa-framework", "evil", 1)), want: "builder id: the provenance says"},
		// A delegator speaks for others in no other form.
		{name: "container-based", old: trust.BuildTypeDelegated, new: trust.BuildTypeContainerBased, want: "builder id: the provenance says"},
		{name: "GitHub's form", old: trust.BuildTypeDelegated, new: trust.BuildTypeActions, want: "external parameters"},
	})
}
