package verdicts_test

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// signed pushes an image that a key signed as cosign v2 does; nil: nobody did.
func (c *scene) signed(content string, key *prooftest.Holder) v1.Descriptor {
	s := prooftest.NewStore(c.t)
	s.Tar = []byte(content)
	image, _ := s.Image("v-" + content)
	if key != nil {
		c.sign(s, image, key)
	}
	c.push(s)
	return image
}

func (c *scene) sign(s *prooftest.Store, image v1.Descriptor, key *prooftest.Holder) {
	key.Unlogged = true
	payload := []byte(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
	s.Tagged(image, "sig", s.Layer(payload, attest.SimpleSigningMediaType, key.Simple(payload)))
}

// clusterPolicy is a ClusterImagePolicy about a glob, with more members of the spec.
func clusterPolicy(name, glob, more string) string {
	return "---\napiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  images: [{glob: '" + glob + "'}]\n" + more
}

func keyOf(h *prooftest.Holder) string {
	return "  authorities:\n  - key:\n      data: |\n        " + strings.ReplaceAll(strings.TrimSpace(string(h.PublicKey())), "\n", "\n        ") + "\n"
}

// loader returns what makes documents count in the scene's store.
func (c *scene) loader(noMatch policy.Unmatched) *verdicts.Loader {
	l := verdicts.NewLoader(c.store, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{NoMatchPolicy: noMatch})
	l.Tell(verdicts.TrustDocuments, []verdicts.Document{{Name: "root", Raw: c.p.Document()}})
	return l
}

func (c *scene) tell(l *verdicts.Loader, texts ...string) {
	c.t.Helper()
	var docs []verdicts.Document
	for i, text := range texts {
		docs = append(docs, verdicts.Document{Name: string(rune('a' + i)), Raw: []byte(strings.ReplaceAll(text, "HOST", c.host))})
	}
	l.Tell(verdicts.PolicyDocuments, docs)
	if _, problem := l.Ready(); problem != "" {
		c.t.Fatal(problem)
	}
}

const allowsAll = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: all}\nspec: {unmatched: allow, rules: []}\n"

// TestClusterImagePolicies: they count beside our own policies; what no document is about is what
// both say; and nothing passes because a registry does not answer.
func TestClusterImagePolicies(t *testing.T) {
	c := newScene(t)
	ours, theirs := c.p.KeyHolder(), c.p.KeyHolder()
	good, bad, none := c.question(c.signed("good", ours)), c.question(c.signed("bad", theirs)), c.question(c.signed("none", nil))
	l := c.loader("")
	about := clusterPolicy("signed", "HOST/team/*", keyOf(ours))
	c.tell(l, about)
	c.expect("signed", good, verify.Accepted)
	if a := c.expect("again", good, verify.Accepted); !a.Known {
		t.Error("it was read again")
	}
	c.expect("signed by somebody else", bad, verify.Rejected)
	c.expect("not signed", none, verify.Rejected)

	before := c.asked.Load()
	for _, text := range []string{allowsAll, about} {
		for _, other := range []struct {
			noMatch policy.Unmatched
			want    verify.Outcome
		}{{"", verify.Rejected}, {policy.DenyUnmatched, verify.Rejected}, {policy.AllowUnmatched, verify.Accepted}, {policy.WarnUnmatched, verify.Accepted}} {
			c.tell(c.loader(other.noMatch), text)
			q := good
			q.Image.Name = "elsewhere.example.com/app"
			a := c.expect("about no policy, "+string(other.noMatch), q, other.want)
			if (len(a.Decision.Warnings) > 0) != (other.noMatch == policy.WarnUnmatched) || c.asked.Load() != before {
				t.Errorf("%s: got warnings %q after %d requests", other.noMatch, a.Decision.Warnings, c.asked.Load()-before)
			}
		}
	}

	// Ours and theirs: all must be satisfied.
	c.tell(l, about, rules)
	c.expect("ours demands a release", good, verify.Rejected)
	c.tell(l, about, allowsAll)
	c.expect("ours allows", good, verify.Accepted)
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	other := c.question(v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}})
	if a := c.expect("the registry does not answer", other, verify.Undecided); !strings.Contains(a.Decision.Reason, "signed") {
		t.Errorf("got %q", a.Decision.Reason)
	}
	c.tell(l, strings.Replace(about, "spec:", "spec:\n  mode: warn", 1), allowsAll)
	if a := c.expect("only a warning", other, verify.Accepted); len(a.Decision.Warnings) != 1 {
		t.Errorf("got %q", a.Decision.Warnings)
	}
	if image := (policy.Image{Name: c.host + "/team/app", Tag: "v1"}); c.store.Enforced("shop", image) {
		t.Error("a policy that only warns enforces")
	} else if c.tell(c.loader(policy.AllowUnmatched), clusterPolicy("end", "HOST/team/app*1", keyOf(ours)), allowsAll); !c.store.Enforced("shop", image) {
		t.Error("a tag passes that may lead to an image that a policy is about")
	}
}

