package imagelist

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// objectWith returns an object of a kind with a text at a path, such as spec.steps[].image.
func objectWith(k Kind, path, text string) map[string]any {
	var value any = text
	tokens := strings.Split(path, ".")
	for _, token := range slices.Backward(tokens) {
		name := strings.TrimRight(token, "[]")
		for range strings.Count(token, "[]") {
			value = []any{value}
		}
		if name == "*" {
			name = "any-name"
		}
		value = map[string]any{name: value}
	}
	object := value.(map[string]any)
	object["apiVersion"], object["kind"], object["metadata"] = k.Group+"/"+k.Versions[0], k.Kind, map[string]any{"name": "x"}
	return object
}

// TestKinds: the images of each kind are found at each place where its definition has a field for
// them.
func TestKinds(t *testing.T) {
	file, err := os.Open("testdata/kinds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	seen, fields := map[string]bool{}, 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		name, path, _ := strings.Cut(lines.Text(), " ")
		k, ok := known()[name]
		if !ok || k.Set == "" {
			t.Fatalf("%s is not known", name)
		}
		seen[name], fields = true, fields+1
		path = strings.TrimLeft(path, "+ ")
		none := strings.HasPrefix(path, "-")
		path = strings.TrimPrefix(path, "-")
		raw, err := json.Marshal(objectWith(k, path, "registry.example.com/team/app:v1"))
		if err != nil {
			t.Fatal(err)
		}
		var l List
		if err := l.Document(raw); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		found := len(l.Images) == 1 && l.Images[0].Problem == "" && l.Images[0].Reference.Repository == "registry.example.com/team/app"
		if found == none || none && len(l.Images) > 0 {
			t.Errorf("%s %s: got %+v", name, path, l.Images)
		}
	}
	for name, k := range known() {
		if k.Set == "" {
			continue
		}
		if !seen[name] || len(k.Versions) == 0 || k.Resource == "" || k.Source == "" {
			t.Errorf("%s: expected versions, a resource, a source, and its fields in testdata/kinds.txt", name)
		}
	}
	if fields < 140 {
		t.Errorf("got %d fields", fields)
	}
}

// TestParameters: a name with parameters is not an image, and is known to be one of those that only
// pods name; in a kind without parameters it is a wrong name, and so it is within a stranger's object.
func TestParameters(t *testing.T) {
	for text, want := range map[string]bool{
		`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{},"spec":{"steps":[{"image":"$(params.image)"}]}}`:                                                                 true,
		`{"apiVersion":"argoproj.io/v1alpha1","kind":"Workflow","metadata":{},"spec":{"templates":[{"container":{"image":"r.example.com/{{inputs.parameters.x}}"}}]}}`:              true,
		`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{},"spec":{"steps":[{"image":"{{x}}"}]}}`:                                                                           false,
		`{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","metadata":{},"spec":{"template":{"spec":{"containers":[{"image":"{{x}}"}]}}}}`:                                      false,
		`{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":[{"image":"$(params.image)"}]}}`:                                                                        false,
		`{"apiVersion":"example.com/v1","kind":"Engine","metadata":{},"spec":{"x":{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{},"spec":{"steps":[{"image":"$(x)"}]}}}}`: false,
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{},"spec":{"steps":[{"image":"$(x)"}]}}]}`:                                true,
	} {
		var l List
		if err := l.Document([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if len(l.Images) != 1 || l.Images[0].Problem == "" || l.Images[0].Parameters != want {
			t.Errorf("%s: got %+v, want parameters %v", text, l.Images, want)
		}
	}
}
