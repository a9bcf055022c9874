package oci

import (
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Values of the annotation "kind" in the index.json that `cosign save` writes.
const (
	cosignPrefix = "dev.cosignproject.cosign/"
	cosignImage  = cosignPrefix + "image" // or "imageIndex"
	cosignAtts   = cosignPrefix + "atts"
)

// savedByCosign returns references that a layout by `cosign save` can resolve though
// its entries have no tags: "" for the image, and cosign v2's tag for the
// attestations. It returns nil for any other layout, and if there are two images or
// two sets of attestations.
func savedByCosign(index *v1.IndexManifest) map[string]v1.Descriptor {
	var image, atts []v1.Descriptor
	for _, d := range index.Manifests {
		switch kind := d.Annotations["kind"]; {
		case kind == cosignAtts:
			atts = append(atts, d)
		case kind == cosignImage || kind == cosignImage+"Index":
			image = append(image, d)
		case !strings.HasPrefix(kind, cosignPrefix):
			return nil
		}
	}
	if len(image) != 1 || len(atts) > 1 {
		return nil
	}
	names := map[string]v1.Descriptor{"": image[0]}
	for _, d := range atts {
		names[CosignAttestations.Of(image[0].Digest)] = d
	}
	return names
}
