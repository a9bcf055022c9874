package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/klauspost/compress/gzip"

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

// readBlob reads a document of a layout and checks its digest.
func readBlob(path layout.Path, digest v1.Hash, most int64) ([]byte, error) {
	r, err := path.Blob(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s: got more than %d bytes", digest, most)
	}
	return raw, compare(digest, sha256.Sum256(raw))
}

// checkDocuments checks the digests of an image's manifest and configuration.
func checkDocuments(path layout.Path, image v1.Hash) error {
	raw, err := readBlob(path, image, limits.Manifest)
	if err != nil {
		return err
	}
	var manifest v1.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return err
	}
	_, err = readBlob(path, manifest.Config.Digest, limits.Config)
	return err
}

// compare returns an error unless the SHA-256 digest is the one that names the content.
func compare(named v1.Hash, sum [sha256.Size]byte) error {
	if got := hex.EncodeToString(sum[:]); named.Algorithm != "sha256" || named.Hex != got {
		return fmt.Errorf("digest: got sha256:%s, want %s", got, named)
	}
	return nil
}

// bounded is an image that checks the digests of its layers and limits their unpacked size.
// The image is untrusted and could otherwise fill the disk.
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
	digest, err := b.Digest()
	if err != nil {
		return nil, err
	}
	packed, err := b.Compressed()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	all := io.TeeReader(packed, sum)
	r, err := b.unpack(struct {
		*bufio.Reader
		io.Closer
	}{bufio.NewReaderSize(all, 64<<10), packed})
	if err != nil {
		return nil, err
	}
	return &boundedReader{ReadCloser: r, left: unpackedCap, check: func() error {
		if _, err := io.Copy(io.Discard, all); err != nil { // what follows the compressed content
			return err
		}
		if err := compare(digest, [sha256.Size]byte(sum.Sum(nil))); err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		return nil
	}}, nil
}

// unpack returns the decompressed content. Of gzip, which nearly all layers have, the decoder of
// klauspost/compress takes less time than that of the standard library.
func (b boundedLayer) unpack(packed interface {
	io.ReadCloser
	Peek(int) ([]byte, error)
}) (io.ReadCloser, error) {
	if magic, err := packed.Peek(2); err == nil && string(magic) == "\x1f\x8b" {
		r, err := gzip.NewReader(packed)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{r, packed}, nil
	}
	l, err := partial.CompressedToLayer(openedLayer{b.Layer, packed})
	if err != nil {
		return nil, err
	}
	return l.Uncompressed()
}

// openedLayer is a layer whose content is read once, from opened.
type openedLayer struct {
	v1.Layer
	opened io.ReadCloser
}

func (o openedLayer) Compressed() (io.ReadCloser, error) { return o.opened, nil }

// unpackedCap is the maximum unpacked size of a layer in bytes. It is a variable, so
// that a test does not need to unpack 16 GiB.
var unpackedCap int64 = limits.LayerPacked

type boundedReader struct {
	io.ReadCloser
	left  int64
	check func() error // called at the end
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("the layer's unpacked size exceeds the limit")
	}
	if errors.Is(err, io.EOF) {
		if wrong := b.check(); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}
