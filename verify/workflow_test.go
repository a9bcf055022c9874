package verify_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// workflow is an image that a GitHub workflow attested, under a root of ours:
// what the real data cannot be bent to.
type workflow struct {
	t         *testing.T
	p         *prooftest.Platform
	s         *prooftest.Store
	r         *prooftest.Release
	demand    policy.Document
	predicate map[string]any
}

func newWorkflow(t *testing.T) *workflow {
	w := &workflow{t: t, p: prooftest.New(t), s: prooftest.NewStore(t), demand: policy.Document{Source: "github.com/team/app"}}
	w.r = w.p.Release(w.s)
	w.r.Identity = prooftest.Identity{
		SAN: "https://github.com/team/app/.github/workflows/release.yml@" + prooftest.Ref, Issuer: trust.GitHubIssuer,
		SourceURI: "https://github.com/team/app", Commit: prooftest.Commit, Ref: prooftest.Ref,
		Invocation: "https://github.com/team/app/actions/runs/7/attempts/1",
	}
	w.predicate = map[string]any{
		"buildDefinition": map[string]any{
			"buildType":            trust.BuildTypeActions,
			"externalParameters":   map[string]any{"workflow": map[string]any{"ref": prooftest.Ref, "repository": "https://github.com/team/app", "path": ".github/workflows/release.yml"}},
			"resolvedDependencies": []any{map[string]any{"uri": "git+https://github.com/team/app@" + prooftest.Ref, "digest": map[string]any{"gitCommit": prooftest.Commit}}},
		},
		"runDetails": map[string]any{
			"builder":  map[string]any{"id": w.r.Identity.SAN},
			"metadata": map[string]any{"invocationId": w.r.Identity.Invocation},
		},
	}
	return w
}

// at leads to the member of nested objects that a path names.
func (w *workflow) at(path ...string) map[string]any {
	m := w.predicate
	for _, name := range path {
		m = m[name].(map[string]any)
	}
	return m
}

func (w *workflow) verdict() *verify.Verdict {
	w.t.Helper()
	st, err := attest.NewStatement("app", w.r.Image.Digest.Hex, attest.PredicateSLSA1, w.predicate)
	if err != nil {
		w.t.Fatal(err)
	}
	w.r.AttachBundle(attest.PredicateSLSA1, w.p.Sign(w.r.Identity, st))
	return verify.Image(context.Background(), w.s, "v1.2.0", time.Now(), verify.Options{Trust: []*trust.Root{w.p.PlainRoot(trust.GitHubIssuer)}, Policy: demanded(w.t, w.demand)})
}

// signedBy has certificate and provenance name another workflow.
func (w *workflow) signedBy(san string) {
	w.r.Identity.SAN = san
	w.at("runDetails", "builder")["id"] = san
}

// want fails unless the image is accepted, or rejected for the reason given.
func (w *workflow) want(reason string) {
	w.t.Helper()
	want := verify.Rejected
	if reason == "" {
		want = verify.Accepted
	}
	if v := w.verdict(); v.Outcome != want || !strings.Contains(v.Why(), reason) {
		w.t.Errorf("got %s, %q, want %s, %q", v.Outcome, v.Why(), want, reason)
	}
}

const shared = "https://github.com/org/shared/.github/workflows/build.yml"

// bentWorkflow is a workflow with one thing changed, and why it is rejected.
type bentWorkflow struct {
	bend   func(*workflow)
	reason string // empty: accepted
}

func judgeWorkflows(t *testing.T, all map[string]bentWorkflow) {
	for name, tt := range all {
		t.Run(name, func(t *testing.T) {
			w := newWorkflow(t)
			tt.bend(w)
			w.want(tt.reason)
		})
	}
}

