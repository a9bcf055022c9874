package verify_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// publicRoot is the trusted root of the public Sigstore instance.
const publicRoot = "../test/conformance/sigstore/testdata/public-trusted_root.json"

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const (
	generator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml"
	example   = "github.com/slsa-framework/example-package"
)

// plainRoot is the trusted root of the public Sigstore instance.
func rootOf(t testing.TB, raw []byte) []*trust.Root {
	t.Helper()
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return []*trust.Root{r}
}

// link of a verdict, which must have it.
func link(t testing.TB, v *verify.Verdict, name string) verify.Link {
	t.Helper()
	for _, l := range v.Links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("verdict has no link %q: %+v", name, v)
	return verify.Link{}
}

// githubImage is an image as slsa-github-generator signed it, with cosign v2.
// Its layers are not here: the image link is absent, whatever the others say.
func githubImage(t testing.TB, version string, change func(envelope []byte, layer *v1.Descriptor) []byte) (*prooftest.Store, string) {
	dir := "testdata/github-container/" + version + "/"
	s := prooftest.NewStore(t)
	index := s.Put(read(t, dir+"index.json"), types.OCIImageIndex)
	var m v1.Manifest
	if err := json.Unmarshal(read(t, dir+"attestations.json"), &m); err != nil {
		t.Fatal(err)
	}
	envelope := read(t, dir+"envelope.json")
	if change != nil {
		envelope = change(envelope, &m.Layers[0])
	}
	d := s.Put(envelope, attest.EnvelopeMediaType)
	m.Layers[0].Digest, m.Layers[0].Size = d.Digest, d.Size
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	s.Tag("sha256-"+index.Digest.Hex+".att", s.Put(raw, types.OCIManifestSchema1))
	return s, index.Digest.String()
}

func githubVerdict(t testing.TB, version string, p policy.Document, change func([]byte, *v1.Descriptor) []byte) *verify.Verdict {
	s, digest := githubImage(t, version, change)
	return verify.Image(context.Background(), s, digest, verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, p), Now: time.Now()})
}

// TestGitHubImages: two versions of the generator, two kinds of log entry.
func TestGitHubImages(t *testing.T) {
	refs := map[string]string{"v1.7.0": "refs/heads/main", "v2.0.0": "refs/tags/v13.0.30"}
	commits := map[string]string{"v1.7.0": "62cb1f1e485829bafe8bbec8b9900c0cb7624fe7", "v2.0.0": "693130cb6cb840a7bc9cb18c6510d536a95dc7e6"}
	short := map[string]string{"v1.7.0": "main", "v2.0.0": "v13.0.30"}
	other := map[string]string{"v1.7.0": "refs/tags/main", "v2.0.0": "refs/heads/v13.0.30"}
	for version, ref := range refs {
		for name, p := range map[string]policy.Document{
			"source":              {Source: example},
			"ref":                 {Source: example, Ref: ref},
			"short ref":           {Source: example, Ref: short[version]},
			"commit":              {Source: example, Commit: commits[version]},
			"level":               {Source: example, MinLevel: 3},
			"builder":             {Source: example, Builders: []string{generator}},
			"builder and version": {Source: example, Builders: []string{generator + "@refs/tags/" + version}},
			"any source":          {AnySource: true},
		} {
			v := githubVerdict(t, version, p, nil)
			for _, l := range []string{verify.LinkSignature, verify.LinkLog, verify.LinkProvenance} {
				if got := link(t, v, l); got.Status != verify.Holds {
					t.Errorf("%s, %s: %s %s: %s", version, name, l, got.Status, got.Reason)
				}
			}
		}
		for name, p := range map[string]policy.Document{
			"a character more": {Source: example + "s"},
			"a character less": {Source: strings.TrimSuffix(example, "e")},
			"another owner":    {Source: "github.com/slsa-frameworks/example-package"},
			"another case":     {Source: "github.com/slsa-framework/Example-package"},
			"another host":     {Source: "github.com.example.com/slsa-framework/example-package"},
			"another ref":      {Source: example, Ref: ref + "0"},
			"less of the ref":  {Source: example, Ref: ref[:len(ref)-1]},
			"tag for branch":   {Source: example, Ref: other[version]},
			"another commit":   {Source: example, Commit: strings.Repeat("ab", 20)},
			"another builder":  {Source: example, Builders: []string{strings.Replace(generator, "container", "generic", 1)}},
			"another version":  {Source: example, Builders: []string{generator + "@refs/tags/v1.7.1"}},
			"builder's branch": {Source: example, Builders: []string{generator + "@refs/heads/main"}},
			"our own builder":  {Source: example, Builders: []string{prooftest.Builder}},
		} {
			v := githubVerdict(t, version, p, nil)
			if v.Outcome != verify.Rejected || link(t, v, verify.LinkSignature).Status == verify.Holds && link(t, v, verify.LinkProvenance).Status != verify.Broken {
				t.Errorf("%s, %s: got %s, want it rejected for its signer or its provenance: %+v", version, name, v.Outcome, v.Links)
			}
		}
	}
}

