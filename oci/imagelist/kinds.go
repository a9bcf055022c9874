package imagelist

import (
	_ "embed"
	"encoding/json"
	"strings"
	"sync"
)

// kinds.json has what is known of widespread custom kinds. The chart in deploy/kubernetes has the
// same file, to ask about those of a set. testdata/kinds.txt has the fields of their definitions.
//
//go:embed kinds.json
var kindsFile []byte

// Kind is a custom kind whose images are known: containers, image volumes, members called "image",
// and Fields.
type Kind struct {
	Set        string   `json:"set,omitempty"` // of kinds that are chosen together; empty: the API server is not asked about them
	Group      string   `json:"group"`
	Kind       string   `json:"kind"`
	Versions   []string `json:"versions,omitempty"`
	Resource   string   `json:"resource,omitempty"`
	Fields     []string `json:"fields,omitempty"`     // more fields that name images, as in Fields
	Parameters []string `json:"parameters,omitempty"` // begin a parameter in a text. The controller fills them in, and runs the images in pods
	Source     string   `json:"source,omitempty"`     // definition that says so: OWNER/NAME@COMMIT PATH, on GitHub
}

// known returns the kinds of kinds.json by KIND.GROUP.
var known = sync.OnceValue(func() map[string]Kind {
	var all []Kind
	if err := json.Unmarshal(kindsFile, &all); err != nil {
		panic(err) // a test reads it
	}
	out := make(map[string]Kind, len(all))
	for _, k := range all {
		out[k.Kind+"."+k.Group] = k
	}
	return out
})

// hasParameters reports whether a text of an object has parameters that the controller of its kind
// fills in. If the object is within others, no such controller reads it.
func hasParameters(o object, text string) bool {
	if o.outer != nil && !o.whole {
		return false
	}
	for _, begin := range known()[kindName(o)].Parameters {
		if strings.Contains(text, begin) {
			return true
		}
	}
	return false
}

// isRBD reports whether a member "image" is that of a volume of Ceph, which is none of a container.
func isRBD(path []any) bool {
	n := len(path)
	return n >= 4 && path[n-2] == "rbd" && path[n-4] == "volumes"
}
