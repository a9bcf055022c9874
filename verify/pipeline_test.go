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

// The provenance of GitLab and Tekton is that of package provenance's tests, made
// after their documents and signed here. How it is read is tested there.

const (
	project  = "https://gitlab.com/group/sub/app"
	pipeline = project + "//.gitlab-ci.yml@refs/heads/main"
	jobURL   = project + "/-/jobs/4089072540"
)

func gitLabIdentity() prooftest.Identity {
	return prooftest.Identity{SAN: pipeline, Issuer: trust.GitLabIssuer, SourceURI: project, Commit: prooftest.Commit, Ref: "refs/heads/main",
		Invocation: jobURL, Extensions: map[int]string{9: pipeline, 18: pipeline, 11: "gitlab-hosted"}}
}

// predicateOf is the predicate of one of package provenance's statements, byte for byte.
func predicateOf(t *testing.T, name string) (predicateType, predicate string) {
	t.Helper()
	var st attest.Statement
	if err := json.Unmarshal(read(t, "../provenance/testdata/"+name+"/statement.json"), &st); err != nil {
		t.Fatal(err)
	}
	return st.PredicateType, string(st.Predicate)
}

// pipelineStage judges an image with one provenance, signed by id.
func pipelineStage(t *testing.T, id prooftest.Identity, predicateType, predicate string, p policy.Document) *verify.Verdict {
	t.Helper()
	s := newSignedStage(t)
	s.store.Attach(s.image, s.p.Sign(id, statement(t, s.image.Digest.Hex, predicateType, json.RawMessage(predicate))), predicateType)
	return s.verdict(p)
}

func TestGitLab(t *testing.T) {
	for _, name := range []string{"gitlab", "gitlab-runner-v1", "gitlab-runner-v0.2"} {
		kind, predicate := predicateOf(t, name)
		for what, p := range map[string]policy.Document{
			"source": {Source: "gitlab.com/group/sub/app"}, "ref": {Source: project, Ref: "main"}, "commit": {Source: project, Commit: prooftest.Commit},
			"level": {Source: project, MinLevel: 2}, "builder": {AnySource: true, Builders: []string{pipeline}},
			"signer": {Source: project, Signer: &policy.DocumentSigner{Identity: pipeline, Issuer: trust.GitLabIssuer}},
		} {
			v := pipelineStage(t, gitLabIdentity(), kind, predicate, p)
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
			if v := pipelineStage(t, gitLabIdentity(), kind, predicate, p); v.Outcome != verify.Rejected {
				t.Errorf("%s, %s: got %+v, want it rejected", name, what, v)
			}
		}
		// Its SBOMs are not read, so their contents are never decided.
		if v := pipelineStage(t, gitLabIdentity(), kind, predicate, policy.Document{Source: project, Contents: true}); v.Outcome != verify.Undecided || link(t, v, verify.LinkSBOM).Status != verify.NotAsked {
			t.Errorf("%s, contents: got %+v, want it undecided", name, v)
		}
		// The provenance is held to the certificate.
		for _, bend := range [][2]string{{prooftest.Commit, strings.Repeat("ab", 20)}, {"/-/runners/12270831", "/-/runners/12270831/x"}, {"4089072540", "4089072541"}} {
			bent := strings.Replace(predicate, bend[0], bend[1], 1)
			if v := pipelineStage(t, gitLabIdentity(), kind, bent, policy.Document{Source: project}); v.Outcome != verify.Rejected || bent == predicate {
				t.Errorf("%s, %s for %s: got %+v, want it rejected", name, bend[1], bend[0], v)
			}
		}
	}
	_, gitLab1 := predicateOf(t, "gitlab")
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
		return verify.Image(context.Background(), s.store, "v1", time.Now(), verify.Options{Policy: demanded(t, p), Trust: s.roots()})
	}
	same := func(*policy.Document) {}
	for _, name := range []string{"tekton-v0.2", "tekton-v1"} {
		kind, predicate := predicateOf(t, name)
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
		two := strings.Replace(predicate, `{"sha1":"`+prooftest.Commit+`"}}`,
			`{"sha1":"`+prooftest.Commit+`"}},{"name":"inputs/result","uri":"git+https://git.example.com/team/other.git","digest":{"sha1":"2222222222222222222222222222222222222222"}}`, 1)
		if v := judge(kind, two, same); v.Outcome != verify.Rejected || !strings.Contains(v.Why(), "inputs: got 2, want 1") {
			t.Errorf("%s, two sources: got %+v, want it rejected", kind, v)
		}
		// Another builder may be named, and is trusted for no level.
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
	_, tekton1 := predicateOf(t, "tekton-v1")
	// A workflow's certificate says what it built, so that it cannot sign as Tekton.
	workflow := prooftest.Identity{SAN: "https://github.com/team/app/.github/workflows/release.yml@" + prooftest.Ref, Issuer: trust.GitHubIssuer,
		SourceURI: "https://github.com/team/app", Commit: prooftest.Commit, Ref: prooftest.Ref}
	by := policy.Document{Source: prooftest.Source, Signer: &policy.DocumentSigner{Identity: workflow.SAN, Issuer: workflow.Issuer}}
	if v := pipelineStage(t, workflow, attest.PredicateSLSA1, tekton1, by); v.Outcome != verify.Rejected || !strings.Contains(v.Why(), "build type") {
		t.Errorf("signed by a workflow: got %+v, want it rejected", v)
	}
	// Keyless, by the account that Chains runs as.
	account := prooftest.Identity{SAN: "https://kubernetes.io/namespaces/tekton-chains/serviceaccounts/tekton-chains-controller", Issuer: "https://kubernetes.default.svc"}
	by = policy.Document{Source: prooftest.Source, MinLevel: 2, Signer: &policy.DocumentSigner{Identity: account.SAN, Issuer: account.Issuer}}
	if v := pipelineStage(t, account, attest.PredicateSLSA1, tekton1, by); v.Outcome != verify.Accepted {
		t.Errorf("keyless: got %+v", v)
	}
	if v := pipelineStage(t, account, attest.PredicateSLSA1, tekton1, policy.Document{Source: prooftest.Source}); v.Outcome != verify.Rejected {
		t.Errorf("keyless, and nobody named the account: got %+v", v)
	}
}

// TestPipelineBuildSigner: name, build signer and build configuration of a pipeline's
// certificate are one.
func TestPipelineBuildSigner(t *testing.T) {
	kind, predicate := predicateOf(t, "gitlab")
	for _, extension := range []int{9, 18} {
		for _, other := range []string{strings.Replace(pipeline, "main", "other", 1), ""} {
			id := gitLabIdentity()
			id.Extensions[extension] = other
			if v := pipelineStage(t, id, kind, predicate, policy.Document{Source: project}); v.Outcome != verify.Rejected {
				t.Errorf("extension %d is %q: got %+v, want it rejected", extension, other, v)
			}
		}
	}
}
