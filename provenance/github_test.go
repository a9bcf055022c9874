package provenance_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

func TestGitHub(t *testing.T) {
	for name, want := range map[string]provenance.Facts{
		"github-attestation": {
			System: provenance.GitHub, Builder: "https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1", BuildType: trust.BuildTypeActions,
			Source: "https://github.com/aspect-build/rules_lint", Ref: "refs/heads/publish-to-bcr", Commit: "8f70009fde0c94ade6ce2a054b94718c819126ec",
			Invocation: "https://github.com/aspect-build/rules_lint/actions/runs/14095611671/attempts/1", Trigger: "workflow_dispatch", Runner: "github-hosted",
		},
		"npm": {
			System: provenance.GitHub, Builder: "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main", BuildType: trust.BuildTypeActionsOld,
			Source: "https://github.com/sigstore/sigstore-js", Ref: "refs/heads/main", Commit: "26d16513386ffaa790b1c32f927544f1322e4194",
			Invocation: "https://github.com/sigstore/sigstore-js/actions/runs/6014488666/attempts/1", Trigger: "push", Runner: "github-hosted",
		},
	} {
		if got := facts(t, load(t, name)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	const main = "refs/heads/publish-to-bcr"
	other := strings.Repeat("ab", 20)
	const workflow = `"ref":"refs/heads/publish-to-bcr","repository":"https://github.com/aspect-build/rules_lint","path":".github/workflows/release.yml"`
	bendAll(t, load(t, "github-attestation"), []bend{
		{name: "builder id", old: "publish.yaml@refs/tags/v0.0.1", new: "publish.yaml@refs/tags/v0.0.2", want: "builder id: the provenance says"},
		{name: "build type", old: "workflow/v1", new: "workflow/v2", want: "build type"},
		{name: "ref", old: `"ref":"` + main, new: `"ref":"refs/heads/main`, want: "ref: the provenance says"},
		{name: "source", old: `"repository":"https://github.com/aspect-build/rules_lint"`, new: `"repository":"https://github.com/aspect-build/rules_lints"`, want: "source: the provenance says"},
		{name: "workflow", old: "release.yml", new: "evil.yml", want: "workflow: the provenance says"},
		{name: "invocation", old: "attempts/1", new: "attempts/2", want: "invocation: the provenance says"},
		{name: "trigger", old: `"event_name":"workflow_dispatch"`, new: `"event_name":"pull_request"`, want: "trigger: the provenance says"},
		{name: "repository id", old: `"repository_id":"6317`, new: `"repository_id":"7317`, want: "repository id: the provenance says"},
		{name: "owner id", old: `"repository_owner_id":"60`, new: `"repository_owner_id":"61`, want: "owner id: the provenance says"},
		{name: "runner", old: "github-hosted", new: "self-hosted", want: "runner: the provenance says"},
		{name: "commit", old: `"gitCommit":"8f70`, new: `"gitCommit":"8f71`, want: "got commit"},
		{name: "two commits", old: `{"gitCommit":`, new: `{"sha1":"` + other + `","gitCommit":`, want: `got commit ""`},
		{name: "dependency of another ref", old: "rules_lint@" + main, new: "rules_lint@refs/heads/main", want: "not among the dependencies"},
		{name: "unknown parameter", old: `"workflow":{`, new: `"command":"x","workflow":{`, want: "external parameters"},
		{name: "known parameters", old: `"workflow":{`, new: `"inputs":{"dry":true},"vars":{},"workflow":{`},
		{name: "commit in certificate", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest, c.GithubWorkflowSHA = other, other }, want: "commit"},
		{name: "commit and its forerunner", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest = other }, want: "commit in the certificate"},
		{name: "ref and its forerunner", signer: func(c *certificate.Summary) { c.GithubWorkflowRef = "refs/heads/main" }, want: "ref in the certificate"},
		{name: "trigger and its forerunner", signer: func(c *certificate.Summary) { c.GithubWorkflowTrigger = "push" }, want: "trigger in the certificate"},
		{name: "repository and its forerunner", signer: func(c *certificate.Summary) { c.GithubWorkflowRepository = "aspect-build/evil" }, want: "source in the certificate"},
		{name: "no source", signer: func(c *certificate.Summary) { c.SourceRepositoryURI, c.GithubWorkflowRepository = "", "" }, want: "the certificate has none"},
		{name: "the forerunners alone", signer: func(c *certificate.Summary) {
			c.SourceRepositoryURI, c.SourceRepositoryRef, c.SourceRepositoryDigest, c.BuildTrigger = "", "", "", ""
		}},
		{name: "source on another host", signer: func(c *certificate.Summary) {
			c.SourceRepositoryURI, c.GithubWorkflowRepository = "https://github.com.example.com/a/b", ""
		}, want: "want a repository on https://github.com"},
		{name: "source respelled", signer: func(c *certificate.Summary) {
			c.SourceRepositoryURI, c.GithubWorkflowRepository = c.SourceRepositoryURI+".git", ""
		}, want: "want a repository on https://github.com"},
		{name: "owner", signer: func(c *certificate.Summary) { c.SourceRepositoryOwnerURI += "s" }, want: "owner: the certificate says"},
		{name: "run of another repository", signer: func(c *certificate.Summary) { c.RunInvocationURI = "https://github.com/a/b/actions/runs/1/attempts/1" }, want: "want a run of"},
		{name: "workflow of another commit", signer: func(c *certificate.Summary) { c.BuildConfigDigest = other }, want: "commit of the workflow: the certificate says"},
		{name: "signer of the other commit, shared", signer: func(c *certificate.Summary) { c.BuildSignerDigest = other }},
		{name: "another build signer", signer: func(c *certificate.Summary) { c.BuildSignerURI += "0" }, want: "build signer of the certificate"},
		{name: "another issuer", signer: func(c *certificate.Summary) { c.Issuer = "https://evil.example.com" }, want: "issuer of the signer's certificate"},
		{name: "issuer of an enterprise", signer: func(c *certificate.Summary) { c.Issuer += "/octo-corp" }},
		{name: "issuer below an enterprise", signer: func(c *certificate.Summary) { c.Issuer += "/octo-corp/x" }, want: "issuer of the signer's certificate"},
		{name: "signer pinned by commit", old: "publish.yaml@refs/tags/v0.0.1", new: "publish.yaml@" + other, signer: func(c *certificate.Summary) {
			c.SubjectAlternativeName = strings.Replace(c.SubjectAlternativeName, "refs/tags/v0.0.1", other, 1)
			c.BuildSignerURI = c.SubjectAlternativeName
		}},
		{name: "signer with a blank", old: "publish.yaml@refs/tags/v0.0.1", new: "my%20publish.yaml@refs/tags/v0.0.1", signer: func(c *certificate.Summary) {
			c.BuildSignerURI = strings.Replace(c.SubjectAlternativeName, "publish.yaml", "my publish.yaml", 1)
			c.SubjectAlternativeName = strings.Replace(c.SubjectAlternativeName, "publish.yaml", "my%20publish.yaml", 1)
		}},
		{name: "required workflow of another repository", old: workflow, new: `"ref":"refs/heads/main","repository":"https://github.com/aspect-build/rules_lint","path":"aspect-build/.github/.github/workflows/all.yml"`,
			signer: func(c *certificate.Summary) {
				c.BuildConfigURI = "https://github.com/aspect-build/.github/.github/workflows/all.yml@refs/heads/main"
			}},
		{name: "required workflow that did not run", old: workflow, new: `"ref":"refs/heads/main","repository":"https://github.com/aspect-build/rules_lint","path":"aspect-build/.github/.github/workflows/all.yml"`,
			want: "workflow: the provenance says"},
		{name: "signer without a ref", signer: func(c *certificate.Summary) {
			c.SubjectAlternativeName = strings.TrimSuffix(c.SubjectAlternativeName, "@refs/tags/v0.0.1")
		}, want: "want a workflow with its ref"},
	})
	bendAll(t, load(t, "npm"), []bend{
		{name: "npm's runner", old: "runner/github-hosted", new: "runner/self-hosted", want: "builder id: the provenance says"},
		{name: "signer of another commit", signer: func(c *certificate.Summary) { c.BuildSignerDigest = other }, want: "commit of the signer: the certificate says"},
	})
}

