package matrix

import (
	"testing"
	"time"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// decided is the decision of the library about a case.
func decided(t *testing.T, w *World, c Case, now time.Time) *verify.Decision {
	t.Helper()
	sets, err := policy.ParseSets(c.Policy)
	if err != nil {
		t.Fatalf("%v in\n%s", err, c.Policy)
	}
	ref, err := oci.ParseReference(c.Image)
	if err != nil {
		t.Fatal(err)
	}
	src, err := ref.Open(oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	image, err := policy.ParseImage(c.Image)
	if err != nil {
		t.Fatal(err)
	}
	d, err := src.Resolve(t.Context(), ref.Identifier())
	if err != nil {
		t.Fatal(err)
	}
	image.Digest = d.Digest.String()
	var opts verify.Options
	if opts.Trust, err = w.Trust(); err != nil {
		t.Fatal(err)
	}
	return verify.Gather(t.Context(), src, image.Digest, now, opts, verify.AskFor(sets, image)).Decide(sets, image)
}

// TestLibrary: the library gives the answer of each case, and the table has enough of each.
func TestLibrary(t *testing.T) {
	w, now := Serve(t), time.Now()
	names, outcomes, warned := map[string]bool{}, map[verify.Outcome]int{}, 0
	for _, c := range w.Cases {
		if names[c.Name] {
			t.Errorf("two cases have the name %q", c.Name)
		}
		names[c.Name] = true
		outcomes[c.Outcome]++
		if c.Outcome == verify.Accepted && c.Warning != "" {
			warned++
		}
		d := decided(t, w, c, now)
		if wrong := c.Differs(d.Outcome, d.Reason, d.Warnings); wrong != "" {
			t.Errorf("%s, %s: %s", c.Name, c.Image, wrong)
		}
	}
	if len(w.Cases) < 60 || outcomes[verify.Accepted] < 20 || outcomes[verify.Rejected] < 20 || outcomes[verify.Undecided] < 8 || warned < 4 {
		t.Errorf("got %d cases: %v, %d of them with warnings only", len(w.Cases), outcomes, warned)
	}
	t.Logf("%d cases: %v, %d of them with warnings only", len(w.Cases), outcomes, warned)
}
