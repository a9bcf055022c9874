package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// listing is a registry whose one manifest is an index.
type listing struct {
	oci.Source
	raw []byte
}

func (l listing) Manifest(context.Context, v1.Hash) ([]byte, string, error) {
	return l.raw, string(types.OCIImageIndex), nil
}

// An index makes the command fetch each manifest that it lists.
func TestManifestsOfHugeIndex(t *testing.T) {
	for n, refused := range map[int]bool{limits.IndexManifests: false, limits.IndexManifests + 1: true} {
		image := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: slices.Repeat([]v1.Descriptor{image}, n)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = inspectPlatforms(t.Context(), listing{raw: raw}, v1.Descriptor{MediaType: types.OCIImageIndex, Size: int64(len(raw))})
		if refused != (err != nil && strings.Contains(err.Error(), "want at most")) {
			t.Errorf("%d manifests: got %v, refused: want %v", n, err, refused)
		}
	}
}
