package oci

import (
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// How `cosign save` marks the entries of the layout that it writes.
const (
	cosignPrefix = "dev.cosignproject.cosign/"
	cosignImage  = cosignPrefix + "image" // or …/imageIndex
	cosignAtts   = cosignPrefix + "atts"
)

// savedByCosign is what a layout that `cosign save` wrote answers to names that
// its entries do not carry, as the registry did that it was saved from: "" is
// the image, and the tag that cosign v2 gives attestations is theirs. It is nil
// for any other layout, and where an entry of either kind is there twice.
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
