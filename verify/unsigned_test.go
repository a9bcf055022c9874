package verify_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestUnsignedClaims: BuildKit writes attestations into the index, and anybody
// could have. The perfect provenance there proves nothing.
func TestUnsignedClaims(t *testing.T) {
	p, store := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(store)
	raw, _, err := store.Manifest(context.Background(), r.Image.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	platform := index.Manifests[0].Digest
	claim := store.Layer(statement(t, platform.Hex, attest.PredicateSLSA1, r.Predicate(attest.PredicateSLSA1)), "application/vnd.in-toto+json",
		map[string]string{"in-toto.io/predicate-type": attest.PredicateSLSA1})
	m, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{claim},
		Config: store.Put([]byte(`{"architecture":"unknown","os":"unknown"}`), types.OCIConfigJSON)})
	if err != nil {
		t.Fatal(err)
	}
	d := store.Put(m, types.OCIManifestSchema1)
	d.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": platform.String()}
	index.Manifests = append(index.Manifests, d)
	if raw, err = json.Marshal(index); err != nil {
		t.Fatal(err)
	}
	image := store.Put(raw, types.OCIImageIndex)
	store.Tag("buildkit", image)
	store.Tagged(image, "sbom", store.Layer([]byte(`{}`), "text/spdx+json", nil))

	opts := verify.Options{Trust: rootOf(t, p.Document()), Policy: demanded(t, policy.Document{Source: prooftest.Source})}
	v := verify.Image(context.Background(), store, "buildkit", time.Now(), opts)
	if v.Outcome != verify.Rejected || link(t, v, verify.LinkProvenance).Status != verify.Absent {
		t.Errorf("got %+v, want it rejected for want of provenance", v)
	}
	want := verify.Claim{Form: "BuildKit attestation", Type: attest.PredicateSLSA1, About: platform.String(), Digest: claim.Digest.String()}
	if len(v.Unsigned) != 1 || v.Unsigned[0] != want {
		t.Errorf("got %+v, want %+v", v.Unsigned, want)
	}
	all := verify.Claims(context.Background(), store, image.Digest, true)
	if len(all) != 2 || !strings.Contains(all[0].Says, prooftest.Builder) || all[1].Form != "cosign attachment" || all[1].Type != "text/spdx+json" {
		t.Errorf("got %+v", all)
	}
}