// TestWorkflowSigner: who may sign for whom.
func TestWorkflowSigner(t *testing.T) {
	judgeWorkflows(t, map[string]bentWorkflow{
		"the repository's own": {func(*workflow) {}, ""},
		"level 2":              {func(w *workflow) { w.demand.MinLevel = 2 }, ""},
		"level 3":              {func(w *workflow) { w.demand.MinLevel = 3 }, "got 2, want at least 3"},
		"any source":           {func(w *workflow) { w.demand = policy.Document{AnySource: true} }, "say which one to accept"},
		"own at another ref": {func(w *workflow) {
			w.signedBy("https://github.com/team/app/.github/workflows/release.yml@refs/heads/evil")
		}, "want the ref that was built"},
		"shared":              {func(w *workflow) { w.signedBy(shared + "@refs/tags/v1.0.0") }, "say which one to accept"},
		"shared, demanded":    {func(w *workflow) { w.signedBy(shared + "@refs/tags/v1.0.0"); w.demand.Builders = []string{shared} }, ""},
		"shared, of a branch": {func(w *workflow) { w.signedBy(shared + "@refs/heads/main"); w.demand.Builders = []string{shared} }, "want a version tag"},
		"shared, branch named": {func(w *workflow) {
			w.signedBy(shared + "@refs/heads/main")
			w.demand.Builders = []string{shared + "@refs/heads/main"}
		}, ""},
		"shared, a prefix": {func(w *workflow) {
			w.signedBy(shared + "@refs/tags/v1.0.0")
			w.demand.Builders = []string{"https://github.com/org/shared/.github/workflows/b.yml"}
		}, "want one of"},
		"generator of a branch": {func(w *workflow) { w.signedBy(generator + "@refs/heads/main") }, "want a version tag"},
		"generator, other type": {func(w *workflow) { w.signedBy(generator + "@refs/tags/v1.7.0") }, "build type"},
		"generator, look-alike": {func(w *workflow) {
			w.signedBy(strings.Replace(generator, "slsa-framework", "slsa-framevvork", 1) + "@refs/tags/v1.7.0")
		}, "say which one to accept"},
		"another issuer": {func(w *workflow) { w.r.Identity.Issuer = "https://evil.example.com" }, "issuer of the signer's certificate"},
	})
}

// TestWorkflowAgrees: certificate, provenance and demand must say the same.
func TestWorkflowAgrees(t *testing.T) {
	judgeWorkflows(t, map[string]bentWorkflow{
		"builder id": {func(w *workflow) { w.at("runDetails", "builder")["id"] = generator + "@refs/tags/v1.7.0" }, "builder id: the provenance says"},
		"another ref": {func(w *workflow) {
			w.at("buildDefinition", "externalParameters", "workflow")["ref"] = "refs/heads/main"
		}, "ref: the provenance says"},
		"another repository": {func(w *workflow) {
			w.at("buildDefinition", "externalParameters", "workflow")["repository"] = "https://github.com/team/apps"
		}, "source: the provenance says"},
		"another run":           {func(w *workflow) { w.at("runDetails", "metadata")["invocationId"] = "x" }, "invocation: the provenance says"},
		"no run":                {func(w *workflow) { delete(w.at("runDetails", "metadata"), "invocationId") }, "invocation: the provenance says"},
		"unknown parameter":     {func(w *workflow) { w.at("buildDefinition", "externalParameters")["command"] = "x" }, "external parameters"},
		"no dependency":         {func(w *workflow) { delete(w.at("buildDefinition"), "resolvedDependencies") }, "not among the dependencies"},
		"commit in certificate": {func(w *workflow) { w.r.Identity.Commit = strings.Repeat("ab", 20) }, "got commit"},
		"source in certificate": {func(w *workflow) {
			w.r.Identity.SourceURI = "https://github.com/team/evil"
			w.r.Identity.Invocation = "https://github.com/team/evil/actions/runs/7/attempts/1"
		}, "say which one to accept"},
		"run of another repository": {func(w *workflow) { w.r.Identity.Invocation = "https://github.com/team/apps/actions/runs/7/attempts/1" }, "want a run of https://github.com/team/app"},
		"owner":                     {extension(16, "https://github.com/team"), ""},
		"another owner":             {extension(16, "https://github.com/teams"), "owner: the certificate says"},
		"commit of the signer":      {extension(10, prooftest.Commit), ""},
		"signer of another commit":  {extension(10, strings.Repeat("ab", 20)), "commit of the signer: the certificate says"},
		"signer of the other commit, shared": {func(w *workflow) {
			w.signedBy(shared + "@refs/tags/v1.0.0")
			w.demand.Builders = []string{shared}
			extension(10, strings.Repeat("ab", 20))(w)
		}, ""},
		"workflow of the commit": {func(w *workflow) {
			extension(18, "https://github.com/team/app/.github/workflows/release.yml@"+prooftest.Ref)(w)
			extension(19, prooftest.Commit)(w)
		}, ""},
		"workflow of another commit": {func(w *workflow) {
			extension(18, "https://github.com/team/app/.github/workflows/release.yml@"+prooftest.Ref)(w)
			extension(19, strings.Repeat("ab", 20))(w)
		}, "commit of the workflow: the certificate says"},
		"another workflow":      {extension(18, "https://github.com/team/app/.github/workflows/evil.yml@"+prooftest.Ref), "workflow: the provenance says"},
		"repository id":         {ids("7", "9", "7", "9"), ""},
		"another repository id": {ids("7", "9", "8", "9"), "repository id: the provenance says"},
		"another owner id":      {ids("7", "9", "7", "8"), "owner id: the provenance says"},
		"trigger": {func(w *workflow) {
			extension(20, "push")(w)
			w.at("buildDefinition")["internalParameters"] = map[string]any{"github": map[string]any{"event_name": "pull_request"}}
		}, "trigger: the provenance says"},
		"version":                        {func(w *workflow) { w.demand.Version = "v1.2" }, ""},
		"another version":                {func(w *workflow) { w.demand.Version = "v1.20" }, `version: got "v1.2.0", want "v1.20"`},
		"inputs that nothing is said of": {func(w *workflow) { w.demand.WorkflowInputs = map[string]string{"dry": "false"} }, "the provenance has none"},
		"no source":                      {func(w *workflow) { w.r.Identity.SourceURI = "" }, "the certificate has none"},
		"source on another host":         {func(w *workflow) { w.r.Identity.SourceURI = "https://github.com.example.com/team/app" }, "want a repository on https://github.com"},
		"no ref of the signer":           {func(w *workflow) { w.signedBy("https://github.com/team/app/.github/workflows/release.yml") }, "want a workflow with its ref"},
	})
}