// TestInputs: what a run was started with by hand, where its builder writes it
// down; of a run that was started otherwise it would be somebody else's.
func TestInputs(t *testing.T) {
	s := load(t, "github-attestation")
	s.statement = strings.Replace(s.statement, `"workflow":{`, `"inputs":{"release":"v1","dry":false},"workflow":{`, 1)
	want := map[string]any{"release": "v1", "dry": false}
	if got := facts(t, s).Inputs; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s = load(t, "container-based")
	for payload, want := range map[string]map[string]any{
		`{"inputs":{"release":"v1","dry":false}`: want,
		`{"inputs":null`:                         nil,
		`{"inputs":"release"`:                    nil,
		`{"Inputs":{"release":"v1"}`:             nil,
	} {
		bent := s
		bent.statement = strings.Replace(s.statement, `"GITHUB_EVENT_PAYLOAD":{"inputs":null`, `"GITHUB_EVENT_PAYLOAD":`+payload, 1)
		if got := facts(t, bent).Inputs; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", payload, got, want)
		}
	}
	bent := s
	bent.statement = strings.Replace(s.statement, `"GITHUB_EVENT_PAYLOAD":{"inputs":null`, `"GITHUB_EVENT_PAYLOAD":{"inputs":{"release":"v1"}`, 1)
	bent.statement = strings.Replace(bent.statement, `"GITHUB_EVENT_NAME":"workflow_dispatch"`, `"GITHUB_EVENT_NAME":"push"`, 1)
	bent.signer.BuildTrigger, bent.signer.GithubWorkflowTrigger = "push", "push"
	if got := facts(t, bent).Inputs; got != nil {
		t.Errorf("started by a push: got %v, want none", got)
	}
}
