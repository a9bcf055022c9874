package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/prooftest"
)

// clusterPolicy is a ClusterImagePolicy about every image, with authorities.
func clusterPolicy(name, authorities string) string {
	return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: " + name + "}\nspec:\n  images: [{glob: '**'}]\n  authorities:\n" + authorities
}

func clusterKey(h *prooftest.Holder) string {
	return "  - key:\n      data: |\n        " + strings.ReplaceAll(strings.TrimSpace(string(h.PublicKey())), "\n", "\n        ") + "\n"
}

// TestClusterImagePolicies: the commands read them, alone and beside ours in one file.
func TestClusterImagePolicies(t *testing.T) {
	var ours, theirs *prooftest.Holder
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		ours, theirs = p.KeyHolder(), p.KeyHolder()
		for tag, h := range map[string]*prooftest.Holder{"ours": ours, "theirs": theirs} {
			h.Unlogged = true
			image := neighbour(t, store, tag)
			payload := []byte(`{"critical":{"identity":{"docker-reference":"r.example.com/team/app"},"image":{"docker-manifest-digest":"` + image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
			store.Tagged(image, "sig", store.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload)))
		}
		neighbour(t, store, "unsigned")
	})
	repo := s.host + "/team/app:"
	policy := s.file("cip.yaml", []byte(clusterPolicy("signed", clusterKey(ours))))
	s.run(exitOK, []string{"policy", "test", policy, repo + "ours"}, "1 accepted")
	s.run(exitRejected, []string{"policy", "test", policy, repo + "theirs", repo + "unsigned"}, `rule "signed" of policy "ClusterImagePolicy": rejected: authority "authority-0": the image has no signature of the image by this authority`, "2 rejected")
	s.run(exitOK, []string{"policy", "explain", repo + "ours", "--policy", policy}, `rule "signed" of policy "ClusterImagePolicy": accepted, mode enforce`)
	s.run(exitOK, []string{"verify", repo + "ours", "--policy", policy}, "✓ image", "✓ rule", "accepted")
	s.run(exitRejected, []string{"verify", repo + "theirs", "--policy", policy}, "✗ rule", "rejected")
	s.run(exitRejected, []string{"verify", repo + "ours", repo + "theirs", "--policy", policy}, "has no signature of the image")

	s.run(exitOK, []string{"copy", repo + "ours", filepath.Join(t.TempDir(), "layout"), "--policy", policy})
	s.run(exitRejected, []string{"copy", repo + "theirs", filepath.Join(t.TempDir(), "layout"), "--policy", policy}, "has no signature of the image")

	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.TrustedRoot()), "--yes", "--issuer", "https://accounts.example.com"})

	// All policies about an image must be satisfied, whoever's they are.
	mixed := s.file("mixed.yaml", []byte(clusterPolicy("signed", clusterKey(ours))+"---\n"+strings.Replace(goodPolicy, "reg.example.com/team/**", "**", 1)))
	s.run(exitRejected, []string{"policy", "test", mixed, repo + "ours"}, `rule "app" of policy "shop"`)
	both := s.file("both.yaml", []byte(clusterPolicy("signed", clusterKey(ours))+"---\n"+strings.Replace(clusterPolicy("second", clusterKey(theirs)), "spec:", "spec:\n  mode: warn", 1)))
	s.run(exitOK, []string{"policy", "test", both, repo + "ours"}, "warning: rule \"second\"")
	s.run(exitRejected, []string{"policy", "diff", policy, mixed, repo + "ours"}, "newly rejected")

	// What nobody can answer here is undecided.
	secret := s.file("secret.yaml", []byte(clusterPolicy("signed", "  - key: {secretRef: {name: signing}}\n")))
	s.run(exitUndecided, []string{"policy", "test", secret, repo + "ours"}, "the key is in the secret signing")

	s.run(exitOK, []string{"policy", "check", policy}, "note: rule \"signed\": dangerous: a signature without a transparency log entry is accepted", "0 faults")
	s.run(exitRejected, []string{"policy", "check", secret}, "every image is undecided: the key is in the secret signing")
	broken := s.file("broken.yaml", []byte(strings.Replace(clusterPolicy("signed", clusterKey(ours)), "authorities:", "authority:", 1)))
	for _, args := range [][]string{{"policy", "check", broken}, {"policy", "test", broken, repo + "ours"}, {"verify", repo + "ours", "--policy", broken}} {
		s.run(exitUsage, args, broken+":6:3: ", `there is no member "authority"; did you mean "authorities"?`)
	}
	s.run(exitUsage, []string{"policy", "test", s.file("none.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")), repo + "ours"}, "the file has no policy")
}

