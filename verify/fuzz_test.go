package verify_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// FuzzSecondOpinionOfReleases: an image whose proofs were spliced is accepted
// only if sigstore-go accepts each of the proofs about it.
func FuzzSecondOpinionOfReleases(f *testing.F) {
	p := prooftest.New(f)
	whole := p.Release(prooftest.NewStore(f))
	other := p.Release(prooftest.NewStore(f))
	other.Identity.Commit = strings.Repeat("cd", 20)
	stranger := prooftest.New(f)
	var bundles, donors [][]byte
	for _, kind := range prooftest.Kinds {
		bundles = append(bundles, p.Sign(whole.Signer(), whole.Statement(kind)))
		donors = append(donors, p.Sign(other.Signer(), other.Statement(kind)), stranger.Sign(whole.Signer(), whole.Statement(kind)))
		f.Add(uint8(len(bundles)), uint8(len(donors)), []byte{})
		f.Add(uint8(len(bundles)), uint8(len(donors)), []byte{7, 1, 1})
	}
	r := p.Root()
	digest, err := hex.DecodeString(whole.Image.Digest.Hex)
	if err != nil {
		f.Fatal(err)
	}
	opts := verify.Options{Trust: []*trust.Root{r}, Policy: demanded(f, policy.Document{Source: prooftest.Source})}
	now := time.Now()
	judge := func(t testing.TB, proofs [][]byte) *verify.Verdict {
		store := prooftest.NewStore(t)
		rel := p.Release(store)
		if rel.Image.Digest != whole.Image.Digest {
			t.Fatal("two images of the same bytes differ")
		}
		for i, raw := range proofs {
			rel.AttachBundle(prooftest.Kinds[i], raw)
		}
		return verify.Image(t.Context(), store, rel.Image.Digest.String(), now, opts)
	}
	if v := judge(f, bundles); v.Outcome != verify.Accepted {
		f.Fatalf("unbent: %s", v.Why())
	}
	f.Fuzz(func(t *testing.T, which, donor uint8, program []byte) {
		if len(program) > 30 {
			return
		}
		i := int(which) % len(bundles)
		proofs := slices.Clone(bundles)
		proofs[i] = prooftest.Splice(t, bundles[i], donors[int(donor)%len(donors)], program)
		if v := judge(t, proofs); v.Outcome != verify.Accepted {
			return
		}
		if err := prooftest.SecondOpinion(proofs[i], digest, r.Material, prooftest.Builder, prooftest.URL); err != nil && !bytes.Equal(proofs[i], bundles[i]) {
			t.Errorf("we accept, and sigstore-go does not: %v", err)
		}
		if b, err := bundle.ParsePlatform(proofs[i]); err != nil || b.Statement.PredicateType != prooftest.Kinds[i] {
			t.Errorf("accepted with %v in place of %s", err, prooftest.Kinds[i])
		}
	})
}