// TestGitHubImageVersions: as much of a version as is demanded, of a real tag
// and of a real branch.
func TestGitHubImageVersions(t *testing.T) {
	for version, matches := range map[string]map[string]bool{
		"v2.0.0": {"v13": true, "v13.0": true, "v13.0.30": true, "v1": false, "v13.0.3": false, "v13.0.300": false, "v13.1": false, "v14": false, "v13.0.30-rc.1": false},
		"v1.7.0": {"v13": false, "v1": false},
	} {
		for demand, match := range matches {
			v := githubVerdict(t, version, policy.Document{Source: example, Version: demand}, nil)
			if got := link(t, v, verify.LinkProvenance); (got.Status == verify.Holds) != match || !match && v.Outcome != verify.Rejected {
				t.Errorf("%s, %s: got %s, %s %s", version, demand, v.Outcome, got.Status, got.Reason)
			}
		}
	}
}

// TestGitHubImageTampered bends an attestation of cosign v2.
func TestGitHubImageTampered(t *testing.T) {
	replace := func(annotation, old, new string) func([]byte, *v1.Descriptor) []byte {
		return func(env []byte, l *v1.Descriptor) []byte {
			was := l.Annotations[annotation]
			if l.Annotations[annotation] = strings.Replace(was, old, new, 1); l.Annotations[annotation] == was {
				t.Errorf("%q is not in %s", old, annotation)
			}
			return env
		}
	}
	payload := func(env []byte, _ *v1.Descriptor) []byte {
		var e map[string]any
		if err := json.Unmarshal(env, &e); err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(e["payload"].(string))
		if err != nil {
			t.Fatal(err)
		}
		bent := bytes.ReplaceAll(raw, []byte("refs/heads/main"), []byte("refs/heads/evil"))
		bent = bytes.ReplaceAll(bent, []byte("refs/tags/v13.0.30"), []byte("refs/tags/v13.0.31"))
		if bytes.Equal(raw, bent) {
			t.Error("nothing was bent")
		}
		e["payload"] = base64.StdEncoding.EncodeToString(bent)
		env, err = json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	for _, version := range []string{"v1.7.0", "v2.0.0"} {
		otherVersion := map[string]string{"v1.7.0": "v2.0.0", "v2.0.0": "v1.7.0"}[version]
		var other v1.Manifest
		if err := json.Unmarshal(read(t, "testdata/github-container/"+otherVersion+"/attestations.json"), &other); err != nil {
			t.Fatal(err)
		}
		swap := func(annotation string) func([]byte, *v1.Descriptor) []byte {
			return func(env []byte, l *v1.Descriptor) []byte {
				l.Annotations[annotation] = other.Layers[0].Annotations[annotation]
				return env
			}
		}
		for name, change := range map[string]func([]byte, *v1.Descriptor) []byte{
			"payload":             payload,
			"time":                replace(attest.Cosign2Bundle, `"integratedTime":1`, `"integratedTime":2`),
			"index":               replace(attest.Cosign2Bundle, `"logIndex":`, `"logIndex":1`),
			"log":                 replace(attest.Cosign2Bundle, `"logID":"c0`, `"logID":"c1`),
			"promise":             replace(attest.Cosign2Bundle, `"SignedEntryTimestamp":"MEU`, `"SignedEntryTimestamp":"MEQ`),
			"no log":              func(env []byte, l *v1.Descriptor) []byte { delete(l.Annotations, attest.Cosign2Bundle); return env },
			"another log entry":   swap(attest.Cosign2Bundle),
			"another certificate": swap(attest.Cosign2Certificate),
			"another image's": func(_ []byte, l *v1.Descriptor) []byte {
				*l = other.Layers[0]
				return read(t, "testdata/github-container/"+otherVersion+"/envelope.json")
			},
			"two certificates": func(env []byte, l *v1.Descriptor) []byte {
				l.Annotations[attest.Cosign2Certificate] += l.Annotations[attest.Cosign2Certificate]
				return env
			},
			"a member named twice": func(env []byte, _ *v1.Descriptor) []byte {
				return bytes.Replace(env, []byte("{"), []byte(`{"payload":"",`), 1)
			},
			"the same, respelled": func(env []byte, _ *v1.Descriptor) []byte { return append(env, ' ') },
			"a member of other case": func(env []byte, _ *v1.Descriptor) []byte {
				return bytes.Replace(env, []byte(`"payload":`), []byte(`"Payload":`), 1)
			},
		} {
			v := githubVerdict(t, version, policy.Document{Source: example}, change)
			holds := link(t, v, verify.LinkSignature).Status == verify.Holds && link(t, v, verify.LinkProvenance).Status == verify.Holds
			if holds != (name == "the same, respelled" && version == "v2.0.0") {
				// dsse 0.0.1 is about payload and signature; intoto 0.0.1 about every byte.
				t.Errorf("%s, %s: holds is %v: %+v", version, name, holds, v.Links)
			}
		}
	}
	if v := func() *verify.Verdict {
		s, digest := githubImage(t, "v1.7.0", nil)
		return verify.Image(context.Background(), s, digest, verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, policy.Document{Source: example}), Now: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)})
	}(); !strings.Contains(link(t, v, verify.LinkLog).Reason, "in the future") {
		t.Errorf("signed in the future: got %+v", v.Links)
	}
}

