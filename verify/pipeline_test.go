package verify_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// The provenance below is made after the documents of GitLab
// (docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1, and PROVENANCE.md of
// its runner) and Tekton Chains (docs/slsa-provenance.md), and signed here: none
// of it was captured from either.

const (
	project  = "https://gitlab.com/group/sub/app"
	pipeline = project + "//.gitlab-ci.yml@refs/heads/main"
	jobURL   = project + "/-/jobs/4089072540"
)

func gitLabIdentity() prooftest.Identity {
	return prooftest.Identity{SAN: pipeline, Issuer: trust.GitLabIssuer, SourceURI: project, Commit: prooftest.Commit, Ref: "refs/heads/main",
		Invocation: jobURL, Extensions: map[int]string{9: pipeline, 18: pipeline, 11: "gitlab-hosted"}}
}

// gitLab1 is what GitLab itself and the runner of today write.
const gitLab1 = `{"buildDefinition":{"buildType":"https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1",
"externalParameters":{"source":"` + project + `","entryPoint":"build-job","variables":{"CI":"true","TOKEN":"[MASKED]"}},
"internalParameters":{"architecture":"amd64","executor":"docker+machine","job":4089072540,"name":"green-1.shared"},
"resolvedDependencies":[{"uri":"` + project + `","digest":{"gitCommit":"` + prooftest.Commit + `"}}]},
"runDetails":{"builder":{"id":"` + project + `/-/runners/12270831","version":{"gitlab-runner":"12030cf4"}},
"metadata":{"invocationId":"4089072540","startedOn":"2026-01-02T03:04:05Z","finishedOn":"2026-01-02T03:05:05Z"}}}`

// gitLab02 is what runners before version 16 wrote, and gitLabRunner1 those after.
const (
	gitLab02 = `{"buildType":"https://gitlab.com/gitlab-org/gitlab-runner/-/blob/598a7c91/PROVENANCE.md",
"builder":{"id":"` + project + `/-/runners/12270831"},
"invocation":{"configSource":{"uri":"` + project + `","digest":{"sha256":"` + prooftest.Commit + `"},"entryPoint":"build-job"},
"environment":{"name":"blue-2","executor":"docker+machine","architecture":"amd64","job":{"id":4089072540}},"parameters":{"CI":""}},
"metadata":{"buildStartedOn":"2026-01-02T03:04:05Z","reproducible":false},"materials":[]}`
	gitLabRunner1 = `{"buildDefinition":{"buildType":"https://gitlab.com/gitlab-org/gitlab-runner/-/blob/v17.2.0/PROVENANCE.md",
"externalParameters":{"CI":"","entryPoint":"build-job","source":"` + project + `"},
"internalParameters":{"architecture":"amd64","executor":"docker+machine","job":"4089072540","name":"blue-2"},
"resolvedDependencies":[{"uri":"` + project + `","digest":{"sha256":"` + prooftest.Commit + `"}}]},
"runDetails":{"builder":{"id":"` + project + `/-/runners/12270831"},"metadata":{"invocationId":"4089072540"}}}`
)

// pipelineStage judges an image with one provenance, signed by id.
func pipelineStage(t *testing.T, id prooftest.Identity, predicateType, predicate string, p policy.Document) *verify.Verdict {
	t.Helper()
	s := newSignedStage(t)
	s.store.Attach(s.image, s.p.Sign(id, statement(t, s.image.Digest.Hex, predicateType, json.RawMessage(predicate))), predicateType)
	return s.verdict(p)
}

