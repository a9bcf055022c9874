package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// TestEntries: each entry of each layer, from the lowest up, and an error wherever
// MeasureLayout has one.
func TestEntries(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := src.content(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	visit := func(layer int, h *tar.Header, content io.Reader) error {
		raw, err := io.ReadAll(content)
		got = append(got, fmt.Sprintf("%d %s %s", layer, h.Name, raw))
		return err
	}
	if err := Entries(t.Context(), src, c.Manifests[0].Digest, visit); err != nil || strings.Join(got, ", ") != "0 ./etc/passwd root, 1 /ko-app/hello amd64" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := Entries(t.Context(), src, top.Digest, visit); !errors.Is(err, ErrMismatch) {
		t.Errorf("an index: got %v, want a refusal", err)
	}
	if err := Entries(t.Context(), src, digestOf(nil), visit); !errors.Is(err, ErrNotFound) {
		t.Errorf("no manifest: got %v, want ErrNotFound", err)
	}
	enough, visits := errors.New("enough"), 0
	err = Entries(t.Context(), src, c.Manifests[0].Digest, func(int, *tar.Header, io.Reader) error { visits++; return enough })
	if !errors.Is(err, enough) || errors.Is(err, ErrMismatch) || visits != 1 {
		t.Errorf("a visit that fails: got %v after %d visits, want its error and no more visits", err, visits)
	}

	file := fileA(t)
	changed := l.blob(types.OCIUncompressedLayer, tarOf(t, testEntry{name: "a", content: "c"}))
	l.write(blobPath(changed.Digest), tarOf(t, testEntry{name: "a", content: "b"}))
	type layer struct {
		mediaType types.MediaType
		blob      []byte
	}
	for name, d := range map[string]layer{
		"unknown type":            {"application/x-layer", file},
		"not gzip":                {types.OCILayer, file},
		"not zstd":                {types.OCILayerZStd, file},
		"not a tar":               {types.OCIUncompressedLayer, bytes.Repeat([]byte("x"), 2048)},
		"data behind the tar":     {types.OCIUncompressedLayer, append(bytes.Clone(file), "hidden"...)},
		"data behind gzip":        {types.OCILayer, append(gzipOf(t, file), "hidden"...)},
		"name that climbs":        {types.OCIUncompressedLayer, tarOf(t, testEntry{name: "../x"})},
		"hard link that climbs":   {types.OCIUncompressedLayer, tarOf(t, testEntry{name: "x", link: "../x"})},
		"the blob is another one": {types.OCIUncompressedLayer, nil},
	} {
		blob := changed
		if d.blob != nil {
			blob = l.blob(d.mediaType, d.blob)
		}
		if err := LayerEntries(t.Context(), src, blob, func(*tar.Header, io.Reader) error { return nil }); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

// TestEndOfABlob: what follows the compressed data is not hidden in the blob, and a blob
// that cannot be read to its end did not end.
func TestEndOfABlob(t *testing.T) {
	if err := atEnd(strings.NewReader("")); err != nil {
		t.Error(err)
	}
	if err := atEnd(strings.NewReader("x")); !errors.Is(err, ErrMismatch) {
		t.Errorf("a byte more: got %v, want a refusal", err)
	}
	if err := atEnd(io.MultiReader(strings.NewReader("x"), &stallingReader{})); !errors.Is(err, errOutage) {
		t.Errorf("a connection that breaks: got %v", err)
	}
}

type stallingReader struct{}

func (*stallingReader) Read([]byte) (int, error) { return 0, errOutage }

// TestLimitsOfATar: the limits themselves are allowed.
func TestLimitsOfATar(t *testing.T) {
	two := tarOf(t, testEntry{name: "a", content: "abc"}, testEntry{name: "b", content: "de"})
	for _, test := range []struct {
		entries int
		bytes   int64
		ok      bool
	}{{2, 5, true}, {1, 5, false}, {2, 4, false}} {
		seen := 0
		err := readTar(bytes.NewReader(two), test.entries, test.bytes, func(*tar.Header, io.Reader) error { seen++; return nil })
		if (err == nil) != test.ok || !test.ok && !errors.Is(err, ErrMismatch) || test.ok && seen != 2 {
			t.Errorf("%d entries of %d bytes: got %v, want it read: %v", test.entries, test.bytes, err, test.ok)
		}
	}
}
