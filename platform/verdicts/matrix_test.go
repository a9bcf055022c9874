package verdicts_test

import (
	"testing"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/matrix"
	"github.com/colophon-build/colophon/verify"
)

// TestMatrix: a store gives the answer that everything gives that decides about images, also when
// it answers from memory; and what is decided is known the second time.
func TestMatrix(t *testing.T) {
	w := matrix.Serve(t)
	roots, err := w.Trust()
	if err != nil {
		t.Fatal(err)
	}
	s := verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	for _, c := range w.Cases {
		sets, err := policy.ParseSets(c.Policy)
		if err == nil {
			err = s.Use(c.Name, sets, roots)
		}
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		ref, err := oci.ParseReference(c.Image)
		if err != nil {
			t.Fatal(err)
		}
		image, err := policy.ParseImage(c.Image)
		if err != nil {
			t.Fatal(err)
		}
		if image.Digest == "" {
			if image.Digest, err = s.Resolve(t.Context(), ref.Repository, ref.Identifier(), "", nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, again := range []bool{false, true} {
			a := s.Ask(t.Context(), verdicts.Question{Image: image, Repository: ref.Repository})
			if wrong := c.Differs(a.Decision.Outcome, a.Decision.Reason, a.Decision.Warnings); wrong != "" {
				t.Errorf("%s, %s, again %v: %s", c.Name, c.Image, again, wrong)
			}
			if again && a.Decision.Outcome != verify.Undecided && !a.Known {
				t.Errorf("%s: it was read again", c.Name)
			}
		}
	}
	if len(w.Cases) < 60 {
		t.Errorf("got %d cases", len(w.Cases))
	}
}