// extension puts one of Fulcio's into the certificate (1.3.6.1.4.1.57264.1.N).
func extension(n int, value string) func(*workflow) {
	return func(w *workflow) {
		if w.r.Identity.Extensions == nil {
			w.r.Identity.Extensions = map[int]string{}
		}
		w.r.Identity.Extensions[n] = value
	}
}

// ids are of repository and owner, in the certificate and in the provenance.
func ids(repository, owner, saidRepository, saidOwner string) func(*workflow) {
	return func(w *workflow) {
		extension(15, repository)(w)
		extension(17, owner)(w)
		w.at("buildDefinition")["internalParameters"] = map[string]any{"github": map[string]any{"repository_id": saidRepository, "repository_owner_id": saidOwner}}
	}
}

// TestWorkflowInputs: what a run was started with by hand, where its builder
// writes it down.
func TestWorkflowInputs(t *testing.T) {
	for name, tt := range map[string]struct {
		trigger string
		payload any
		reason  string
	}{
		"as demanded":       {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": "false"}}, ""},
		"a boolean":         {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": false}}, ""},
		"one more":          {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": "false", "x": "y"}}, ""},
		"another value":     {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": "true"}}, "workflow input dry"},
		"a character more":  {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.00", "dry": "false"}}, "workflow input release"},
		"one less":          {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0"}}, "the provenance has none"},
		"null":              {"workflow_dispatch", map[string]any{"inputs": nil}, "the provenance has none"},
		"no payload":        {"workflow_dispatch", nil, "the provenance has none"},
		"started otherwise": {"push", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": "false"}}, "the provenance has none"},
		"payload of a text": {"workflow_dispatch", "inputs", "the provenance has none"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkflow(t)
			const base = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/"
			w.r.Identity.SAN = base + "delegator_generic_slsa3.yml@refs/tags/v2.0.0"
			extension(20, tt.trigger)(w)
			w.at("runDetails", "builder")["id"] = base + "builder_maven_slsa3.yml@refs/tags/v2.0.0"
			w.at("runDetails", "metadata")["invocationId"] = "7-1"
			def := w.at("buildDefinition")
			def["buildType"] = trust.BuildTypeDelegated
			def["externalParameters"] = map[string]any{"inputs": map[string]any{"release": "v9.9.9", "dry": "maybe"}}
			def["internalParameters"] = map[string]any{"GITHUB_EVENT_NAME": tt.trigger, "GITHUB_EVENT_PAYLOAD": tt.payload}
			w.demand.WorkflowInputs = map[string]string{"release": "v1.2.0", "dry": "false"}
			w.want(tt.reason)
		})
	}
}

// TestDelegated: slsa-github-generator signs for builders of others.
func TestDelegated(t *testing.T) {
	const (
		base      = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/"
		delegator = base + "delegator_generic_slsa3.yml@refs/tags/v2.0.0"
		maven     = base + "builder_maven_slsa3.yml@refs/tags/v2.0.0"
		tool      = "https://github.com/org/tool/.github/workflows/builder.yml"
	)
	for name, tt := range map[string]struct {
		signer, builder string
		bend            func(*workflow)
		reason          string
	}{
		"one of its own":        {delegator, maven, func(w *workflow) { w.demand.MinLevel = 3 }, ""},
		"low permissions":       {base + "delegator_lowperms-generic_slsa3.yml@refs/tags/v2.0.0", maven, func(*workflow) {}, ""},
		"demanded":              {delegator, tool + "@refs/tags/v1.0.0", func(w *workflow) { w.demand.Builders = []string{tool} }, ""},
		"not demanded":          {delegator, tool + "@refs/tags/v1.0.0", func(*workflow) {}, "say which one to accept"},
		"another demanded":      {delegator, maven, func(w *workflow) { w.demand.Builders = []string{tool} }, "want one of"},
		"delegator demanded":    {delegator, maven, func(w *workflow) { w.demand.Builders = []string{strings.TrimSuffix(delegator, "@refs/tags/v2.0.0")} }, "want one of"},
		"builder of a branch":   {delegator, base + "builder_maven_slsa3.yml@refs/heads/main", func(*workflow) {}, "want a version tag"},
		"builder without a ref": {delegator, base + "builder_maven_slsa3.yml", func(*workflow) {}, "want a workflow with its ref"},
		"delegator of a branch": {base + "delegator_generic_slsa3.yml@refs/heads/main", maven, func(*workflow) {}, "say which one to accept"},
		"somebody's delegator":  {strings.Replace(delegator, "slsa-framework", "evil", 1), maven, func(*workflow) {}, "say which one to accept"},
		"own workflow as tool":  {delegator, "https://github.com/team/app/.github/workflows/release.yml@" + prooftest.Ref, func(*workflow) {}, "say which one to accept"},
		"signed without it":     {"https://github.com/team/app/.github/workflows/release.yml@" + prooftest.Ref, maven, func(*workflow) {}, "build type"},
		"another commit": {delegator, maven, func(w *workflow) {
			w.at("buildDefinition", "internalParameters")["GITHUB_SHA"] = strings.Repeat("ab", 20)
		}, "commit: the provenance says"},
		"another repository":     {delegator, maven, func(w *workflow) { w.at("buildDefinition", "internalParameters")["GITHUB_REPOSITORY"] = "team/apps" }, "source: the provenance says"},
		"another run":            {delegator, maven, func(w *workflow) { w.at("buildDefinition", "internalParameters")["GITHUB_RUN_ID"] = "8" }, "run: the provenance says"},
		"unknown parameter":      {delegator, maven, func(w *workflow) { w.at("buildDefinition", "externalParameters")["command"] = "x" }, "external parameters"},
		"GitHub's build type":    {delegator, maven, func(w *workflow) { w.at("buildDefinition")["buildType"] = trust.BuildTypeActions }, "build type"},
		"container-based":        {base + "builder_container-based_slsa3.yml@refs/tags/v2.0.0", base + "builder_container-based_slsa3.yml@refs/tags/v2.0.0", containerBased(prooftest.Commit), ""},
		"container-based, other": {base + "builder_container-based_slsa3.yml@refs/tags/v2.0.0", base + "builder_container-based_slsa3.yml@refs/tags/v2.0.0", containerBased(strings.Repeat("ab", 20)), "commit: the provenance says"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkflow(t)
			w.r.Identity.SAN = tt.signer
			w.at("runDetails", "builder")["id"] = tt.builder
			w.at("runDetails", "metadata")["invocationId"] = "7-1"
			def := w.at("buildDefinition")
			def["buildType"] = trust.BuildTypeDelegated
			def["externalParameters"] = map[string]any{"inputs": map[string]any{"directory": "."}, "vars": map[string]any{}}
			def["internalParameters"] = map[string]any{"GITHUB_SHA": prooftest.Commit, "GITHUB_REF": prooftest.Ref, "GITHUB_REPOSITORY": "team/app", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"}
			tt.bend(w)
			w.want(tt.reason)
		})
	}
}

func containerBased(commit string) func(*workflow) {
	return func(w *workflow) {
		def := w.at("buildDefinition")
		def["buildType"] = trust.BuildTypeContainerBased
		def["externalParameters"] = map[string]any{"source": map[string]any{"uri": "git+https://github.com/team/app@" + prooftest.Ref, "digest": map[string]any{"sha1": commit}}, "configPath": "config.toml"}
	}
}

// TestWorkflowNeverSpeaksForAPlatform: a platform's root vouches for the
// platform's builders alone, even where its CA certified a workflow.
func TestWorkflowNeverSpeaksForAPlatform(t *testing.T) {
	w := newWorkflow(t)
	if v := w.verdict(); v.Outcome != verify.Accepted {
		t.Fatalf("got %+v", v)
	}
	v := verify.Image(context.Background(), w.s, "v1.2.0", time.Now(), verify.Options{Trust: []*trust.Root{w.p.Root()}, Policy: demanded(w.t, w.demand)})
	if v.Outcome != verify.Rejected || !strings.Contains(v.Why(), "carries no signature") {
		t.Errorf("got %s, %q, want it rejected", v.Outcome, v.Why())
	}
}

// TestWorkflowsHaveNoSBOM: an SBOM is demanded of platforms alone, but a policy
// that demands the contents to be compared is not met by who attaches none.
func TestWorkflowsHaveNoSBOM(t *testing.T) {
	w := newWorkflow(t)
	if v := w.verdict(); v.Outcome != verify.Accepted {
		t.Fatalf("got %s, %s", v.Outcome, v.Why())
	}
	w.demand.Contents = true
	if v := w.verdict(); v.Outcome != verify.Undecided {
		t.Errorf("contents demanded: got %s, %q, want it undecided for want of an SBOM", v.Outcome, v.Why())
	}
}

// TestBuildSignerIsTheName: a certificate whose build signer is not its name names two
// signers.
func TestBuildSignerIsTheName(t *testing.T) {
	for name, signer := range map[string]string{
		"another workflow": "https://github.com/team/app/.github/workflows/other.yml@" + prooftest.Ref,
		"another ref":      "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main",
		"less":             "https://github.com/team/app/.github/workflows/release.yml",
	} {
		w := newWorkflow(t)
		w.r.Identity.Extensions = map[int]string{9: signer}
		t.Logf("%s", name)
		w.want("build signer of the certificate")
	}
	w := newWorkflow(t)
	w.r.Identity.Extensions = map[int]string{9: w.r.Identity.SAN}
	w.want("")
}

// TestNamedDelegator: a delegator signs for the builders of others, so that naming it
// as the signer names nobody.
func TestNamedDelegator(t *testing.T) {
	const delegator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/delegator_generic_slsa3.yml@refs/tags/v2.0.0"
	w := newWorkflow(t)
	w.signedBy(delegator)
	w.demand.Signer = &policy.DocumentSigner{Identity: delegator, Issuer: trust.GitHubIssuer}
	w.want("signs for other builders")
	w = newWorkflow(t)
	w.demand.Signer = &policy.DocumentSigner{Identity: w.r.Identity.SAN, Issuer: trust.GitHubIssuer}
	w.want("")
}

// TestSpelledOtherwise: who spells a source in another way than its builder is told so,
// for images and for files.
func TestSpelledOtherwise(t *testing.T) {
	w := newWorkflow(t)
	w.demand.Source = "github.com/Team/App"
	const hint = "it was built from https://github.com/team/app: write the source as its builder does"
	if v := w.verdict(); v.Outcome != verify.Rejected || !strings.Contains(v.Hint, hint) {
		t.Errorf("image: got %v, hint %q", v.Outcome, v.Hint)
	}
	f := fileOf([]byte("a file"))
	st, err := attest.NewStatement("app.tar.gz", f.Digest.Hex, attest.PredicateSLSA1, w.predicate)
	if err != nil {
		t.Fatal(err)
	}
	opts := verify.Options{Trust: []*trust.Root{w.p.PlainRoot(trust.GitHubIssuer)}, Policy: demanded(t, w.demand)}
	if v := verify.Bundled(t.Context(), f, [][]byte{w.p.Sign(w.r.Identity, st)}, time.Now(), opts); v.Outcome != verify.Rejected || !strings.Contains(v.Hint, hint) {
		t.Errorf("file: got %v, hint %q", v.Outcome, v.Hint)
	}
}