// TestClusterImagePoliciesNobodyAskedFor: without the setting, such a document is an error, in a file of its own
// or beside ours; what counted before does.
func TestClusterImagePoliciesNobodyAskedFor(t *testing.T) {
	c := newScene(t)
	image := c.question(c.signed("none", nil))
	image.Image.Name = "elsewhere.example.com/app"
	l := verdicts.NewLoader(c.store, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	l.Tell(verdicts.TrustDocuments, []verdicts.Document{{Name: "root", Raw: c.p.Document()}})
	const denies = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: none}\nspec: {unmatched: deny, rules: []}\n"
	c.tell(l, denies)
	pass := clusterPolicy("pass", "**", "  authorities: [{static: {action: pass}}]\n")
	for name, docs := range map[string][]string{"alone": {pass}, "in one file": {allowsAll + pass}, "in another file": {allowsAll, pass}} {
		var told []verdicts.Document
		for i, text := range docs {
			told = append(told, verdicts.Document{Name: string(rune('a' + i)), Raw: []byte(text)})
		}
		l.Tell(verdicts.PolicyDocuments, told)
		if _, problem := l.Ready(); problem == "" {
			t.Errorf("%s: got no error", name)
		}
		c.expect(name, image, verify.Rejected)
	}
}

// TestClusterImagePolicyChanges: a change counts at once, and one about other images reads nothing.
func TestClusterImagePolicyChanges(t *testing.T) {
	c := newScene(t)
	ours, theirs := c.p.KeyHolder(), c.p.KeyHolder()
	q, l := c.question(c.signed("x", ours)), c.loader("")
	c.tell(l, clusterPolicy("a", "HOST/team/*", keyOf(ours)))
	c.expect("first", q, verify.Accepted)
	reads := c.store.Stats().Reads
	c.tell(l, clusterPolicy("a", "HOST/team/*", keyOf(ours)), clusterPolicy("b", "other.example.com/*", keyOf(theirs)))
	if a := c.expect("another policy", q, verify.Accepted); !a.Known || c.store.Stats().Reads != reads {
		t.Error("a policy about other images made it read again")
	}
	c.tell(l, clusterPolicy("a", "HOST/team/*", keyOf(theirs)))
	c.expect("another key", q, verify.Rejected)
	c.tell(l, clusterPolicy("a", "HOST/team/*", keyOf(ours)))
	c.expect("back", q, verify.Accepted)
	secret := clusterPolicy("a", "HOST/team/*", "  authorities: [{key: {secretRef: {name: pub}}}]\n")
	c.tell(l, secret)
	c.expect("nobody has the key", q, verify.Undecided)
	holds := func(h *prooftest.Holder) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: pub}\nstringData:\n  k: |\n    " + strings.ReplaceAll(strings.TrimSpace(string(h.PublicKey())), "\n", "\n    ") + "\n"
	}
	c.tell(l, secret, holds(ours))
	c.expect("the secret has it", q, verify.Accepted)
	c.tell(l, secret, holds(theirs))
	c.expect("the secret has another one", q, verify.Rejected)
	c.tell(l, clusterPolicy("a", "HOST/team/*", "  authorities: [{static: {action: pass}}]\n"))
	c.expect("everybody", q, verify.Accepted)
	c.tell(l, clusterPolicy("a", "HOST/team/*", ""))
	c.expect("nobody", q, verify.Rejected)
}

// TestClusterImagePolicyBroken: a broken one changes nothing, one of a namespace's people counts for
// nobody, and without the setting no document of policy-controller counts.
func TestClusterImagePolicyBroken(t *testing.T) {
	c := newScene(t)
	ours := c.p.KeyHolder()
	q, l := c.question(c.signed("x", nil)), c.loader("")
	pass := clusterPolicy("pass", "**", "  authorities: [{static: {action: pass}}]\n")
	deny := clusterPolicy("a", "HOST/team/*", keyOf(ours))
	c.tell(l, deny)
	for what, docs := range map[string][]verdicts.Document{
		"an unknown member": {{Name: "a", Raw: []byte(strings.Replace(pass, "spec:", "spec:\n  x: 1", 1))}},
		"two of one name":   {{Name: "a", Raw: []byte(pass)}, {Name: "b", Raw: []byte(pass)}},
		"of a namespace":    {{Name: "a", Raw: []byte(strings.ReplaceAll(deny, "HOST", c.host))}, {Name: "b", Namespace: "shop", Raw: []byte(pass)}},
	} {
		l.Tell(verdicts.PolicyDocuments, docs)
		c.expect(what, q, verify.Rejected)
	}
	plain := verdicts.NewLoader(c.store, slog.New(slog.DiscardHandler), nil)
	plain.Tell(verdicts.TrustDocuments, nil)
	plain.Tell(verdicts.PolicyDocuments, []verdicts.Document{{Name: "a", Raw: []byte(pass)}})
	if _, problem := plain.Ready(); problem == "" {
		t.Error("a ClusterImagePolicy counts although nobody asked for it")
	}
	c.expect("nobody asked for it", q, verify.Rejected)
}

