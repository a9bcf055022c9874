package imagelist

import "testing"

// TestObject: each image has the object that the API server gets, and no other.
func TestObject(t *testing.T) {
	for name, c := range map[string]struct {
		text       string
		apiVersion string
		kind       string
		different  int // objects
	}{
		"a document":          {"apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{image: a.io/a}, {image: a.io/b}]}}}\n", "apps/v1", "Deployment", 1},
		"two documents":       {"apiVersion: v1\nkind: Pod\nspec: {containers: [{image: a.io/a}]}\n---\napiVersion: v1\nkind: Pod\nspec: {containers: [{image: a.io/a}]}\n", "v1", "Pod", 2},
		"a list":              {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {}, spec: {containers: [{image: a.io/a}]}}\n- {apiVersion: apps/v1, kind: ReplicaSet, spec: {containers: [{image: a.io/a}]}}\n", "apps/v1", "ReplicaSet", 2},
		"a list of one kind":  {"apiVersion: v1\nkind: PodList\nitems:\n- {metadata: {}, spec: {containers: [{image: a.io/a}]}}\n- {metadata: {}, spec: {containers: [{image: a.io/a}]}}\n", "v1", "Pod", 2},
		"a list in a list":    {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, spec: {containers: [{image: a.io/a}]}}]}\n", "v1", "Pod", 1},
		"within another":      {"apiVersion: example.com/v1\nkind: Wrapper\nspec: {object: {apiVersion: v1, kind: Pod, metadata: {}, spec: {containers: [{image: a.io/a}]}}, image: a.io/b}\n", "example.com/v1", "Wrapper", 1},
		"items of no list":    {"apiVersion: example.com/v1\nkind: Wrapper\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {}, spec: {containers: [{image: a.io/a}]}}\n", "example.com/v1", "Wrapper", 1},
		"a list further down": {"apiVersion: example.com/v1\nkind: Wrapper\nspec: {kind: List, apiVersion: v1, items: [{apiVersion: v1, kind: Pod, metadata: {}, spec: {containers: [{image: a.io/a}]}}]}\n", "example.com/v1", "Wrapper", 1},
	} {
		var l List
		if err := l.Document([]byte(c.text)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		different := map[*Object]bool{}
		for _, i := range l.Images {
			for _, p := range i.Places {
				different[p.Object] = true
				if p.Object == nil || p.Object.APIVersion != c.apiVersion || p.Object.Kind != c.kind {
					t.Errorf("%s: got %+v, want %s of %s", name, p.Object, c.kind, c.apiVersion)
				}
			}
		}
		if len(different) != c.different {
			t.Errorf("%s: got %d objects, want %d", name, len(different), c.different)
		}
	}
	for _, text := range []string{"a.io/a\n", "services: {a: {image: a.io/a}}\n"} {
		var l List
		if err := l.Document([]byte(text)); err != nil || l.Images[0].Places[0].Object != nil {
			t.Errorf("got %v, %v, want an image of no object", l.Images, err)
		}
	}
}