func TestGitLab(t *testing.T) {
	for name, tt := range map[string]struct{ kind, predicate string }{
		"GitLab": {attest.PredicateSLSA1, gitLab1}, "runner, v1": {attest.PredicateSLSA1, gitLabRunner1}, "runner, v0.2": {attest.PredicateSLSA02, gitLab02},
	} {
		for what, p := range map[string]policy.Document{
			"source": {Source: "gitlab.com/group/sub/app"}, "ref": {Source: project, Ref: "main"}, "commit": {Source: project, Commit: prooftest.Commit},
			"level": {Source: project, MinLevel: 2}, "builder": {AnySource: true, Builders: []string{pipeline}},
			"signer": {Source: project, Signer: &policy.DocumentSigner{Identity: pipeline, Issuer: trust.GitLabIssuer}},
		} {
			v := pipelineStage(t, gitLabIdentity(), tt.kind, tt.predicate, p)
			if v.Outcome != verify.Accepted || !strings.Contains(link(t, v, verify.LinkProvenance).Claim, "gitlab.com/group/sub/app@381e42a, refs/heads/main; Build L2") {
				t.Errorf("%s, %s: got %+v", name, what, v)
			}
		}
		for what, p := range map[string]policy.Document{
			"a character more": {Source: project + "s"}, "the group": {Source: "https://gitlab.com/group/sub"}, "another host": {Source: "https://gitlab.com.example.com/group/sub/app"},
			"another ref": {Source: project, Ref: "refs/tags/main"}, "another commit": {Source: project, Commit: strings.Repeat("ab", 20)}, "any source": {AnySource: true},
			"level 3": {Source: project, MinLevel: 3}, "another builder": {Source: project, Builders: []string{strings.Replace(pipeline, "main", "dev", 1)}},
			"another signer": {Source: project, Signer: &policy.DocumentSigner{Identity: pipeline + "x", Issuer: trust.GitLabIssuer}},
			"another issuer": {Source: project, Signer: &policy.DocumentSigner{Identity: pipeline, Issuer: "https://gitlab.example.com"}},
		} {
			if v := pipelineStage(t, gitLabIdentity(), tt.kind, tt.predicate, p); v.Outcome != verify.Rejected {
				t.Errorf("%s, %s: got %+v, want it rejected", name, what, v)
			}
		}
		// The provenance is held to the certificate.
		for _, bend := range [][2]string{
			{prooftest.Commit, strings.Repeat("ab", 20)}, {`"source":"` + project, `"source":"` + project + "2"}, {"/-/runners/12270831", "/-/runners/12270831/x"},
			{`"job":4089072540`, `"job":4089072541`}, {`"invocationId":"4089072540"`, `"invocationId":"1"`}, {`{"id":4089072540}`, `{"id":4089072541}`},
			{"PROVENANCE.md", "PROVENANCE.md?x"}, {"pipeline_security", "pipeline-security"}, {`"id":"https://gitlab.com/group`, `"id":"https://gitlab.com/other`},
			{`"configSource":{"uri":"` + project, `"configSource":{"uri":"` + project + "2"}, {`"uri":"` + project, `"uri":"` + project + ".git"},
		} {
			bent := strings.Replace(tt.predicate, bend[0], bend[1], 1)
			if bent == tt.predicate {
				continue // of another version
			}
			if v := pipelineStage(t, gitLabIdentity(), tt.kind, bent, policy.Document{Source: project}); v.Outcome != verify.Rejected {
				t.Errorf("%s, %s for %s: got %+v, want it rejected", name, bend[1], bend[0], v)
			}
		}
	}
	for name, tt := range map[string]struct {
		bend func(*prooftest.Identity)
		want string // level, or empty for a rejection
	}{
		"self-hosted":       {func(id *prooftest.Identity) { id.Extensions[11] = "self-hosted" }, "Build L1"},
		"unknown runner":    {func(id *prooftest.Identity) { id.Extensions[11] = "" }, ""},
		"another issuer":    {func(id *prooftest.Identity) { id.Issuer = "https://gitlab.example.com" }, ""},
		"another's project": {func(id *prooftest.Identity) { id.SourceURI = "https://gitlab.com/group/sub/other" }, ""},
		"another pipeline": {func(id *prooftest.Identity) {
			id.SAN = "https://gitlab.com/group/other//.gitlab-ci.yml@refs/heads/main"
			id.Extensions[9], id.Extensions[18] = id.SAN, id.SAN
		}, ""},
		"pipeline of another ref": {func(id *prooftest.Identity) {
			id.SAN = project + "//.gitlab-ci.yml@refs/heads/dev"
			id.Extensions[9], id.Extensions[18] = id.SAN, id.SAN
		}, ""},
		"another build signer": {func(id *prooftest.Identity) { id.Extensions[9] = pipeline + "2" }, ""},
		"another commit":       {func(id *prooftest.Identity) { id.Commit = strings.Repeat("ab", 20) }, ""},
		"another job":          {func(id *prooftest.Identity) { id.Invocation = project + "/-/jobs/1" }, ""},
		"no ref":               {func(id *prooftest.Identity) { id.Ref = "" }, ""},
		"GitHub's issuer":      {func(id *prooftest.Identity) { id.Issuer = trust.GitHubIssuer }, ""},
	} {
		id := gitLabIdentity()
		tt.bend(&id)
		v := pipelineStage(t, id, attest.PredicateSLSA1, gitLab1, policy.Document{Source: project})
		if tt.want == "" && v.Outcome != verify.Rejected || tt.want != "" && (v.Outcome != verify.Accepted || !strings.Contains(link(t, v, verify.LinkProvenance).Claim, tt.want)) {
			t.Errorf("%s: got %+v, want %q", name, v, tt.want)
		}
	}
}

