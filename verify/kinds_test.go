package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// kindsStage has what TestEveryKind combines.
type kindsStage struct {
	t     *testing.T
	p     *prooftest.Platform
	file  verify.File
	image *prooftest.Store
	of    v1.Descriptor
	roots []*trust.Root
}

// statements returns statements about the digest of each kind, with predicates that are good for
// somebody, and such that are good for nobody.
func (k *kindsStage) statements(digest string) (all map[string][]byte) {
	all = map[string][]byte{}
	r := k.p.ReleaseOf(v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: digest}})
	files := k.p.ReleaseOf(r.Image)
	ofFiles(files)
	github := newWorkflow(k.t).predicate
	labKind, lab := predicateOf(k.t, "gitlab")
	oldKind, old := predicateOf(k.t, "gitlab-runner-v0.2")
	predicates := map[string]any{
		attest.PredicateSLSA1 + " of an image": r.Predicate(attest.PredicateSLSA1), attest.PredicateSLSA1 + " of files": files.Predicate(attest.PredicateSLSA1),
		attest.PredicateSLSA1 + " of GitHub": github, labKind + " of GitLab": json.RawMessage(lab), oldKind + " of an old GitLab": json.RawMessage(old),
		attest.PredicateSPDX + " full": r.SPDX, attest.PredicateCDX + " full": r.CDX,
	}
	for _, kind := range []string{attest.PredicateSLSA1, attest.PredicateSLSA02, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX, attest.PredicateVSA, "https://spdx.dev/Document/v2.3", "https://example.com/other/v1"} {
		predicates[kind+" {}"] = json.RawMessage(`{}`)
	}
	for name, predicate := range predicates {
		kind, _, _ := strings.Cut(name, " ")
		if raw, err := attest.NewStatement("app.tar.gz", digest, kind, predicate); err == nil {
			all[name] = raw
		}
	}
	return all
}

// signers are who signs each of the statements.
func (k *kindsStage) signers() map[string]prooftest.Identity {
	r := k.p.ReleaseOf(v1.Descriptor{})
	files := k.p.ReleaseOf(v1.Descriptor{})
	ofFiles(files)
	return map[string]prooftest.Identity{
		"a platform, of an image": r.Signer(), "a platform, of files": files.Signer(),
		"GitHub": newWorkflow(k.t).r.Identity, "GitLab": gitLabIdentity(), "a person": {SAN: "ada@example.com", Issuer: people},
	}
}

// policies returns policies with each Origin.
func (k *kindsStage) policies() map[string]policy.Policy {
	signed := func(id, issuer string) *policy.DocumentSigner {
		return &policy.DocumentSigner{Identity: id, Issuer: issuer}
	}
	github := newWorkflow(k.t).r.Identity
	named := map[string]*policy.DocumentSigner{
		"a platform": signed(prooftest.Builder, prooftest.URL), "GitHub": signed(github.SAN, trust.GitHubIssuer),
		"GitLab": signed(pipeline, trust.GitLabIssuer), "a person": signed("ada@example.com", people),
	}
	verifier := []policy.DocumentVerifier{{ID: "https://example.com/verifier", Signer: *named["a person"]}}
	all := map[string]policy.Policy{"a summary": demanded(k.t, policy.Document{Verifiers: verifier}),
		"notation": {Origin: policy.NotationSignature{}}}
	for name, builder := range map[string]string{"a platform": prooftest.Builder, "GitHub": github.SAN, "GitLab": pipeline} {
		all["builder "+name] = demanded(k.t, policy.Document{AnySource: true, Builders: []string{builder}, AnyRecipe: true, NoSBOM: true})
		all["contents, builder "+name] = demanded(k.t, policy.Document{AnySource: true, Builders: []string{builder}, Contents: true, CompleteSBOM: true, RequireSource: true, MinLevel: 1})
	}
	for name, source := range map[string]string{"a platform": prooftest.Source, "GitHub": "github.com/team/app", "GitLab": project} {
		all["source "+name] = demanded(k.t, policy.Document{Source: source, Verifiers: verifier, Attestations: []policy.DocumentAttestation{{PredicateType: attest.PredicateSPDX}}})
	}
	for name, s := range named {
		all["provenance by "+name] = demanded(k.t, policy.Document{AnySource: true, Signer: s})
		only := demanded(k.t, policy.Document{AnySource: true, Signer: s, Attestations: []policy.DocumentAttestation{{PredicateType: attest.PredicateSPDX}}})
		only.Origin = policy.SignatureOnly{Signer: only.Signer()}
		all["signature by "+name] = only
		all["attested by "+name] = policy.Policy{Origin: policy.AttestationsOnly{}, Attestations: []policy.Attestation{{PredicateType: attest.PredicateSPDX, Signer: only.Signer()}}}
	}
	return all
}

