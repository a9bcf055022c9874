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

// bombLimits tell a layer from a decompression bomb. Honest layers pack to a
// tenth at best; files full of zeros, which exist, are what floor is for.
type bombLimits struct {
	floor   int64 // bytes that any layer may unpack to
	ratio   int64 // beyond floor: times its packed size
	total   int64 // bytes of all layers
	entries int   // in one layer
}

var defaultBomb = bombLimits{floor: 2 << 30, ratio: 50, total: 64 << 30, entries: 4 << 20}

const zstdWindow = 128 << 20 // what zstd's own tools write at most by default

// budget is shared by the layers of one image.
type budget struct{ left atomic.Int64 }

func newBudget(total int64) *budget {
	b := &budget{}
	b.left.Store(total)
	return b
}

// unpack opens a layer's decompressor over its blob, bounded; done gives it back.
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

// measureLayer unpacks the layer to nowhere and fills in slot. Each byte of
// the blob is hashed as stored and as unpacked.
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

// unpackError: what a decompressor or tar reader says of bytes that are there
// is about the bytes. Failures to read them stay what they are.
func unpackError(err error) error {
	if _, refused := errors.AsType[*refusal](err); refused || errors.Is(err, ErrMismatch) {
		return err
	}
	return refuse("unpacking: %w", err)
}

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

// onlyPadding fails where more than zeros follow the end of a tar: other tar
// readers go on where ours sees the end.
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

// checkName refuses names that climb. One leading "/" is the layer's root to
// every runtime, and ko writes it.
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
