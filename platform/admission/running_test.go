package admission

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/oci/imagelist"
)

// TestPulledImage: of a pod that names a tag, the image is the one that runs, if exactly one does.
func TestPulledImage(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	const tagged = "registry.example.com/app:v1"
	for what, c := range map[string]struct {
		image    string
		statuses []containerStatus
		want     string // empty: not known
	}{
		"a digest":           {tagged + "@" + b, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + b},
		"a tag":              {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"twice the same":     {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"the tag moved":      {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + b}}, ""},
		"not pulled yet":     {tagged, []containerStatus{{tagged, ""}}, ""},
		"no repository":      {tagged, []containerStatus{{tagged, a}}, ""},
		"another image":      {tagged, []containerStatus{{"registry.example.com/other:v1", "registry.example.com/other@" + a}}, ""},
		"a text, no digest":  {tagged, []containerStatus{{tagged, "registry.example.com/app@latest"}}, ""},
		"no status, no name": {tagged, nil, ""},
	} {
		var list imagelist.List
		if err := list.Document([]byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "` + c.image + `"}]}}`)); err != nil {
			t.Fatal(err)
		}
		var p runningPod
		p.Status.ContainerStatuses = c.statuses
		got, known := p.pulled(list.Images[0])
		if known != (c.want != "") || known && (got.Name != c.want || got.Reference.Digest != c.want[strings.Index(c.want, "@")+1:]) {
			t.Errorf("%s: got %s, %v, want %q", what, got.Name, known, c.want)
		}
	}
}
