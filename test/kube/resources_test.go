package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict/documents"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
	"github.com/colophon-build/colophon/test/schematest"
)

// define makes the cluster know Colophon's resources.
func define(t testing.TB, c *kubetest.Cluster) {
	t.Helper()
	dir := filepath.Join(harness.Root(t), "deploy/kubernetes/chart/definitions")
	c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", dir)
	c.Kubectl(t, "wait", "--for=condition=Established", "--timeout=30s", "-f", dir)
	// A definition has this condition if its schema is one that the API server can check completely.
	for _, name := range []string{"imagepolicies", "namespacedimagepolicies", "trustroots"} {
		c.Eventually(t, name+" are served", func() bool {
			_, err := c.Try("get", name, "-A")
			return err == nil
		})
		if out := c.Kubectl(t, "get", "crd", name+".colophon.build", "-o", `jsonpath={.status.conditions[?(@.type=="NonStructuralSchema")]}`); out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestResourcesAreExplained: kubectl knows each member of a policy, for people who write one.
func TestResourcesAreExplained(t *testing.T) {
	c := kubetest.Start(t)
	define(t, c)
	for path, want := range map[string]string{
		"imagepolicy.spec":                                "-required-",
		"imagepolicy.spec.rules.accept.built.source":      "repository",
		"namespacedimagepolicy.spec.rules.exemptions":     "until",
		"trustroot.spec.document":                         "byte by byte",
		"imagepolicy.spec.rules.accept.signature.signer":  "insecureUnloggedKey",
		"imagepolicy.status.conditions":                   "observedGeneration",
		"imagepolicy.spec.rules.conditions.expression":    "FIELD: expression",
		"imagepolicy.spec.rules.accept.built.sourceTrack": "reviewers",
	} {
		if out, err := c.Try("explain", path); err != nil || !strings.Contains(out, want) {
			t.Errorf("kubectl explain %s: got %v, %q, want %q", path, err, out, want)
		}
	}
}

// TestCookbookIsAccepted: the recipes of docs/policy.md, and the good vectors of the format, are
// policies in Kubernetes as they are in files.
func TestCookbookIsAccepted(t *testing.T) {
	c := kubetest.Start(t)
	define(t, c)
	root := harness.Root(t)
	_, book, _ := strings.Cut(read(t, filepath.Join(root, "docs/policy.md")), "## Cookbook\n")
	recipes := strings.Split(book, "```yaml\n")[1:]
	if len(recipes) < 20 {
		t.Fatalf("got %d recipes", len(recipes))
	}
	var all strings.Builder
	for i, r := range recipes {
		rule, _, _ := strings.Cut(r, "```")
		all.WriteString("---\napiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: recipe-" + string(rune('a'+i)) + "}\nspec:\n  unmatched: deny\n  rules:\n    - name: app\n      " +
			strings.ReplaceAll(strings.TrimSpace(rule), "\n", "\n      ") + "\n")
	}
	c.Apply(t, all.String())
	t.Cleanup(func() { c.Kubectl(t, "delete", "imagepolicies", "--all") })
	if out := c.Kubectl(t, "get", "imagepolicies", "-o", "name"); strings.Count(out, "\n") != len(recipes) {
		t.Errorf("got policies %s, want %d", out, len(recipes))
	}
	good, _ := filepath.Glob(filepath.Join(root, "spec/policy/v2/good/*"))
	if len(good) < 5 {
		t.Fatalf("got %d good vectors", len(good))
	}
	for _, file := range good {
		for document := range strings.SplitSeq(read(t, file), "\n---\n") {
			if err := dryRun(c, document); err != nil && !strings.Contains(err.Error(), "not found") {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestBrokenPoliciesAreRefused: the API server refuses each policy that the schema refuses. What no
// schema says, such as whether an expression compiles, it stores; admission says so in the status.
func TestBrokenPoliciesAreRefused(t *testing.T) {
	c := kubetest.Start(t)
	define(t, c)
	schema := schematest.Compile(t, "imagepolicy.json")
	bad, _ := filepath.Glob(filepath.Join(harness.Root(t), "spec/policy/v2/bad/*.yaml"))
	refused := 0
	for _, file := range bad {
		docs, err := documents.Read([]byte(read(t, file)), limits.Request, 8)
		if err != nil || len(docs) != 1 || schematest.Validate(schema, docs[0].JSON) == nil {
			continue
		}
		if refused++; dryRun(c, string(docs[0].JSON)) == nil {
			t.Errorf("%s: the API server accepts it, and the schema does not", filepath.Base(file))
		}
	}
	if refused < 20 {
		t.Errorf("got %d bad vectors that the schema refuses", refused)
	}
}

// TestUnknownMembers: kubectl has the API server refuse a member that the schema does not name.
// Asked not to, the API server removes it: docs/kubernetes.md warns of that.
func TestUnknownMembers(t *testing.T) {
	c := kubetest.Start(t)
	define(t, c)
	const policy = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: typo}\nspec: {unmatched: deny, rules: [{name: app, images: [{glob: registry.example.com/**}], accept: [{built: {source: https://git.example.com/app, requireSuorce: true}}]}]}\n"
	if err := dryRun(c, policy); err == nil || !strings.Contains(err.Error(), `unknown field "spec.rules[0].accept[0].built.requireSuorce"`) {
		t.Errorf("got %v, want the member refused", err)
	}
	out, err := c.TryInput(policy, "apply", "--dry-run=server", "--validate=ignore", "-o", "yaml", "-f", "-")
	if err != nil || !strings.Contains(out, "source: https://git.example.com/app") || strings.Contains(out, "      requireSuorce") {
		t.Errorf("got %v and\n%s\nwant the policy without the member", err, out)
	}
}

// dryRun asks the API server whether it would store an object.
func dryRun(c *kubetest.Cluster, object string) error {
	_, err := c.TryInput(object, "apply", "--dry-run=server", "-f", "-")
	return err
}

func read(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
