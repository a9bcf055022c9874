package sums

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/dirhash"
)

const (
	maxModule   = 64 << 20  // bytes of a module's zip whose digest is computed
	maxEntries  = 100_000   // files in it
	maxUnpacked = 500 << 20 // bytes of these, as in golang.org/x/mod/zip
)

// compute returns the digests of a module's zip. Both are of the same bytes, which nobody
// else can change. It unpacks no more than a module may have, because anybody may have made
// the zip.
func compute(raw []byte) (Sum, error) {
	if len(raw) > maxModule {
		return Sum{}, fmt.Errorf("module: got %d bytes, want at most %d", len(raw), maxModule)
	}
	// zip.NewReader allocates memory for each entry of the directory, whatever number the zip
	// states.
	if n := bytes.Count(raw, []byte("PK\x01\x02")); n > maxEntries {
		return Sum{}, fmt.Errorf("module: got more than %d files", maxEntries)
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return Sum{}, err
	}
	files, byName, left := []string{}, map[string]*zip.File{}, uint64(maxUnpacked)
	for _, f := range z.File {
		if f.UncompressedSize64 > left || byName[f.Name] != nil {
			return Sum{}, fmt.Errorf("module: file %.100q is there twice, or there are more than %d bytes unpacked", f.Name, maxUnpacked)
		}
		left -= f.UncompressedSize64
		files, byName[f.Name] = append(files, f.Name), f
	}
	buf := make([]byte, 64<<10)
	// zip.File.Open gives no more bytes than UncompressedSize64.
	h1, err := dirhash.Hash1(files, func(name string) (io.ReadCloser, error) {
		f, err := byName[name].Open()
		return buffered{f, buf}, err
	})
	sum := sha256.Sum256(raw)
	return Sum{SHA256: hex.EncodeToString(sum[:]), H1: h1}, err
}

// buffered is copied with one buffer. A module has thousands of files.
type buffered struct {
	io.ReadCloser
	buf []byte
}

func (b buffered) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{b.ReadCloser}, b.buf)
}
