package oci

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// bombLimits distinguish layers from decompression bombs. Honest layers are
// compressed to a tenth at best; floor allows for files full of zeros.
type bombLimits struct {
	floor   int64 // unpacked bytes that every layer may have
	ratio   int64 // a layer may have ratio times its packed size, if that is more than floor
	total   int64 // unpacked bytes of all layers of an image
	entries int   // tar entries of one layer
}

var defaultBomb = bombLimits{floor: 2 << 30, ratio: 50, total: 64 << 30, entries: 4 << 20}

const zstdWindow = 128 << 20 // the largest that zstd's own tools write by default

// budget is the number of unpacked bytes that the layers of one image have left.
type budget struct{ left atomic.Int64 }

func newBudget(total int64) *budget {
	b := &budget{}
	b.left.Store(total)
	return b
}

// unpack returns the decompressed layer within its limits. The caller calls done
// after use.
func unpack(blob io.Reader, d v1.Descriptor, bomb bombLimits, total *budget) (stream *boundedReader, done func(), err error) {
	how, err := packing(d.MediaType)
	if err != nil {
		return nil, nil, err
	}
	inner, done := blob, func() {}
	switch how {
	case "gzip":
		gz, err := gzip.NewReader(blob)
		if err != nil {
			return nil, nil, unpackError(err)
		}
		inner = gz
	case "zstd":
		zs, err := zstd.NewReader(blob, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, unpackError(err)
		}
		inner, done = zs, zs.Close
	}
	return &boundedReader{inner: inner, left: max(bomb.floor, bomb.ratio*d.Size), total: total}, done, nil
}

// measureLayer reads a layer, discards the content and fills in slot. It hashes each
// byte as stored and as unpacked.
func measureLayer(l *Layout, slot *MeasuredLayer, bomb bombLimits, total *budget) error {
	blob, err := l.Blob(context.Background(), slot.Descriptor)
	if err != nil {
		return err
	}
	defer blob.Close()
	bounded, done, err := unpack(blob, slot.Descriptor, bomb, total)
	if err != nil {
		return err
	}
	defer done()
	sum := sha256.New()
	err = readTar(io.TeeReader(bounded, sum), bomb.entries, bounded.left, func(*tar.Header, io.Reader) error { slot.Entries++; return nil })
	if err != nil {
		return unpackError(err)
	}
	if err := atEnd(blob); err != nil {
		return err
	}
	slot.DiffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	slot.Unpacked = bounded.read
	return nil
}

// unpackError turns an error of a decompressor or tar reader into a refusal. A
// failure to read the bytes stays as it is.
func unpackError(err error) error {
	if _, refused := errors.AsType[*refusal](err); refused || errors.Is(err, ErrMismatch) {
		return err
	}
	return refuse("unpacking: %w", err)
}

// boundedReader reads at most left bytes, and takes each byte from total.
type boundedReader struct {
	inner io.Reader
	left  int64
	read  int64
	total *budget
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	b.read += int64(n)
	if b.read > b.left {
		return 0, refuse("unpacks to more than %d bytes", b.left)
	}
	if b.total.left.Add(-int64(n)) < 0 {
		return 0, refuse("the image's layers unpack to too many bytes")
	}
	return n, err
}

// onlyPadding fails if anything but zeros follows the end of a tar, because other
// tar readers may continue there.
func onlyPadding(stream io.Reader) error {
	pad := make([]byte, 32<<10)
	for {
		n, err := stream.Read(pad)
		if slices.ContainsFunc(pad[:n], func(b byte) bool { return b != 0 }) {
			return refuse("data follows the end of the tar")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// checkName refuses names that lead out of the layer. One leading "/" is allowed:
// ko writes it, and to every runtime it is the root of the layer.
func checkName(name string) error {
	if name == "" || strings.ContainsRune(name, 0) || strings.HasPrefix(name, "//") {
		return refuse("entry name %q is not a path in the layer", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return refuse("entry %q climbs out of the layer", name)
		}
	}
	return nil
}
