package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// How `cosign save` marks the entries of the layout that it writes.
const (
	cosignKind  = "kind"
	cosignImage = "dev.cosignproject.cosign/image" // or …/imageIndex
	cosignAtts  = "dev.cosignproject.cosign/atts"
)

// savedLayout is a layout that `cosign save` wrote, answering as the registry
// did that it was saved from: the image is the only entry without a tag, and
// its attestations have the tag that cosign v2 gave them.
type savedLayout struct {
	oci.Source
	image v1.Hash
	atts  v1.Descriptor // zero where none were saved
}

// openSaved returns src as it is unless dir is such a layout of one image.
func openSaved(dir string, src oci.Source) (oci.Source, error) {
	path := filepath.Join(dir, "index.json")
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return src, nil // what is wrong with it is for the layout to say
	}
	raw, err := readFile(path, limits.Manifest)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return src, nil
	}
	var image, atts []v1.Descriptor
	for _, d := range index.Manifests {
		switch kind := d.Annotations[cosignKind]; {
		case kind == cosignAtts:
			atts = append(atts, d)
		case kind == cosignImage || kind == cosignImage+"Index":
			image = append(image, d)
		case !strings.HasPrefix(kind, "dev.cosignproject.cosign/"):
			return src, nil
		}
	}
	if len(image) != 1 {
		return src, nil
	}
	if len(atts) > 1 {
		return nil, fmt.Errorf("layout %s: got %d entries of kind %s, want one", dir, len(atts), cosignAtts)
	}
	s := &savedLayout{Source: src, image: image[0].Digest}
	if len(atts) == 1 {
		s.atts = atts[0]
	}
	return s, nil
}

// Resolve implements oci.Source.
func (s *savedLayout) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	switch {
	case reference == "":
		reference = s.image.String()
	case s.atts.Digest.Hex != "" && reference == s.image.Algorithm+"-"+s.image.Hex+".att":
		reference = s.atts.Digest.String()
	}
	return s.Source.Resolve(ctx, reference)
}