// TestClusterImagePolicyWorkloads: a policy about some workloads counts for these alone, and is
// undecided if nobody knows what runs the image.
func TestClusterImagePolicyWorkloads(t *testing.T) {
	c := newScene(t)
	q, l := c.question(c.signed("x", nil)), c.loader(policy.AllowUnmatched)
	c.tell(l, clusterPolicy("a", "HOST/team/*", "  match: [{version: v1, resource: pods, selector: {matchLabels: {tier: web}}}]\n"+keyOf(c.p.KeyHolder())))
	c.expect("nobody knows", q, verify.Undecided)
	pod := func(tier string) *cip.Workload {
		return cip.WorkloadOf("v1", "Pod", map[string]any{"metadata": map[string]any{"labels": map[string]any{"tier": tier}}})
	}
	q.Workload = pod("db")
	c.expect("another pod", q, verify.Accepted)
	q.Workload = pod("web")
	c.expect("this pod", q, verify.Rejected)
	q.Workload = pod("db")
	c.expect("another pod, again", q, verify.Accepted)
}

// TestClusterImagePolicySource: signatures in another repository count, and new ones there are seen.
func TestClusterImagePolicySource(t *testing.T) {
	c := newScene(t)
	ours := c.p.KeyHolder()
	s := prooftest.NewStore(t)
	image, _ := s.Image("v1")
	c.push(s)
	q, l := c.question(image), c.loader("")
	c.tell(l, clusterPolicy("a", "HOST/team/*", strings.TrimSuffix(keyOf(ours), "\n")+"\n    source: [{oci: HOST/signatures}]\n"))
	for range 3 { // what is attached is compared with what was attached at the look before
		c.expect("not signed", q, verify.Rejected)
		c.later(2 * time.Second)
	}
	c.sign(s, image, ours)
	dst, err := oci.OpenRegistry(c.host+"/signatures", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Push(t.Context(), dst)
	c.later(2 * time.Second)
	c.expect("signed elsewhere", q, verify.Accepted)
}

// TestClusterImagePolicyLanguages: policies in Rego that look at the workload decide for each
// workload, from one reading; a burst evaluates one that does not once.
func TestClusterImagePolicyLanguages(t *testing.T) {
	bin, err := filepath.Abs("../../out/bin")
	if err == nil {
		_, err = os.Stat(filepath.Join(bin, eval.Program))
	}
	if err != nil {
		needs.Missing(t, "%v: run make evaluator", err)
	}
	t.Setenv("PATH", bin)
	c := newScene(t)
	ours := c.p.KeyHolder()
	q, l := c.question(c.signed("x", ours)), c.loader("")
	rego := func(include, body string) string {
		return clusterPolicy("a", "HOST/team/*", "  policy:\n    type: rego\n    "+include+"\n    data: |\n      package sigstore\n      isCompliant { "+body+" }\n"+keyOf(ours))
	}
	c.tell(l, rego("includeSpec: true", "input.spec.hostNetwork == false"))
	c.expect("nobody knows the spec", q, verify.Undecided)
	for _, host := range []bool{false, true, false} {
		q.Workload = cip.WorkloadOf("v1", "Pod", map[string]any{"metadata": map[string]any{}, "spec": map[string]any{"hostNetwork": host}})
		want := verify.Accepted
		if host {
			want = verify.Rejected
		}
		c.expect("a pod", q, want)
	}
	c.tell(l, rego("includeSpec: false", "input.authorityMatches"))
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if a := c.store.Ask(t.Context(), q); a.Decision.Outcome != verify.Accepted {
				t.Errorf("got %s: %s", a.Decision.Outcome, a.Decision.Reason)
			}
		})
	}
	all.Wait()
	// Without the program, only what is remembered is known: 100 answers came from one evaluation.
	t.Setenv("PATH", "/nonexistent")
	c.expect("remembered", q, verify.Accepted)
	c.later(2 * time.Minute) // a policy in Rego may ask for the time
	c.expect("no program", q, verify.Undecided)
}