// Tekton Chains, slsa/v1 of a PipelineRun and slsa/v2alpha3 of a TaskRun.
const (
	tekton02 = `{"buildType":"tekton.dev/v1beta1/PipelineRun","builder":{"id":"https://tekton.dev/chains/v2"},
"invocation":{"configSource":{"uri":"git+https://git.example.com/team/pipelines.git","digest":{"sha1":"1111111111111111111111111111111111111111"},"entryPoint":"build.yaml"},
"parameters":{"url":"https://git.example.com/team/app"},"environment":{"labels":{"tekton.dev/pipeline":"build"}}},
"buildConfig":{"tasks":[{"name":"build"}]},"metadata":{"buildStartedOn":"2026-01-02T03:04:05Z","completeness":{"parameters":false}},
"materials":[{"uri":"oci://gcr.io/tekton/git-init","digest":{"sha256":"28ff94e63e4058afc3f15b4c11c08cf3b54fa91faa646a4bbac90380cd7158df"}},
{"uri":"git+https://git.example.com/team/pipelines.git","digest":{"sha1":"1111111111111111111111111111111111111111"}},
{"uri":"git+https://git.example.com/team/app.git","digest":{"sha1":"` + prooftest.Commit + `"}}]}`
	tekton1 = `{"buildDefinition":{"buildType":"https://tekton.dev/chains/v2/slsa","externalParameters":{"runSpec":{"params":[]}},"internalParameters":{"tekton-pipelines-feature-flags":{}},
"resolvedDependencies":[{"name":"task","uri":"git+https://git.example.com/team/tasks.git","digest":{"sha1":"1111111111111111111111111111111111111111"}},
{"uri":"oci://gcr.io/tekton/git-init","digest":{"sha256":"28ff94e63e4058afc3f15b4c11c08cf3b54fa91faa646a4bbac90380cd7158df"}},
{"name":"inputs/result","uri":"git+https://git.example.com/team/app.git","digest":{"sha1":"` + prooftest.Commit + `"}}]},
"runDetails":{"builder":{"id":"https://tekton.dev/chains/v2"},"metadata":{"invocationId":"a0f3c0de-uid","startedOn":"2026-01-02T03:04:05Z"}}}`
)