// TestClusterImagePoliciesOfWorkloads: a manifest says what runs an image, and policies about some
// workloads decide as in a cluster.
func TestClusterImagePoliciesOfWorkloads(t *testing.T) {
	var ours *prooftest.Holder
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		ours = p.KeyHolder()
		ours.Unlogged = true
		image := neighbour(t, store, "ours")
		payload := []byte(`{"critical":{"identity":{"docker-reference":"r.example.com/team/app"},"image":{"docker-manifest-digest":"` + image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
		store.Tagged(image, "sig", store.Layer(payload, attest.SimpleSigningMediaType, ours.Simple(payload)))
		neighbour(t, store, "unsigned")
	})
	image, unsigned := s.host+"/team/app:ours", s.host+"/team/app:unsigned"
	pass := clusterPolicy("all", "  - static: {action: pass}\n")
	matching := func(match string) string {
		return s.file("cip.yaml", []byte(pass+"---\n"+strings.Replace(clusterPolicy("some", clusterKey(ours)), "spec:\n", "spec:\n  match: ["+match+"]\n", 1)))
	}
	template := "\n  template:\n    metadata: {labels: {env: test}}\n    spec:\n      containers: [{name: a, image: '" + unsigned + "'}]\n"
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop, labels: {env: prod}}\nspec:" + template
	job := strings.NewReplacer("apps/v1", "batch/v1", "Deployment", "Job", "env: prod", "env: test").Replace(deployment)
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: one, namespace: shop}\nspec: {containers: [{name: a, image: '" + unsigned + "'}]}\n"
	listed := func(items ...string) string {
		text := "apiVersion: v1\nkind: List\nitems:\n"
		for _, item := range items {
			text += "- " + strings.ReplaceAll(strings.TrimSpace(item), "\n", "\n  ") + "\n"
		}
		return text
	}
	test := func(code int, policy, manifest string, words ...string) {
		t.Helper()
		file := s.file("manifest.yaml", []byte(manifest))
		s.run(code, []string{"policy", "test", policy, "-f", file}, words...)
		s.run(code, []string{"verify", "-f", file, "--policy", policy, "--skip-source"})
	}
	const deployments = "{group: apps, version: v1, resource: deployments}"
	refused := `rule "some" of policy "ClusterImagePolicy": rejected`

	s.run(exitUndecided, []string{"policy", "test", matching(deployments), unsigned}, "it is not known what runs the image: name the manifest with -f")
	test(exitUndecided, matching(deployments), unsigned+"\n", "name the manifest with -f")
	test(exitRejected, matching(deployments), deployment, refused, "in Deployment shop/web")
	test(exitOK, matching(deployments), job)
	test(exitOK, matching(deployments), pod)
	test(exitOK, matching(deployments), strings.ReplaceAll(deployment, unsigned, image))
	test(exitRejected, matching(deployments), listed(pod, job, deployment), refused, "in Deployment shop/web", "2 images: 1 accepted, 1 rejected")
	test(exitRejected, matching("{version: v1, resource: pods}"), listed(pod), refused)
	test(exitRejected, matching("{version: v1, resource: pods}"), "apiVersion: v1\nkind: PodList\nitems:\n- {metadata: {name: one}, spec: {containers: [{image: '"+unsigned+"'}]}}\n", refused)
	test(exitOK, matching("{version: v1, resource: pods}"), deployment) // its pods are asked about when they are made

	// The labels are the workload's own.
	labelled := func(env string) string {
		return matching("{group: apps, version: '*', resource: deployments, selector: {matchLabels: {env: " + env + "}}}")
	}
	test(exitRejected, labelled("prod"), deployment, refused)
	test(exitOK, labelled("test"), deployment)
	test(exitUndecided, labelled("prod"), strings.Replace(deployment, "env: prod", "env: true", 1)) // no API server takes it

	// An object within another is no workload of its own, and hides in none.
	test(exitOK, matching(deployments), "apiVersion: example.com/v1\nkind: Wrapper\nmetadata: {name: x}\nspec:\n  wrapped:\n    "+strings.ReplaceAll(strings.TrimSpace(deployment), "\n", "\n    ")+"\n")
	test(exitRejected, matching("{group: example.com, version: v1, resource: wrappers}"), "apiVersion: example.com/v1\nkind: Wrapper\nmetadata: {name: x}\nspec:\n  wrapped:\n    "+strings.ReplaceAll(strings.TrimSpace(job), "\n", "\n    ")+"\n", refused)
	test(exitRejected, matching(deployments), strings.Replace(deployment, "      containers:", "      apiVersion: v1\n      kind: Pod\n      containers:", 1), refused)

	old, changed := matching("{version: v1, resource: pods}"), s.file("changed.yaml", []byte(pass))
	file := s.file("manifest.yaml", []byte(listed(pod, deployment)))
	s.run(exitOK, []string{"policy", "diff", old, changed, "-f", file}, "newly accepted", "2 images: 1 decided otherwise")
	s.run(exitOK, []string{"policy", "diff", old, changed, "-f", file, "--json"}, `"Kind": "Pod"`)

	// What a policy in Rego reads of the workload.
	evaluator(t)
	reading := func(include, rule string) string {
		return s.file("cip.yaml", []byte(strings.Replace(pass, "spec:\n", "spec:\n  policy:\n    type: rego\n    "+include+": true\n    data: |\n      package sigstore\n      "+rule+"\n", 1)))
	}
	s.run(exitUndecided, []string{"policy", "test", reading("includeSpec", "isCompliant { true }"), image}, "the spec of the workload, which is not known: name the manifest with -f")
	test(exitOK, reading("includeSpec", `isCompliant { input.spec.template.spec.containers[0].name == "a" }`), deployment)
	test(exitRejected, reading("includeSpec", `isCompliant { input.spec.template.spec.hostNetwork }`), deployment)
	test(exitOK, reading("includeObjectMeta", `isCompliant { input.metadata.labels.env == "prod" }`), deployment)
	test(exitRejected, reading("includeObjectMeta", `isCompliant { input.metadata.labels.env == "prod" }`), listed(deployment, job), "in Job shop/web", "2 images: 1 accepted, 1 rejected")
	test(exitOK, reading("includeTypeMeta", `isCompliant { input.typemeta.kind == "Pod"; input.typemeta.apiVersion == "v1" }`), pod)
	test(exitRejected, reading("includeTypeMeta", `isCompliant { input.spec }`), pod) // it did not ask for it
}

