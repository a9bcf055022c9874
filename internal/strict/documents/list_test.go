package documents

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/strict"
)

// TestObjects: the items of a list are documents, and what is wrong in one has its place in the file.
func TestObjects(t *testing.T) {
	const listed = "apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n- apiVersion: x/v1\n  kind: A\n- kind: B\n  apiVersion: x/v1\n"
	const asJSON = "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n  {\"apiVersion\": \"x/v1\", \"kind\": \"A\"}, {\"apiVersion\": \"x/v1\", \"kind\": \"B\",\n  \"list\": []}\n]}\n"
	for _, text := range []string{listed, asJSON, "---\n" + listed + "---\n" + "apiVersion: x/v1\nkind: C\n"} {
		docs, err := Objects([]byte(text), 5000, 3)
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		var kinds string
		for _, d := range docs {
			_, kind, err := d.Head()
			if err != nil {
				t.Error(err)
			}
			kinds += kind
		}
		if want := "ABC"[:len(docs)]; kinds != want || len(docs) < 2 {
			t.Errorf("got %s, want %s", kinds, want)
		}
	}
	for _, tt := range []struct{ text, want string }{
		{listed + "  flog: true\n", `10:3: there is no member "flog"; did you mean "flag"?`},
		{strings.Replace(asJSON, `"list": []`, `"flog": true`, 1), `3:3: there is no member "flog"`},
		{strings.Replace(asJSON, `"kind": "A"`, `"kind": "A", "flog": true`, 1), `2:39: there is no member "flog"`},
		{strings.Replace(asJSON, `"kind": "A"`, `"kind": "A", "kind": "A"`, 1), `2:39: duplicate member "kind"`},
		{listed + "- metadata: {name: x}\n", "10:3: expected an object with apiVersion and kind"},
		{listed + "- x\n", "10:3: "},
		{listed + "- apiVersion: v1\n  kind: List\n  items: [{apiVersion: v1, kind: List}]\n", "11:9: expected no list within a list"},
		{listed + "- apiVersion: v1\n  kind: PodList\n", "11:9: expected no list within a list"},
		{listed + "- {apiVersion: x/v1, kind: C}\n- {apiVersion: x/v1, kind: D}\n", "6:1: expected at most 3 objects"},
		{listed + "---\napiVersion: x/v1\nkind: C\n---\napiVersion: x/v1\nkind: D\n", "got 4 documents, want at most 3"},
		{strings.Replace(listed, `resourceVersion: ""`, "continue: abc", 1), "4:3: expected a whole list"},
		{strings.Replace(listed, `resourceVersion: ""`, "remainingItemCount: 7", 1), "4:3: expected a whole list"},
		{"apiVersion: v1\nkind: List\nitems: []\n", "3:8: expected items, found none"},
		{"apiVersion: v1\nkind: List\n", "1:1: "},
		{"apiVersion: v1\nkind: List\nitem: []\n", `3:1: there is no member "item"`},
	} {
		docs, err := Objects([]byte(tt.text), 5000, 3)
		for _, d := range docs {
			if err == nil {
				_, _, err = d.Head()
			}
			if err == nil {
				err = d.Unmarshal(&struct {
					APIVersion string `json:"apiVersion"`
					outer
				}{})
			}
		}
		if got := strict.In("F", err); got == nil || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("got %v, want %s in\n%s", got, tt.want, tt.text)
		}
	}
}