// TestUnreadAttestation: what could not be fetched leaves the question open.
func TestUnreadAttestation(t *testing.T) {
	s, digest := githubImage(t, "v2.0.0", func(env []byte, l *v1.Descriptor) []byte { delete(l.Annotations, attest.Cosign2Bundle); return env })
	s.Fail["sha256-"+strings.TrimPrefix(digest, "sha256:")+".att"] = errors.New("connection reset")
	v := verify.Image(context.Background(), s, digest, verify.Options{Trust: rootOf(t, read(t, publicRoot)), Policy: demanded(t, policy.Document{Source: example}), Now: time.Now()})
	if l := link(t, v, verify.LinkProvenance); l.Status != verify.Unknown || !strings.Contains(l.Reason, "connection reset") {
		t.Errorf("got %+v, want it unknown", l)
	}
}

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
	return verify.Image(context.Background(), w.s, "v1.2.0", verify.Options{Trust: rootOf(w.t, w.p.TrustedRoot()), Policy: demanded(w.t, w.demand), Now: time.Now()})
}

// TestWorkflow: who may sign for whom, and what must agree.
func TestWorkflow(t *testing.T) {
	const shared = "https://github.com/org/shared/.github/workflows/build.yml"
	signedBy := func(w *workflow, san string) {
		w.r.Identity.SAN = san
		w.at("runDetails", "builder")["id"] = san
	}
	for name, tt := range map[string]struct {
		bend   func(*workflow)
		reason string // empty: accepted
	}{
		"the repository's own": {func(*workflow) {}, ""},
		"level 2":              {func(w *workflow) { w.demand.MinLevel = 2 }, ""},
		"level 3":              {func(w *workflow) { w.demand.MinLevel = 3 }, "got 2, want at least 3"},
		"any source":           {func(w *workflow) { w.demand = policy.Document{AnySource: true} }, "say which one to accept"},
		"own at another ref": {func(w *workflow) {
			signedBy(w, "https://github.com/team/app/.github/workflows/release.yml@refs/heads/evil")
		}, "want the ref that was built"},
		"shared":              {func(w *workflow) { signedBy(w, shared+"@refs/tags/v1.0.0") }, "say which one to accept"},
		"shared, demanded":    {func(w *workflow) { signedBy(w, shared+"@refs/tags/v1.0.0"); w.demand.Builders = []string{shared} }, ""},
		"shared, of a branch": {func(w *workflow) { signedBy(w, shared+"@refs/heads/main"); w.demand.Builders = []string{shared} }, "want a version tag"},
		"shared, branch named": {func(w *workflow) {
			signedBy(w, shared+"@refs/heads/main")
			w.demand.Builders = []string{shared + "@refs/heads/main"}
		}, ""},
		"shared, a prefix": {func(w *workflow) {
			signedBy(w, shared+"@refs/tags/v1.0.0")
			w.demand.Builders = []string{"https://github.com/org/shared/.github/workflows/b.yml"}
		}, "want one of"},
		"generator of a branch": {func(w *workflow) { signedBy(w, generator+"@refs/heads/main") }, "want a version tag"},
		"generator, other type": {func(w *workflow) { signedBy(w, generator+"@refs/tags/v1.7.0") }, "build type"},
		"generator, look-alike": {func(w *workflow) {
			signedBy(w, strings.Replace(generator, "slsa-framework", "slsa-framevvork", 1)+"@refs/tags/v1.7.0")
		}, "say which one to accept"},
		"another issuer": {func(w *workflow) { w.r.Identity.Issuer = "https://evil.example.com" }, "issuer of the signer's certificate"},
		"builder id":     {func(w *workflow) { w.at("runDetails", "builder")["id"] = generator + "@refs/tags/v1.7.0" }, "builder id: the provenance says"},
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
			signedBy(w, shared+"@refs/tags/v1.0.0")
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
		"inputs that nothing is said of": {func(w *workflow) { w.demand.WorkflowInputs = map[string]string{"dry": "false"} }, "says nothing of it"},
		"no source":                      {func(w *workflow) { w.r.Identity.SourceURI = "" }, "says nothing of it"},
		"source on another host":         {func(w *workflow) { w.r.Identity.SourceURI = "https://github.com.example.com/team/app" }, "want a repository on github.com"},
		"no ref of the signer":           {func(w *workflow) { signedBy(w, "https://github.com/team/app/.github/workflows/release.yml") }, "want a workflow with its ref"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkflow(t)
			tt.bend(w)
			v := w.verdict()
			if want := map[bool]verify.Outcome{true: verify.Accepted, false: verify.Rejected}[tt.reason == ""]; v.Outcome != want || !strings.Contains(v.Why(), tt.reason) {
				t.Errorf("got %s, %q, want %s, %q", v.Outcome, v.Why(), want, tt.reason)
			}
		})
	}
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
		"one less":          {"workflow_dispatch", map[string]any{"inputs": map[string]any{"release": "v1.2.0"}}, "says nothing of it"},
		"null":              {"workflow_dispatch", map[string]any{"inputs": nil}, "says nothing of it"},
		"no payload":        {"workflow_dispatch", nil, "says nothing of it"},
		"started otherwise": {"push", map[string]any{"inputs": map[string]any{"release": "v1.2.0", "dry": "false"}}, "says nothing of it"},
		"payload of a text": {"workflow_dispatch", "inputs", "says nothing of it"},
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
			v := w.verdict()
			if want := map[bool]verify.Outcome{true: verify.Accepted, false: verify.Rejected}[tt.reason == ""]; v.Outcome != want || !strings.Contains(v.Why(), tt.reason) {
				t.Errorf("got %s, %q, want %s, %q", v.Outcome, v.Why(), want, tt.reason)
			}
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
		"builder without a ref": {delegator, base + "builder_maven_slsa3.yml", func(*workflow) {}, "want one with its ref"},
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
			v := w.verdict()
			if want := map[bool]verify.Outcome{true: verify.Accepted, false: verify.Rejected}[tt.reason == ""]; v.Outcome != want || !strings.Contains(v.Why(), tt.reason) {
				t.Errorf("got %s, %q, want %s, %q", v.Outcome, v.Why(), want, tt.reason)
			}
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
	v := verify.Image(context.Background(), w.s, "v1.2.0", verify.Options{Trust: []*trust.Root{w.p.Root()}, Policy: demanded(w.t, w.demand), Now: time.Now()})
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