// TestTekton: signed by Chains' key, without a log, under cosign v2's tag, as it
// does unless told otherwise.
func TestTekton(t *testing.T) {
	judge := func(kind, predicate string, change func(*policy.Document)) *verify.Verdict {
		s := newSignedStage(t)
		h := s.p.KeyHolder()
		h.Unlogged = true
		envelope, annotations := h.Envelope(statement(t, s.image.Digest.Hex, kind, json.RawMessage(predicate)))
		s.store.Tagged(s.image, "att", s.store.Layer(envelope, attest.EnvelopeMediaType, annotations))
		p := policy.Document{Source: prooftest.Source, Signer: &policy.DocumentSigner{Key: string(h.PublicKey()), InsecureNoLog: true}}
		change(&p)
		return verify.Image(context.Background(), s.store, "v1", verify.Options{Policy: demanded(t, p), Now: time.Now(), Trust: s.roots()})
	}
	same := func(*policy.Document) {}
	for kind, predicate := range map[string]string{attest.PredicateSLSA02: tekton02, attest.PredicateSLSA1: tekton1} {
		v := judge(kind, predicate, same)
		if v.Outcome != verify.Accepted || !strings.Contains(link(t, v, verify.LinkProvenance).Claim, "git.example.com/team/app@381e42a, no ref; Build L1") {
			t.Errorf("%s: got %+v", kind, v)
		}
		for name, change := range map[string]func(*policy.Document){
			"another source":          func(p *policy.Document) { p.Source += "s" },
			"the pipeline's source":   func(p *policy.Document) { p.Source = "git.example.com/team/pipelines" },
			"the task's source":       func(p *policy.Document) { p.Source = "git.example.com/team/tasks" },
			"a ref, which it has not": func(p *policy.Document) { p.Ref = "main" },
			"another commit":          func(p *policy.Document) { p.Commit = strings.Repeat("ab", 20) },
			"another builder":         func(p *policy.Document) { p.Builders = []string{"https://tekton.example.com/chains"} },
			"level 3":                 func(p *policy.Document) { p.MinLevel = 3 },
			"a log":                   func(p *policy.Document) { p.Signer.InsecureNoLog = false },
			"an identity":             func(p *policy.Document) { p.Signer = &byAda },
		} {
			if v := judge(kind, predicate, change); v.Outcome != verify.Rejected {
				t.Errorf("%s, %s: got %+v, want it rejected", kind, name, v)
			}
		}
		if v := judge(kind, predicate, func(p *policy.Document) { p.Builders, p.Commit = []string{trust.TektonBuilder}, prooftest.Commit }); v.Outcome != verify.Accepted {
			t.Errorf("%s, builder and commit: got %+v", kind, v)
		}
		for _, bend := range [][2]string{
			// Two repositories went in, and nobody says which is the source.
			{`{"sha1":"` + prooftest.Commit + `"}}`, `{"sha1":"` + prooftest.Commit + `"}},{"name":"inputs/result","uri":"git+https://git.example.com/team/other.git","digest":{"sha1":"2222222222222222222222222222222222222222"}}`},
			{`"sha1":"` + prooftest.Commit, `"sha1":"main`}, {"tekton.dev/v1beta1/PipelineRun", "tekton.dev/v1beta1/CustomRun"}, {"chains/v2/slsa", "chains/v2/other"},
			{"git+https://git.example.com/team/app.git", "https://git.example.com/team/app"},
		} {
			bent := strings.Replace(predicate, bend[0], bend[1], 1)
			if bent == predicate {
				continue // of another version
			}
			if v := judge(kind, bent, same); v.Outcome != verify.Rejected {
				t.Errorf("%s, %s for %s: got %+v, want it rejected", kind, bend[1], bend[0], v)
			}
		}
		// Another builder may be named, and is believed for no level.
		bent := strings.Replace(predicate, `"id":"`+trust.TektonBuilder, `"id":"https://tekton.example.com/chains`, 1)
		own := func(level int) func(*policy.Document) {
			return func(p *policy.Document) {
				p.Builders, p.MinLevel = []string{"https://tekton.example.com/chains"}, level
			}
		}
		if v := judge(kind, bent, own(0)); v.Outcome != verify.Accepted {
			t.Errorf("%s, a builder of one's own: got %+v", kind, v)
		}
		if v := judge(kind, bent, own(1)); v.Outcome != verify.Rejected {
			t.Errorf("%s, a builder of one's own at level 1: got %+v", kind, v)
		}
	}
	// Keyless, by the account that Chains runs as.
	account := prooftest.Identity{SAN: "https://kubernetes.io/namespaces/tekton-chains/serviceaccounts/tekton-chains-controller", Issuer: "https://kubernetes.default.svc"}
	by := policy.Document{Source: prooftest.Source, MinLevel: 2, Signer: &policy.DocumentSigner{Identity: account.SAN, Issuer: account.Issuer}}
	if v := pipelineStage(t, account, attest.PredicateSLSA1, tekton1, by); v.Outcome != verify.Accepted {
		t.Errorf("keyless: got %+v", v)
	}
	if v := pipelineStage(t, account, attest.PredicateSLSA1, tekton1, policy.Document{Source: prooftest.Source}); v.Outcome != verify.Rejected {
		t.Errorf("keyless, and nobody named the account: got %+v", v)
	}
}