// TestClusterImagePoliciesInAList: what kubectl get -o yaml prints is read, and an error has its place.
func TestClusterImagePoliciesInAList(t *testing.T) {
	s := newStage(t)
	item := func(text string) string {
		return "- " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
	}
	list := "apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n" + item(clusterPolicy("first", "  - static: {action: pass}\n")) + item(clusterPolicy("second", "  - static: {action: fail, message: never}\n")) + item(strings.Replace(goodPolicy, "reg.example.com/team/**", "other.example.com/team/**", 1))
	file := s.file("list.yaml", []byte(list))
	s.run(exitRejected, []string{"policy", "test", file, s.image}, `rule "second" of policy "ClusterImagePolicy": rejected`, "never")
	s.run(exitOK, []string{"policy", "check", file}, "list.yaml:", "1 policy file")
	for old, place := range map[string]string{"action: fail": "19:16:", "unmatched: deny": "24:5:"} {
		broken := s.file("broken.yaml", []byte(strings.Replace(list, old, "no"+old, 1)))
		s.run(exitUsage, []string{"policy", "check", broken}, "broken.yaml:"+place, "there is no member")
		s.run(exitUsage, []string{"policy", "test", broken, s.image}, "broken.yaml:"+place, "there is no member")
	}
	twice := s.file("twice.yaml", []byte(strings.Replace(list, "name: second", "name: first", 1)))
	s.run(exitUsage, []string{"policy", "check", twice}, "twice.yaml:15:20:", "found two of kind ClusterImagePolicy")
	part := s.file("part.yaml", []byte(strings.Replace(list, `resourceVersion: ""`, "continue: abc", 1)))
	s.run(exitUsage, []string{"policy", "test", part, s.image}, "part.yaml:4:3: expected a whole list")
	empty := s.file("empty.yaml", []byte("apiVersion: v1\nkind: List\nitems: []\n"))
	s.run(exitUsage, []string{"policy", "test", empty, s.image}, "expected items, found none")
	s.run(exitUsage, []string{"policy", "convert", file, "--to", "kyverno"}, "expected documents of one kind")
	ours := s.file("ours.yaml", []byte("apiVersion: v1\nkind: List\nitems:\n"+item(goodPolicy)))
	s.run(exitOK, []string{"policy", "check", ours}, "0 faults")
}

// evaluator puts colophon-eval into PATH.
func evaluator(t *testing.T) {
	t.Helper()
	bin, err := filepath.Abs("../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, eval.Program)); err != nil {
		needs.Missing(t, "%v: run make build", err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}
