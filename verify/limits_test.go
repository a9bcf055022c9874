package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestMoreClaimsThanAreListed: a list of unsigned claims that is cut says so.
func TestMoreClaimsThanAreListed(t *testing.T) {
	for _, n := range []int{64, 65, 300} {
		c := newScene(t)
		raw, _, err := c.s.Manifest(t.Context(), c.r.Image.Digest)
		if err != nil {
			t.Fatal(err)
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(raw, &index); err != nil {
			t.Fatal(err)
		}
		m, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: c.s.Put([]byte("{}"), types.OCIConfigJSON),
			Layers: slices.Repeat([]v1.Descriptor{c.s.Layer([]byte("{}"), "application/vnd.in-toto+json", nil)}, n)})
		if err != nil {
			t.Fatal(err)
		}
		d := c.s.Put(m, types.OCIManifestSchema1)
		d.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
		index.Manifests = append(index.Manifests, d)
		if raw, err = json.Marshal(index); err != nil {
			t.Fatal(err)
		}
		for _, all := range []bool{false, true} {
			got := verify.Claims(t.Context(), c.s, c.s.Put(raw, types.OCIImageIndex).Digest, all)
			if last := got[len(got)-1].Form; len(got) != min(n, 65) || (last == "not listed") != (n > 64) {
				t.Errorf("of %d claims: got %d, and the last %q", n, len(got), last)
			}
		}
	}
}

// TestMoreThanIsRead: the largest items are not read when all together are too large. What
// they may prove is then unknown, and a proof among the others is found.
func TestMoreThanIsRead(t *testing.T) {
	for _, proved := range []bool{true, false} {
		c := newScene(t)
		for i := range 257 { // of 16 MiB each, as their descriptors say; those that are read are found to be false
			junk := c.s.Put(fmt.Append(nil, "junk ", i), attest.BundleMediaType)
			junk.Size = 16 << 20
			c.s.AttachLayer(c.r.Image, junk)
		}
		if proved {
			c.r.Attach(prooftest.Kinds...)
			if v := c.verdict(); v.Outcome != verify.Accepted {
				t.Errorf("with the proof: got %s: %s", v.Outcome, v.Why())
			}
			continue
		}
		c.want(verify.Undecided, verify.LinkProvenance, verify.Unknown)
	}
}

// TestMoreProofsThanAreAsked: repositories are asked about eight proofs of one image. If
// they contradict all of these, the image is rejected, whatever the others say.
func TestMoreProofsThanAreAsked(t *testing.T) {
	c := newScene(t)
	c.wants.RequireSource = true
	for range 10 {
		c.r.Attach(prooftest.Kinds...)
	}
	asked := 0
	c.opts.SourceCheck = func(context.Context, source.Question) (source.Standing, error) {
		asked++
		return source.Standing{}, nil
	}
	c.want(verify.Rejected, verify.LinkSource, verify.Broken)
	if asked != 8 {
		t.Errorf("asked %d times, want 8", asked)
	}
}
