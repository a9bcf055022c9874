package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Entries calls visit for every tar entry in the layers of an image manifest, from
// the lowest layer (0) up, whiteouts included (image-spec layer.md). visit need not
// read all of content. The limits on layers are those of MeasureLayout. The bytes
// match their digests only if Entries returns nil, so callers must not use what they
// collected otherwise. An error of visit ends Entries and is returned as it is.
func Entries(ctx context.Context, src Source, manifest v1.Hash, visit func(layer int, h *tar.Header, content io.Reader) error) error {
	raw, mediaType, err := src.Manifest(ctx, manifest)
	if err != nil {
		return err
	}
	m, err := parseContent(raw, types.MediaType(mediaType))
	if err != nil {
		return fmt.Errorf("manifest %s: %w", manifest, err)
	}
	if m.Config == nil {
		return refuse("%s is an index, want the manifest of one platform", manifest)
	}
	total := newBudget(defaultBomb.total)
	for i, d := range m.Layers {
		err := entriesOf(ctx, src, d, total, func(h *tar.Header, content io.Reader) error { return visit(i, h, content) })
		if err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
	}
	return nil
}

// LayerEntries is like Entries for one layer.
func LayerEntries(ctx context.Context, src Source, layer v1.Descriptor, visit func(h *tar.Header, content io.Reader) error) error {
	return entriesOf(ctx, src, layer, newBudget(defaultBomb.total), visit)
}

func entriesOf(ctx context.Context, src Source, d v1.Descriptor, total *budget, visit func(*tar.Header, io.Reader) error) error {
	blob, err := src.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	stream, done, err := unpack(blob, d, defaultBomb, total)
	if err != nil {
		return err
	}
	defer done()
	var visited error // an error of visit does not mean that the layer is malformed
	err = readTar(stream, defaultBomb.entries, stream.left, func(h *tar.Header, content io.Reader) error {
		visited = visit(h, content)
		return visited
	})
	switch {
	case visited != nil:
		return visited
	case err != nil:
		return unpackError(err)
	}
	return atEnd(blob)
}

// atEnd fails unless the blob ends where the decompressor ended, and its digest matches.
func atEnd(blob io.Reader) error {
	if n, err := io.Copy(io.Discard, blob); err != nil {
		return err
	} else if n > 0 {
		return refuse("%d bytes follow the compressed data", n)
	}
	return nil
}

// readTar reads a layer's tar to its end, padding included. It allows at most the
// given numbers of entries and of bytes in files. The holes of sparse files count:
// they are not in the stream, but in what readers get.
func readTar(stream io.Reader, most int, bytes int64, visit func(*tar.Header, io.Reader) error) error {
	tr := tar.NewReader(stream)
	var files int64
	for entries := 1; ; entries++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return onlyPadding(stream)
		}
		if err != nil {
			return err
		}
		if entries > most {
			return refuse("more than %d entries", most)
		}
		if err := checkName(h.Name); err != nil {
			return err
		}
		if err := checkKind(h); err != nil {
			return err
		}
		if files += h.Size; files > bytes || files < 0 {
			return refuse("unpacks to more than %d bytes, holes of its files included", bytes)
		}
		// A symbolic link's target is looked up inside the container, and may
		// be anything; a hard link's is looked up while unpacking.
		if h.Typeflag == tar.TypeLink {
			if err := checkName(h.Linkname); err != nil {
				return err
			}
		}
		if err := visit(h, tr); err != nil {
			return err
		}
	}
}

// checkKind refuses entries that different readers of layers treat differently.
func checkKind(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeGNUSparse:
	case tar.TypeXGlobalHeader:
		// Some readers apply its records to all later entries, others to none.
		for k := range h.PAXRecords {
			if k != "comment" {
				return refuse("a global header sets %q for all entries", k)
			}
		}
	default:
		return refuse("entry %q is of unknown type %q", h.Name, h.Typeflag)
	}
	// A whiteout removes a name in its own directory (image-spec layer.md, "Whiteouts").
	switch path.Base(h.Name) {
	case ".wh.", ".wh..", ".wh...":
		return refuse("entry %q removes no name in its directory", h.Name)
	}
	return nil
}
