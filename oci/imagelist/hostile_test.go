package imagelist

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/test/spent"
)

// TestObjectsWithinObjects: what a document says within an object hides no image of that object.
func TestObjectsWithinObjects(t *testing.T) {
	engine := func(spec string) string {
		return "apiVersion: example.com/v1\nkind: Engine\nmetadata: {name: e}\nspec: " + spec + "\n"
	}
	definition := "apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {containers: [{image: r.example.com/evil}]}"
	for what, tt := range map[string]struct{ doc, want string }{
		"a definition":               {"---\n{" + definition + "}\n---\n{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {versions: [{schema: {properties: {containers: {type: array}}}}]}}\n", ""},
		"definitions":                {"apiVersion: v1\nkind: List\nitems: [{" + definition + "}]\n", ""},
		"no definition":              {engine("{" + definition + "}"), "r.example.com/evil"},
		"a pod as a definition":      {"apiVersion: v1\nkind: Pod\nspec: {" + strings.Replace(definition, "spec: {", "", 1) + "\n", "r.example.com/evil"},
		"a definition of ours":       {"---\n{" + strings.Replace(definition, "apiextensions.k8s.io", "example.com", 1) + "}\n", "r.example.com/evil"},
		"a builtin version":          {engine("{apiVersion: v1, image: r.example.com/evil}"), "r.example.com/evil"},
		"a builtin object":           {engine("{apiVersion: v1, kind: ConfigMap, image: r.example.com/evil}"), "r.example.com/evil"},
		"a builtin version, a guess": {engine("{apiVersion: v1, runtimeImage: r.example.com/evil}"), "!spec.runtimeImage of Engine e"},
		"a builtin object, a guess":  {engine("{apiVersion: v1, kind: ConfigMap, runtimeImage: r.example.com/evil}"), "!runtimeImage of ConfigMap"},
		"a known object, a guess":    {engine("{apiVersion: tekton.dev/v1, kind: Task, runtimeImage: r.example.com/evil}"), "!runtimeImage of Task"},
		"a status, a guess":          {engine("{apiVersion: v1, kind: Pod, status: {runtimeImage: r.example.com/evil}}"), "!status.runtimeImage of Pod"},
		"an object in a field":       {"apiVersion: tekton.dev/v1\nkind: TaskRun\nspec: {taskRef: {apiVersion: tekton.dev/v1beta1, kind: Task, bundle: r.example.com/evil}}\n", "r.example.com/evil"},
		"a list of a custom kind":    {"apiVersion: postgresql.cnpg.io/v1\nkind: ClusterList\nitems: [{metadata: {name: c}, spec: {imageName: r.example.com/pg}}]\n", "r.example.com/pg"},
		"two deep":                   {engine("{apiVersion: v1, kind: A, b: {apiVersion: v1, kind: B, image: r.example.com/evil}}"), "r.example.com/evil"},
		"not in a builtin object":    {"apiVersion: v1\nkind: ConfigMap\ndata: {image: no, inner: {apiVersion: v1, kind: ConfigMap, data: {image: no}}}\n", ""},
	} {
		var l List
		if err := l.Document([]byte(tt.doc)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		var got []string
		for _, i := range l.Images {
			if i.Problem != "" {
				i.Name = "!" + i.Name
			}
			got = append(got, i.Name)
		}
		if !slices.Equal(got, strings.Fields(tt.want)) && strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
	}
}

// TestNamespaces: an image has the namespace of its object, however the object is named.
func TestNamespaces(t *testing.T) {
	const spec = "spec: {containers: [{image: r.example.com/a}]}"
	for what, doc := range map[string]string{
		"generateName":              "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-, namespace: shop}\n" + spec,
		"item of a typed list":      "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a, namespace: shop}, " + spec + "}]",
		"item of a list":            "apiVersion: v1\nkind: List\nitems: [{metadata: {namespace: shop}, " + spec + "}]",
		"object within an object":   "apiVersion: example.com/v1\nkind: Engine\nmetadata: {name: a, namespace: shop}\nspec: {pod: {apiVersion: v1, kind: Pod, metadata: {name: p}, " + spec + "}}",
		"template within an object": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: shop}\nspec: {template: {metadata: {labels: {}}, " + spec + "}}",
	} {
		var l List
		if err := l.Document([]byte(doc)); err != nil || len(l.Images) != 1 || l.Images[0].Places[0].Namespace != "shop" {
			t.Errorf("%s: got %+v, %v, want namespace shop", what, l.Images, err)
		}
	}
}

// TestLinesOfHostileDocuments: to find the lines takes no more time than to read the document,
// and nobody collects images without end.
func TestLinesOfHostileDocuments(t *testing.T) {
	long := strings.Repeat("k", 1<<20)
	var members, merges strings.Builder
	for i := range limits.Images {
		fmt.Fprintf(&members, "    k%d: {containers: [{image: r.example.com/a}]}\n", i)
	}
	for i := range 20_000 {
		fmt.Fprintf(&merges, "  - &m%d {m%d: 1}\n", i, i)
	}
	for what, tt := range map[string]struct{ doc, want string }{
		"JSON, below a long name":                 {`{"apiVersion":"v1","kind":"X","` + long + `":[` + strings.Repeat(`"r.example.com/a",`, 200_000) + `{"containers":[{"image":"r.example.com/a"}]}]}`, ""},
		"JSON, below a long name, and a problem":  {`{"apiVersion":"v1","kind":"X","containers":[{}],"` + long + `":[` + strings.Repeat(`1,`, 200_000) + `1]}`, ""},
		"YAML, a mapping with many members":       {"apiVersion: v1\nkind: X\nspec:\n" + members.String(), ""},
		"YAML, a mapping with many others merged": {"apiVersion: v1\nkind: X\nall:\n" + merges.String() + "spec:\n    <<: [" + strings.TrimSuffix(aliases(20_000), ",") + "]\n" + members.String(), ""},
		"JSON, too many images":                   {`{"apiVersion":"v1","kind":"Pod","containers":[` + strings.Repeat(`{"image":"a"},`, maxNamed) + `{"image":"a"}]}`, "names more than"},
		"YAML, too many images":                   {"apiVersion: v1\nkind: Pod\ncontainers:\n" + strings.Repeat("- image: a\n", maxNamed+1), "names more than"},
	} {
		start := spent.Now()
		var l List
		err := l.Document([]byte(tt.doc))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", what, err, tt.want)
		}
		if took := spent.Now() - start; took > 20*time.Second {
			t.Errorf("%s: it took %s", what, took)
		}
		t.Log(what, spent.Now()-start)
	}
}

func aliases(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "*m%d,", i)
	}
	return b.String()
}
