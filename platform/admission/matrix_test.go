package admission_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/verify"
)

// TestMatrix: both webhooks, one after the other as the API server asks them, admit what everything
// accepts that decides about images, and nothing else. Rules about tags are left out: they decide
// nothing where images are named by digest.
func TestMatrix(t *testing.T) {
	w := matrix.Serve(t)
	roots, err := w.Trust()
	if err != nil {
		t.Fatal(err)
	}
	c, compared := newScene(t), 0
	for _, m := range w.Cases {
		if strings.Contains(string(m.Policy), "tag:") {
			continue
		}
		sets, err := policy.ParseSets(m.Policy)
		if err == nil {
			err = c.store.Use(m.Name, sets, roots)
		}
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		_, a, text := c.post(admission.PathMutate, c.body(pod(m.Image)))
		image := m.Image
		if !a.Response.Allowed {
			t.Errorf("%s: %s", m.Name, text)
		}
		if len(a.Response.Patch) > 0 {
			var patch []struct{ Value string }
			if err := json.Unmarshal(a.Response.Patch, &patch); err != nil || len(patch) != 1 {
				t.Fatalf("%s: %s", m.Name, a.Response.Patch)
			}
			image = patch[0].Value
		}
		_, a, text = c.post(admission.PathValidate, c.body(pod(image)))
		if a.Response.Allowed != (m.Outcome == verify.Accepted) || !strings.Contains(a.Response.Status.Message, m.Reason) {
			t.Errorf("%s, %s: got %s, want %s (%s)", m.Name, image, text, m.Outcome, m.Reason)
		}
		compared++
	}
	if compared < 60 {
		t.Errorf("compared %d cases", compared)
	}
	t.Logf("compared %d cases", compared)
}
