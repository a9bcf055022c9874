package buildkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// errNoLayers is the recipe's error; BuildKit writes no provenance for such a build.
var errNoLayers = errors.New("the image has no layers: add a step after FROM scratch that creates a file")

// finish removes BuildKit's attestations from a layout. It returns the digest of the
// remaining image and the provenance statements that it removed. The layout then has
// one manifest or index, and only the blobs that it refers to.
func finish(dir string) (digest string, provenance [][]byte, err error) {
	l := &layout{dir: dir, keep: map[string]bool{}}
	raw, err := l.read("index.json", limits.Manifest)
	if err != nil {
		return "", nil, err
	}
	var top v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &top); err != nil {
		return "", nil, fmt.Errorf("index.json: %w", err)
	}
	if len(top.Manifests) != 1 {
		return "", nil, fmt.Errorf("index.json: got %d manifests, want 1", len(top.Manifests))
	}
	image := top.Manifests[0]
	if image.MediaType.IsIndex() {
		if image, provenance, err = l.strip(image); err != nil {
			return "", nil, err
		}
	}
	if image.MediaType.IsIndex() {
		err = l.walkIndex(image)
	} else {
		err = l.walkImage(image)
	}
	if err != nil {
		return "", nil, err
	}
	if err := l.prune(); err != nil {
		return "", nil, err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{MediaType: image.MediaType, Size: image.Size, Digest: image.Digest}}}
	if raw, err = json.Marshal(index); err != nil {
		return "", nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o644); err != nil {
		return "", nil, err
	}
	return image.Digest.String(), provenance, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// layout is an unpacked layout and the set of its blobs that are kept.
type layout struct {
	dir  string
	keep map[string]bool // by hex sha256
}

// read reads a file of at most size bytes.
func (l *layout) read(name string, size int) ([]byte, error) {
	return strict.ReadFile(filepath.Join(l.dir, name), size)
}

// manifest decodes the manifest or index d into v, after checking its size.
func (l *layout) manifest(d v1.Descriptor, v any) error {
	if d.Digest.Algorithm != "sha256" {
		return fmt.Errorf("digest algorithm: got %q, want sha256", d.Digest.Algorithm)
	}
	raw, err := l.read("blobs/sha256/"+d.Digest.Hex, limits.Manifest)
	if err != nil {
		return err
	}
	if int64(len(raw)) != d.Size {
		return fmt.Errorf("%s: got %d bytes, want %d", d.Digest, len(raw), d.Size)
	}
	if err := strict.Unmarshal(raw, limits.Manifest, v); err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	return nil
}

// strip removes the attestations from an index. It returns the image's manifest if
// there is one platform, else a new index of the manifests in their order; and the
// provenance statements.
func (l *layout) strip(d v1.Descriptor) (v1.Descriptor, [][]byte, error) {
	var none v1.Descriptor
	var index v1.IndexManifest
	if err := l.manifest(d, &index); err != nil {
		return none, nil, err
	}
	if len(index.Manifests) > limits.IndexManifests {
		return none, nil, fmt.Errorf("index: got %d manifests, want at most %d", len(index.Manifests), limits.IndexManifests)
	}
	var images []v1.Descriptor
	var provenance [][]byte
	for _, m := range index.Manifests {
		if m.Annotations[attest.DockerReferenceType] != "" {
			p, err := l.statements(m)
			if err != nil {
				return none, nil, fmt.Errorf("attestation manifest %s: %w", m.Digest, err)
			}
			provenance = append(provenance, p...)
			continue
		}
		images = append(images, m)
	}
	switch len(images) {
	case 0:
		return none, nil, errors.New("index: got no image, want at least 1")
	case 1:
		return images[0], provenance, nil
	}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: images})
	if err != nil {
		return none, nil, err
	}
	out := v1.Descriptor{MediaType: types.OCIImageIndex, Size: int64(len(raw)), Digest: v1.Hash{Algorithm: "sha256", Hex: hexSum(raw)}}
	return out, provenance, os.WriteFile(filepath.Join(l.dir, "blobs", "sha256", out.Digest.Hex), raw, 0o644)
}

// statements returns the provenance statements in an attestation manifest.
func (l *layout) statements(d v1.Descriptor) (out [][]byte, err error) {
	var m v1.Manifest
	if err := l.manifest(d, &m); err != nil {
		return nil, err
	}
	for _, layer := range m.Layers {
		if !strings.HasPrefix(layer.Annotations[attest.InTotoPredicateType], "https://slsa.dev/provenance/") {
			continue
		}
		raw, err := l.read("blobs/sha256/"+layer.Digest.Hex, limits.Bundle)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return out, nil
}

func (l *layout) walkIndex(d v1.Descriptor) error {
	var index v1.IndexManifest
	if err := l.manifest(d, &index); err != nil {
		return err
	}
	l.keep[d.Digest.Hex] = true
	for _, m := range index.Manifests {
		if !m.MediaType.IsImage() {
			return fmt.Errorf("%s in the index: got media type %q, want an image", m.Digest, m.MediaType)
		}
		if err := l.walkImage(m); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) walkImage(d v1.Descriptor) error {
	var m v1.Manifest
	if err := l.manifest(d, &m); err != nil {
		return err
	}
	if len(m.Layers) > limits.Layers {
		return fmt.Errorf("%s: got %d layers, want at most %d", d.Digest, len(m.Layers), limits.Layers)
	}
	if len(m.Layers) == 0 {
		return errNoLayers
	}
	l.keep[d.Digest.Hex] = true
	for _, b := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		info, err := os.Lstat(filepath.Join(l.dir, "blobs", "sha256", filepath.Base(b.Digest.Hex)))
		if err != nil {
			return fmt.Errorf("blob of %s: %w", d.Digest, err)
		}
		if info.Size() != b.Size {
			return fmt.Errorf("blob %s: got %d bytes, want %d", b.Digest, info.Size(), b.Size)
		}
		l.keep[b.Digest.Hex] = true
	}
	return nil
}

// prune removes the blobs that are not in l.keep.
func (l *layout) prune() error {
	dir := filepath.Join(l.dir, "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !l.keep[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