// TestEveryKind: statements of each kind, by each signer, alone and beside others, are judged by each
// policy without a fault; and what is accepted for its provenance has one, with a build.
func TestEveryKind(t *testing.T) {
	k := &kindsStage{t: t, p: prooftest.New(t), file: fileOf([]byte("app")), image: prooftest.NewStore(t)}
	k.file.Title = "app.tar.gz"
	k.of = k.p.Release(k.image).Image
	k.roots = []*trust.Root{k.p.Root(), k.p.PlainRoot(trust.GitHubIssuer, trust.GitLabIssuer, people)}
	accepted := map[string]int{}
	check := func(what string, p policy.Policy, v *verify.Verdict) {
		if v.Outcome != verify.Accepted {
			return
		}
		accepted[fmt.Sprintf("%T", p.Origin)]++
		switch p.Origin.(type) {
		case policy.BuilderProvenance, policy.SignerProvenance:
			if v.Facts == nil || v.Facts.Build == nil || !slices.ContainsFunc(v.Facts.Signed, func(s verify.Signed) bool {
				return s.PredicateType == attest.PredicateSLSA1 || s.PredicateType == attest.PredicateSLSA02
			}) {
				t.Errorf("%s: accepted without provenance: %+v", what, v.Facts)
			}
		}
	}
	policies := k.policies()
	for by, id := range k.signers() {
		var all [][]byte
		kinds := k.statements(k.file.Digest.Hex)
		for kind, raw := range kinds {
			bundle := k.p.Sign(id, raw)
			all = append(all, bundle)
			k.judgeFile(policies, kind+" by "+by, [][]byte{bundle}, check)
		}
		k.judgeFile(policies, "all by "+by, all, check)
		for kind, raw := range k.statements(k.of.Digest.Hex) {
			one := prooftest.NewStore(t)
			image := k.p.Release(one).Image
			if image.Digest != k.of.Digest {
				t.Fatal("the images differ")
			}
			kindOf, _, _ := strings.Cut(kind, " ")
			bundle := k.p.Sign(id, raw)
			one.Attach(image, bundle, kindOf)
			k.image.Attach(k.of, bundle, kindOf)
			k.judgeImage(policies, "image, "+kind+" by "+by, one, check)
		}
		k.judgeImage(policies, "image, all up to "+by, k.image, check)
	}
	t.Log(accepted)
	for _, origin := range []string{"policy.BuilderProvenance", "policy.SignerProvenance", "policy.SignatureOnly"} {
		if accepted[origin] == 0 {
			t.Errorf("%s: nothing was accepted", origin)
		}
	}
}

func (k *kindsStage) options(p policy.Policy) verify.Options {
	return verify.Options{Trust: k.roots, Policy: p, SourceCheck: func(_ context.Context, q source.Question) (source.Standing, error) {
		return source.Standing{}, errors.New("it is away")
	}}
}

func (k *kindsStage) judgeFile(policies map[string]policy.Policy, what string, bundles [][]byte, check func(string, policy.Policy, *verify.Verdict)) {
	for name, p := range policies {
		check(what+", "+name, p, verify.Bundled(k.t.Context(), k.file, bundles, time.Now(), k.options(p)))
	}
}

func (k *kindsStage) judgeImage(policies map[string]policy.Policy, what string, s *prooftest.Store, check func(string, policy.Policy, *verify.Verdict)) {
	names := slices.Collect(maps.Keys(policies))
	var ask verify.Ask
	for _, name := range names {
		ask.Policies = append(ask.Policies, policies[name])
	}
	ev := verify.Gather(k.t.Context(), s, k.of.Digest.String(), time.Now(), k.options(policy.Policy{}), ask)
	for i, v := range ev.Verdicts() {
		check(what+", "+names[i], ask.Policies[i], v)
	}
}
