package provenance_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

const (
	project  = "https://gitlab.com/group/sub/app"
	pipeline = project + "//.gitlab-ci.yml@refs/heads/main"
	commit   = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
)

// pipelineCertificate is what GitLab's certificates say.
func pipelineCertificate() certificate.Summary {
	return certificate.Summary{SubjectAlternativeName: pipeline, Extensions: certificate.Extensions{
		Issuer: trust.GitLabIssuer, BuildSignerURI: pipeline, BuildConfigURI: pipeline, RunnerEnvironment: "gitlab-hosted",
		SourceRepositoryURI: project, SourceRepositoryRef: "refs/heads/main", SourceRepositoryDigest: commit, RunInvocationURI: project + "/-/jobs/4089072540"}}
}

func TestGitLab(t *testing.T) {
	other := strings.Repeat("ab", 20)
	types := map[string]string{
		"gitlab":             "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1",
		"gitlab-runner-v1":   "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v17.2.0/PROVENANCE.md",
		"gitlab-runner-v0.2": "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/598a7c91/PROVENANCE.md",
	}
	for name, buildType := range types {
		s := load(t, name)
		// Signed by a key, only the job itself says anything.
		want := provenance.Facts{System: provenance.GitLab, Builder: project + "/-/runners/12270831", BuildType: buildType, Source: project, Commit: commit}
		if name != "gitlab-runner-v0.2" {
			want.Invocation = "4089072540"
		}
		if got := facts(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, by a key: got %+v, want %+v", name, got, want)
		}
		s.signer = pipelineCertificate()
		want.Builder, want.Ref, want.Invocation, want.Runner = pipeline, "refs/heads/main", project+"/-/jobs/4089072540", "gitlab-hosted"
		if got := facts(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		var bends []bend
		for _, b := range []bend{
			{old: commit, new: other, want: "commit"},
			{old: `"source":"` + project, new: `"source":"` + project + "2", want: "builder id"},
			{old: "/-/runners/12270831", new: "/-/runners/12270831/x", want: "/-/runners/NUMBER"},
			{old: `"job":4089072540`, new: `"job":4089072541`, want: "job: the provenance says"},
			{old: `"job":"4089072540"`, new: `"job":"4089072541"`, want: "job: the provenance says"},
			{old: `"job":4089072540`, new: `"job":"a/../4089072540"`, want: "want a number"},
			{old: `"invocationId":"4089072540"`, new: `"invocationId":"1"`, want: "job: the provenance says"},
			{old: `{"id":4089072540}`, new: `{"id":4089072541}`, want: "job: the provenance says"},
			{old: "PROVENANCE.md", new: "PROVENANCE.md?x", want: "build type"},
			{old: "pipeline_security", new: "pipeline-security", want: "build type"},
			{old: `"id":"https://gitlab.com/group`, new: `"id":"https://gitlab.com/other`, want: "builder id"},
			{old: `"configSource":{"uri":"` + project, new: `"configSource":{"uri":"` + project + "2", want: "builder id"},
			{old: `"uri":"` + project, new: `"uri":"` + project + ".git", want: ""},
		} {
			if !strings.Contains(s.statement, b.old) {
				continue // of another form
			}
			if b.name = b.new; b.want == "" {
				if b.want = "dependency " + project; name == "gitlab-runner-v0.2" {
					b.want = "canonical"
				}
			}
			bends = append(bends, b)
		}
		if len(bends) < 6 {
			t.Errorf("%s: got %d bends, want at least 6", name, len(bends))
		}
		bendAll(t, s, bends)
	}
	s := load(t, "gitlab")
	s.signer = pipelineCertificate()
	bendAll(t, s, []bend{
		{name: "self-hosted", signer: func(c *certificate.Summary) { c.RunnerEnvironment = "self-hosted" }},
		{name: "no runner", signer: func(c *certificate.Summary) { c.RunnerEnvironment = "" }, want: "runner: the certificate has none"},
		{name: "another issuer", signer: func(c *certificate.Summary) { c.Issuer = "https://gitlab.example.com" }, want: "issuer of the signer's certificate"},
		{name: "another's project", signer: func(c *certificate.Summary) { c.SourceRepositoryURI = "https://gitlab.com/group/sub/other" }, want: "source: the provenance says"},
		{name: "project on another host", signer: func(c *certificate.Summary) { c.SourceRepositoryURI = "https://gitlab.example.com/group/sub/app" }, want: "want a project on"},
		{name: "project respelled", signer: func(c *certificate.Summary) { c.SourceRepositoryURI += ".git" }, want: "want a project on"},
		{name: "another build signer", signer: func(c *certificate.Summary) { c.BuildSignerURI += "2" }, want: "build signer of the certificate"},
		{name: "another configuration", signer: func(c *certificate.Summary) { c.BuildConfigURI = "" }, want: "build configuration of the certificate"},
		{name: "another commit", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest = other }, want: "commit: the provenance says"},
		{name: "another job", signer: func(c *certificate.Summary) { c.RunInvocationURI = project + "/-/jobs/1" }, want: "job: the provenance says"},
		{name: "no ref", signer: func(c *certificate.Summary) { c.SourceRepositoryRef = "" }, want: "ref: the certificate has none"},
	})
}
