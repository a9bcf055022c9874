package oci

import (
	"bytes"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Values of the annotation "kind" in the index.json that `cosign save` writes.
const (
	cosignPrefix = "dev.cosignproject.cosign/"
	cosignImage  = cosignPrefix + "image" // or "imageIndex"
	cosignSigs   = cosignPrefix + "sigs"
	cosignAtts   = cosignPrefix + "atts"
)

// savedByCosign returns references that a layout by `cosign save` can resolve though
// its entries have no tags: "" for the image, and cosign v2's tags for the signatures and
// the attestations. It returns nil for any other layout, and if there are two of a kind.
func savedByCosign(index *v1.IndexManifest) map[string]v1.Descriptor {
	found := map[string][]v1.Descriptor{}
	for _, d := range index.Manifests {
		kind := d.Annotations["kind"]
		if !strings.HasPrefix(kind, cosignPrefix) {
			return nil
		}
		kind = strings.TrimSuffix(kind, "Index")
		if found[kind] = append(found[kind], d); len(found[kind]) > 1 {
			return nil
		}
	}
	if len(found[cosignImage]) == 0 {
		return nil
	}
	image := found[cosignImage][0]
	names := map[string]v1.Descriptor{"": image}
	for kind, tag := range map[string]CosignTag{cosignSigs: CosignSignatures, cosignAtts: CosignAttestations} {
		for _, d := range found[kind] {
			names[tag.Of(image.Digest)] = d
		}
	}
	return names
}

// unlisted returns the manifests of a layout that name the subject and that index.json
// need not list: cosign v3 saves the bundles of an image as blobs alone. They claim to be
// referrers, as the entries of every listing do.
func (l *Layout) unlisted(subject v1.Hash) (found []v1.Descriptor, err error) {
	blobs := 0
	err = l.files.walk(func(name string, dir bool) error {
		h, err := layoutFile(name, dir)
		if err != nil || h == (v1.Hash{}) {
			return nil // another check is about the files that do not belong here
		}
		if blobs++; blobs > maxBlobs {
			return refuse("layout %s: more than %d blobs", l.dir, maxBlobs)
		}
		d, named, err := l.naming(h, subject)
		if named {
			found = append(found, d)
		}
		return err
	})
	return found, err
}

// naming reports whether a blob is the manifest of a referrer of subject, as small as
// Attachments wants them, and returns its descriptor.
func (l *Layout) naming(h, subject v1.Hash) (d v1.Descriptor, named bool, err error) {
	f, size, err := l.files.open(blobPath(h))
	if err != nil {
		return d, false, err
	}
	f.Close()
	if size > attachedManifest {
		return d, false, nil
	}
	raw, err := l.read(blobPath(h), attachedManifest)
	if err != nil || !bytes.Contains(raw, []byte(subject.Hex)) {
		return d, false, err
	}
	if err := checkDigest(raw, h); err != nil {
		return d, false, fmt.Errorf("layout %s: blob %w", l.dir, err)
	}
	c, err := parseUntyped(raw)
	if err != nil || c.Subject == nil || c.Subject.Digest != subject {
		return d, false, nil // not a manifest: one of the documents that speak of the subject
	}
	return v1.Descriptor{MediaType: c.MediaType, Digest: h, Size: size}, true, nil
}
