package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const goodPolicy = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "reg.example.com/team/**"}]
      accept:
        - built: {source: https://git.example.com/team/app}
`

// TestPolicyCheck: a file that is no policy is another answer than a policy with faults, and
// both name the place.
func TestPolicyCheck(t *testing.T) {
	s := &stage{t: t}
	good := s.file("good.yaml", []byte(goodPolicy))
	s.run(exitOK, []string{"policy", "check", good}, "1 policy file, 0 faults")
	s.run(exitOK, []string{"policy", "check", good, "--json"}, "[]")
	faulty := s.file("faulty.yaml", []byte(strings.Replace(goodPolicy, "reg.example.com/team/**", "reg.example.com**", 1)))
	s.run(exitRejected, []string{"policy", "check", good, faulty}, faulty+":8:16: fault: rule \"app\": the glob reg.example.com** also matches other registries", "2 policy files, 1 fault")
	var found []map[string]any
	if err := json.Unmarshal([]byte(s.run(exitRejected, []string{"policy", "check", faulty, "--json"})), &found); err != nil || len(found) != 1 || found[0]["line"] != 8.0 || found[0]["file"] != faulty || found[0]["wrong"] != true {
		t.Errorf("got %v, %v, want one fault in line 8", found, err)
	}
	noted := s.file("noted.yaml", []byte(strings.Replace(goodPolicy, "unmatched: deny", "unmatched: allow", 1)))
	s.run(exitOK, []string{"policy", "check", noted}, ":5:14: note: an image that no rule is about is accepted", "0 faults")
	broken := s.file("broken.yaml", []byte(strings.Replace(goodPolicy, "glob:", "globb:", 1)))
	s.run(exitUsage, []string{"policy", "check", good, broken}, broken+":8:", `there is no member "globb"; did you mean "glob"?`)
	s.run(exitUsage, []string{"policy", "check", filepath.Join(t.TempDir(), "none.yaml")}, "no such file")
}

// TestPolicyConvert: a policy of version 1 becomes one of version 2 that check reads.
func TestPolicyConvert(t *testing.T) {
	s := &stage{t: t}
	out := s.run(exitOK, []string{"policy", "convert", s.file("v1.json", []byte(`{"source":"https://git.example.com/team/app","minLevel":3}`)), "--name", "team"}, "kind: ImagePolicy", "minLevel: 3", "name: team")
	s.run(exitOK, []string{"policy", "check", s.file("v2.yaml", []byte(out))}, "0 faults")
	s.run(exitUsage, []string{"policy", "convert", s.file("bad.json", []byte(`{"sourc":"x"}`))}, `did you mean "source"?`)
	s.run(exitUsage, []string{"policy", "convert", s.file("v1.json", []byte(`{"source":"https://git.example.com/team/app"}`)), "--name", "A b"}, "name")
}

// TestPolicyConvertFormats: what the other format cannot say is listed, and nothing weaker is
// printed unless it is asked for.
func TestPolicyConvertFormats(t *testing.T) {
	s := &stage{t: t}
	signed := strings.Replace(goodPolicy, "built: {source: https://git.example.com/team/app}", "signature: {signer: {certificate: {issuer: https://accounts.example.com, identity: {is: ada@example.com}}}}", 1)
	file := s.file("signed.yaml", []byte(signed))
	s.run(exitOK, []string{"policy", "convert", file, "--to", "kyverno"}, "kind: ImageValidatingPolicy", "subject: ada@example.com", "stricter: shop, rule app, accept: ")
	theirs := s.run(exitOK, []string{"policy", "convert", file, "--to", "clusterimagepolicy"}, "kind: ClusterImagePolicy")
	back := s.run(exitOK, []string{"policy", "convert", s.file("theirs.yaml", []byte(theirs)), "--name", "back"}, "kind: ImagePolicy", "is: ada@example.com")
	s.run(exitOK, []string{"policy", "check", s.file("back.yaml", []byte(back))}, "0 faults")
	s.run(exitUsage, []string{"policy", "convert", file}, "is of the format colophon already", "--to kyverno")
	s.run(exitUsage, []string{"policy", "convert", file, "--to", "gatekeeper"}, `found "gatekeeper"`)

	weaker := s.file("weaker.yaml", []byte(signed+"      conditions: [{expression: level == 3, message: level}]\n"))
	for _, to := range []string{"kyverno", "clusterimagepolicy"} {
		if out := s.run(exitRejected, []string{"policy", "convert", weaker, "--to", to}, "weaker: shop, rule app, conditions[0]: ", "not converted"); strings.Contains(out, "apiVersion") {
			t.Errorf("got %s, want nothing that is weaker", out)
		}
		s.run(exitOK, []string{"policy", "convert", weaker, "--to", to, "--lossy"}, "# This policy accepts images that the one from which it was converted refuses:\n#   shop, rule app, conditions[0]: ", "apiVersion")
	}
	var answer policyConverted
	if err := json.Unmarshal([]byte(s.run(exitRejected, []string{"policy", "convert", weaker, "--to", "kyverno", "--json"})), &answer); err != nil || !answer.Weaker || len(answer.Documents) != 0 || len(answer.Losses) == 0 {
		t.Errorf("got %+v, %v, want losses and no documents", answer, err)
	}
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"policy", "convert", file, "--to", "kyverno", "--json"})), &answer); err != nil || answer.Weaker || len(answer.Documents) != 1 {
		t.Errorf("got %+v, %v, want a document", answer, err)
	}
	s.run(exitUsage, []string{"policy", "convert", s.file("bad.yaml", []byte(strings.Replace(theirs, "keyless:", "keylss:", 1)))}, `bad.yaml:`, `did you mean "keyless"?`)
}

// neighbour is an image beside the one that a policy is written for, and how it differs.
func neighbour(t *testing.T, store *prooftest.Store, tag string) v1.Descriptor {
	t.Helper()
	store.Tar = []byte("the image " + tag)
	d, _ := store.Image(tag)
	return d
}

// initiated runs policy init, and returns a function that judges another image of the
// repository by the policy that it wrote.
func (s *stage) initiated(words []string, flags ...string) func(tag string) verify.Outcome {
	s.t.Helper()
	text := s.run(exitOK, append([]string{"policy", "init", s.image}, flags...), words...)
	s.run(exitOK, []string{"policy", "check", s.file("policy.yaml", []byte(text))})
	sets, err := policy.ParseSets([]byte(text))
	if err != nil {
		s.t.Fatalf("%v in\n%s", err, text)
	}
	rule := sets[0].Rules[0]
	return func(tag string) verify.Outcome {
		s.t.Helper()
		ref, err := oci.ParseReference(s.host + "/team/app:" + tag)
		if err != nil {
			s.t.Fatal(err)
		}
		src, err := ref.Open(oci.RegistryOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		opts := verify.Options{Policy: rule.Accept[0]}
		if opts.Trust, err = (trust.Store{Dir: os.Getenv("COLOPHON_TRUST")}).Load(); err != nil {
			s.t.Fatal(err)
		}
		v := verify.Image(s.t.Context(), src, tag, time.Now(), opts)
		image, err := policy.ParseImage(s.host + "/team/app:" + tag)
		if image.Digest = v.Digest; err != nil || !rule.Matches(image) {
			s.t.Errorf("the policy is not about %s: %v", tag, err)
		}
		return v.Outcome
	}
}

func (s *stage) judged(judge func(string) verify.Outcome, accepted string, rejected ...string) {
	s.t.Helper()
	if got := judge(accepted); got != verify.Accepted {
		s.t.Errorf("%s: got %s, want accepted", accepted, got)
	}
	for _, tag := range rejected {
		if got := judge(tag); got != verify.Rejected {
			s.t.Errorf("%s: got %s, want rejected", tag, got)
		}
	}
}

// TestPolicyInitBuilt: of an image that a platform built, the policy has the source, the
// builder, the level and the SBOMs, and refuses the images of others.
func TestPolicyInitBuilt(t *testing.T) {
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		attach := func(p *prooftest.Platform, tag string, change func(*prooftest.Release), kinds ...string) {
			r := p.ReleaseOf(neighbour(t, store, tag))
			change(r)
			for _, kind := range kinds {
				store.Attach(r.Image, p.Sign(r.Signer(), r.Statement(kind)), kind)
			}
		}
		from := func(source, ref string) func(*prooftest.Release) {
			return func(r *prooftest.Release) {
				r.Parameters.Source.URI, r.Identity.SourceURI = source, source
				r.Parameters.Source.Ref, r.Identity.Ref = ref, ref
				r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(source, ref)
			}
		}
		attach(p, "again", from(prooftest.Source, "refs/tags/v1.3.0"), prooftest.Kinds...)
		attach(p, "other-source", from("https://git.example.com/team/other", prooftest.Ref), prooftest.Kinds...)
		attach(p, "other-major", from(prooftest.Source, "refs/tags/v2.0.0"), prooftest.Kinds...)
		attach(p, "branch", from(prooftest.Source, "refs/heads/main"), prooftest.Kinds...)
		attach(p, "no-sbom", from(prooftest.Source, prooftest.Ref), attest.PredicateSign, attest.PredicateSLSA1)
		attach(p, "no-provenance", from(prooftest.Source, prooftest.Ref), attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
		attach(prooftest.New(t), "other-signer", from(prooftest.Source, prooftest.Ref), prooftest.Kinds...)
		neighbour(t, store, "unsigned")
	})
	s.run(exitUndecided, []string{"policy", "init", s.image}, "no trust root yet", hintTrust)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	judge := s.initiated([]string{"# It was built from " + prooftest.Source + " at " + prooftest.Ref, "source: " + prooftest.Source, "version: v1", "id: " + prooftest.Builder, "minLevel: ", "root: " + prooftest.URL, "unmatched: deny", "mode: enforce"})
	s.judged(judge, "v1.2.0", "other-source", "other-major", "branch", "no-sbom", "other-signer", "unsigned")
	s.judged(judge, "again")
	s.run(exitOK, []string{"policy", "init", s.image, "--mode", "audit", "--name", "team-app"}, "mode: audit", "name: team-app")
	for _, tag := range []string{"unsigned", "no-provenance"} {
		s.run(exitRejected, []string{"policy", "init", s.host + "/team/app:" + tag}, "proves nothing")
	}
	s.run(exitUndecided, []string{"policy", "init", s.host + "/team/app:v9"})
	s.run(exitUsage, []string{"policy", "init", s.image, "--mode", "maybe"}, "mode")
	s.run(exitUsage, []string{"policy", "init", "./layout"}, "layout")
	s.stop()
	s.run(exitUndecided, []string{"policy", "init", s.image})
}

// TestPolicyInitWorkflow: of an image that a workflow on GitHub built, the policy has the
// repository and the workflow.
func TestPolicyInitWorkflow(t *testing.T) {
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		attach := func(p *prooftest.Platform, tag, repository, file, ref string) {
			san := repository + "/.github/workflows/" + file + "@" + ref
			invocation := repository + "/actions/runs/7/attempts/1"
			image := neighbour(t, store, tag)
			st, err := attest.NewStatement("app", image.Digest.Hex, attest.PredicateSLSA1, map[string]any{
				"buildDefinition": map[string]any{
					"buildType":            trust.BuildTypeActions,
					"externalParameters":   map[string]any{"workflow": map[string]any{"ref": ref, "repository": repository, "path": ".github/workflows/" + file}},
					"resolvedDependencies": []any{map[string]any{"uri": "git+" + repository + "@" + ref, "digest": map[string]any{"gitCommit": prooftest.Commit}}},
				},
				"runDetails": map[string]any{"builder": map[string]any{"id": san}, "metadata": map[string]any{"invocationId": invocation}},
			})
			if err != nil {
				t.Fatal(err)
			}
			store.Attach(image, p.Sign(prooftest.Identity{SAN: san, Issuer: trust.GitHubIssuer, SourceURI: repository, Commit: prooftest.Commit, Ref: ref, Invocation: invocation}, st), attest.PredicateSLSA1)
		}
		const app = "https://github.com/team/app"
		attach(p, "built", app, "release.yml", prooftest.Ref)
		attach(p, "again", app, "release.yml", "refs/tags/v1.3.0")
		attach(p, "other-source", "https://github.com/team/other", "release.yml", prooftest.Ref)
		attach(p, "other-workflow", app, "nightly.yml", prooftest.Ref)
		attach(p, "branch", app, "release.yml", "refs/heads/main")
		attach(prooftest.New(t), "other-signer", app, "release.yml", prooftest.Ref)
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes", "--issuer", trust.GitHubIssuer})
	s.image = s.host + "/team/app:built"
	judge := s.initiated([]string{"source: https://github.com/team/app", "id: https://github.com/team/app/.github/workflows/release.yml\n"})
	s.judged(judge, "built", "other-source", "other-workflow", "branch", "other-signer")
	s.judged(judge, "again")
}

// TestPolicyInitSigned: of an image that was only signed, the policy has the signer.
func TestPolicyInitSigned(t *testing.T) {
	const people = "https://accounts.example.com"
	var key *prooftest.Holder
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		sign := func(h *prooftest.Holder, tag string) {
			image := neighbour(t, store, tag)
			payload := []byte(`{"critical":{"identity":{"docker-reference":"r.example.com/team/app"},"image":{"docker-manifest-digest":"` + image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
			store.Tagged(image, "sig", store.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload)))
		}
		key = p.KeyHolder()
		sign(p.Certified(prooftest.Identity{SAN: "ada@example.com", Issuer: people}), "by-ada")
		sign(p.Certified(prooftest.Identity{SAN: "ada@example.com", Issuer: people}), "by-ada-too")
		sign(p.Certified(prooftest.Identity{SAN: "eve@example.com", Issuer: people}), "by-eve")
		sign(key, "by-key")
		sign(p.KeyHolder(), "by-another-key")
		st, err := attest.NewStatement("app", neighbour(t, store, "bundle").Digest.Hex, attest.PredicateSign, map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		store.Attach(neighbour(t, store, "bundle"), p.Sign(prooftest.Identity{SAN: "ada@example.com", Issuer: people}, st), attest.PredicateSign)
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes", "--issuer", people})
	repo := s.host + "/team/app:"
	for _, tag := range []string{"by-ada", "bundle"} {
		s.image = repo + tag
		judge := s.initiated([]string{"signature:", "is: ada@example.com", "issuer: " + people})
		s.judged(judge, tag, "by-eve", "by-key")
		s.judged(judge, "by-ada-too")
	}
	s.image = repo + "by-key"
	s.run(exitRejected, []string{"policy", "init", s.image}, "--key FILE")
	judge := s.initiated([]string{"signature:", "key:"}, "--key", s.file("key.pub", key.PublicKey()))
	s.judged(judge, "by-key", "by-another-key", "by-ada")
	s.run(exitRejected, []string{"policy", "init", s.image, "--key", s.file("other.pub", s.p.KeyHolder().PublicKey())}, "proves nothing")
}

// shop is a policy about the images of a stage; the arguments are the source demanded of
// team/app, and further members of its rule.
func (s *stage) shop(source, more string) []byte {
	return []byte(`apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "` + s.host + `/team/app@*"}]
      accept:
        - built: {source: ` + source + `}
` + more)
}

// TestPolicyTest: what a policy decides about the images of arguments and manifests, by which
// rule, and where an image that is refused is named.
func TestPolicyTest(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	s.unproven("team/other", "v1")
	good, other := s.file("good.yaml", s.shop(prooftest.Source, "")), s.file("other.yaml", s.shop("https://git.example.com/team/other", ""))
	warned := s.file("warned.yaml", s.shop("https://git.example.com/team/other", "      mode: warn\n"))
	manifest := s.file("shop.yaml", []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  template:\n    spec:\n      containers:\n      - image: "+s.image+"\n      - image: "+s.host+"/team/other:v1\n"))

	s.run(exitOK, []string{"policy", "test", good, s.image}, "✓ accepted  "+s.image, "1 image: 1 accepted")
	s.run(exitRejected, []string{"policy", "test", other, s.image}, "✗ rejected", `rule "app" of policy "shop"`, "want")
	s.run(exitOK, []string{"policy", "test", warned, s.image}, "✓ accepted", `warning: rule "app" of policy "shop"`)
	s.run(exitUndecided, []string{"policy", "test", good, s.host + "/team/app:v9"}, "? undecided")
	s.run(exitRejected, []string{"policy", "test", good, "-f", manifest}, "✗ rejected  "+s.host+"/team/other:v1", `no rule of the policy "shop" is about this image`, "in Deployment shop/web, spec.template.spec.containers[1].image, line 9", "2 images: 1 accepted, 1 rejected")
	s.run(exitUsage, []string{"policy", "test", good}, "nothing to decide about")
	s.run(exitUsage, []string{"policy", "test", s.file("bad.yaml", []byte("kind: x\n")), s.image}, "bad.yaml:1:")

	requests := func(args ...string) int64 {
		t.Helper()
		before := s.asked.Load()
		s.run(exitOK, args)
		return s.asked.Load() - before
	}
	verifying := requests("verify", s.image, "--source", prooftest.Source, "--skip-source")
	if testing := requests("policy", "test", good, s.image); testing > verifying {
		t.Errorf("got %d requests, and verify needs %d", testing, verifying)
	}

	var answers []struct {
		Image, Digest, Namespace string
		Places                   []struct{ Path string }
		Decision                 struct{ Outcome, Reason string }
	}
	out := s.run(exitRejected, []string{"policy", "test", good, "-f", manifest, "--json"})
	if err := json.Unmarshal([]byte(out), &answers); err != nil || len(answers) != 2 || answers[0].Decision.Outcome != "accepted" || answers[1].Decision.Outcome != "rejected" || answers[1].Namespace != "shop" {
		t.Errorf("got %+v, %v, want one accepted and one rejected", answers, err)
	}

	// A policy of another namespace does not count; without a namespace, that of every one does.
	one := strings.Replace(strings.Replace(string(s.shop("https://git.example.com/team/other", "")), "kind: ImagePolicy", "kind: NamespacedImagePolicy", 1), "name: shop", "name: shop, namespace: shop", 1)
	both := s.file("both.yaml", []byte(string(s.shop(prooftest.Source, ""))+"---\n"+strings.Replace(one, "name: shop,", "name: strict,", 1)))
	s.run(exitOK, []string{"policy", "test", both, s.image, "-n", "lab"})
	s.run(exitRejected, []string{"policy", "test", both, s.image, "-n", "shop"}, `policy "strict"`)
	s.run(exitRejected, []string{"policy", "test", both, s.image}, `policy "strict"`)

	s.run(exitOK, []string{"policy", "explain", s.image, "--policy", good}, `✓ rule "app" of policy "shop": accepted, mode enforce`, "alternative 1: accepted", "✓ provenance")
	s.run(exitRejected, []string{"policy", "explain", s.image, "--policy", other}, "alternative 1: rejected", "✗ provenance")
	s.run(exitOK, []string{"policy", "explain", s.image, "--policy", good, "--json"}, `"rule": "app"`)
	s.run(exitUsage, []string{"policy", "explain", s.image}, "--policy is required")

	s.run(exitOK, []string{"policy", "diff", good, good, s.image}, "1 image: 0 decided otherwise")
	s.run(exitRejected, []string{"policy", "diff", good, other, "-f", manifest}, "✗ newly rejected  "+s.image, "in Deployment shop/web, spec.template.spec.containers[0].image, line 8", "2 images: 1 decided otherwise")
	s.run(exitOK, []string{"policy", "diff", other, good, s.image}, "✓ newly accepted")
	s.run(exitOK, []string{"policy", "diff", good, warned, s.image}, "newly warned")
	s.run(exitRejected, []string{"policy", "diff", good, other, s.image, "--json"}, `"change": "newly rejected"`)

	s.stop()
	s.run(exitUndecided, []string{"policy", "test", good, s.image}, "? undecided")
	s.run(exitUndecided, []string{"policy", "diff", good, other, s.image}, "? still undecided")
}

// TestVerifyBySet: verify and copy take policies of version 2, with the answers of policy test.
func TestVerifyBySet(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	s.unproven("team/other", "v1")
	another := "https://git.example.com/team/other"
	good, other, warned := s.file("good.yaml", s.shop(prooftest.Source, "")), s.file("other.yaml", s.shop(another, "")), s.file("warned.yaml", s.shop(another, "      mode: warn\n"))
	verify := func(code int, policy, what string, words ...string) string {
		t.Helper()
		return s.run(code, []string{"verify", what, "--policy", policy, "--skip-source"}, words...)
	}
	verify(exitOK, good, s.image, "✓ rule", "satisfied or exempt: app", "✓ provenance")
	verify(exitRejected, other, s.image, "✗ rule", `rule "app" of policy "shop"`, "✗ provenance")
	verify(exitOK, warned, s.image, `warning: rule "app" of policy "shop": rejected`)
	verify(exitRejected, good, s.host+"/team/other:v1", `no rule of the policy "shop" is about this image`)
	verify(exitUndecided, good, s.host+"/team/app:v9", "? image")
	verify(exitUsage, s.file("bad.yaml", []byte("kind: x\n")), s.image, "bad.yaml:1:")
	var v struct {
		Outcome, Digest string
		Decision        struct{ Rules []struct{ Rule string } }
	}
	if out := s.run(exitOK, []string{"verify", s.image, "--policy", good, "--skip-source", "--json"}); json.Unmarshal([]byte(out), &v) != nil || v.Outcome != "accepted" || len(v.Decision.Rules) != 1 || v.Digest == "" {
		t.Errorf("got %s", out)
	}
	s.run(exitRejected, []string{"verify", s.image, s.host + "/team/other:v1", "--policy", good, "--skip-source"}, "✓ accepted", "✗ rejected")
	s.run(exitUsage, []string{"verify", s.image, "--policy", good, "--contents"}, "--contents goes with flags")
	s.run(exitUsage, []string{"verify", s.image, "--policy", good, "--explain"}, "policy explain")
	file := s.file("app.tar.gz", []byte("app"))
	s.run(exitUsage, []string{"verify", file, "--bundle", file, "--policy", good}, "is about images")
	s.run(exitRejected, []string{"copy", s.image, "oci:" + filepath.Join(t.TempDir(), "copy"), "--policy", other})

	// A fact of the SBOM: its packages.
	with := func(expression string) string {
		return s.file("condition.yaml", []byte(strings.Replace(string(s.shop(prooftest.Source, "")), "      accept:", "      conditions: [{expression: '"+expression+"', message: sorry}]\n      accept:", 1)))
	}
	verify(exitOK, with(`sbom.packages.exists(p, p.name != "")`), s.image)
	verify(exitRejected, with(`!sbom.packages.exists(p, p.name != "")`), s.image, "condition: sorry")
	verify(exitUndecided, with(`attestations.exists(a, a.type == "x")`), s.image, "attestations is missing")

	// Where the namespace is not known, no policy of another one hides that this one denies.
	one := strings.Replace(string(s.shop(another, "      mode: audit\n")), "kind: ImagePolicy", "kind: NamespacedImagePolicy", 1)
	lab := strings.Replace(one, "name: shop", "name: lax, namespace: lab", 1)
	shop := strings.Replace(strings.Replace(one, "name: shop", "name: strict, namespace: shop", 1), "/team/app@*", "/elsewhere/app@*", 1)
	both := s.file("both.yaml", []byte(lab+"---\n"+shop))
	s.run(exitOK, []string{"policy", "test", both, s.image, "-n", "lab"})
	s.run(exitRejected, []string{"policy", "test", both, s.image, "-n", "shop"}, "no rule")
	s.run(exitRejected, []string{"policy", "test", both, s.image}, "no rule")
	verify(exitRejected, both, s.image, "no rule")
}

// TestRefLike: what init demands of a ref is a demand that a policy can have.
func TestRefLike(t *testing.T) {
	for ref, want := range map[string]policy.Ref{
		"refs/tags/v1.2.3": policy.Version("v1"), "refs/tags/1.2.3": nil, "refs/tags/latest-build": nil, "refs/heads/main": policy.RefName("refs/heads/main"), "": nil,
	} {
		got := refLike(ref)
		if got != want {
			t.Errorf("%s: got %v, want %v", ref, got, want)
		}
		source, err := policy.ParseSource("git.example.com/team/app")
		if err != nil {
			t.Fatal(err)
		}
		p := policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: source, Ref: got}}}
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
