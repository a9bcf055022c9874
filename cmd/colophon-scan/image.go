package main

import (
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/internal/limits"
)

// syftVersion is the version that documents name. A test compares it with go.mod; it is
// not read from the binary's build info, which may have been stripped.
const syftVersion = "1.52.0"

// imageOf opens an image by digest. The layout's index.json may name it directly or
// through another index.
func imageOf(path layout.Path, digest v1.Hash) (v1.Image, error) {
	index, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	return findImage(index, digest, 0)
}

func findImage(index v1.ImageIndex, digest v1.Hash, depth int) (v1.Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		switch {
		case d.Digest == digest && d.MediaType.IsImage():
			return index.Image(digest)
		case d.MediaType.IsIndex() && depth < 2:
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if img, err := findImage(child, digest, depth+1); err == nil {
				return img, nil
			} else if !errors.Is(err, errNotListed) {
				return nil, err
			}
		}
	}
	return nil, errNotListed
}

var errNotListed = errors.New("the layout's index does not list this image")

// bounded is an image that limits the unpacked size of its layers. The image is
// untrusted and could otherwise fill the platform's disk.
type bounded struct{ v1.Image }

func (b bounded) Layers() ([]v1.Layer, error) {
	layers, err := b.Image.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) > limits.Layers {
		return nil, fmt.Errorf("layers: got %d, want at most %d", len(layers), limits.Layers)
	}
	for i, l := range layers {
		layers[i] = boundedLayer{l}
	}
	return layers, nil
}

type boundedLayer struct{ v1.Layer }

func (b boundedLayer) Uncompressed() (io.ReadCloser, error) {
	r, err := b.Layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	return &boundedReader{ReadCloser: r, left: unpackedCap}, nil
}

// unpackedCap is the maximum unpacked size of a layer in bytes. It is a variable, so
// that a test does not need to unpack 16 GiB.
var unpackedCap int64 = limits.LayerPacked

type boundedReader struct {
	io.ReadCloser
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("the layer's unpacked size exceeds the limit")
	}
	return n, err
}
