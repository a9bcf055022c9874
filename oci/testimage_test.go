package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// testLayout writes layouts by hand, so that tests can write wrong ones.
type testLayout struct {
	t   *testing.T
	dir string
}

func newTestLayout(t *testing.T) *testLayout {
	l := &testLayout{t, t.TempDir()}
	l.write("oci-layout", []byte(layoutMarker))
	return l
}

func (l *testLayout) write(name string, data []byte) {
	l.t.Helper()
	p := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLayout) blob(mediaType types.MediaType, data []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digestOf(data), Size: int64(len(data))}
	l.write(blobPath(d.Digest), data)
	return d
}

func (l *testLayout) json(mediaType types.MediaType, v any) v1.Descriptor {
	l.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, raw)
}

func (l *testLayout) index(entries ...v1.Descriptor) {
	l.t.Helper()
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: entries})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("index.json", raw)
}

type testEntry struct {
	name, content string
	link          string // hard link
}

func tarOf(t testing.TB, entries ...testEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// image is one that tests bend before it is written.
type testImage struct {
	platform v1.Platform
	layers   []v1.Descriptor
	diffIDs  []string
	manifest v1.Manifest

	bendConfig func([]byte) []byte
}

func (l *testLayout) newImage(arch string, tars ...[]byte) *testImage {
	im := &testImage{platform: v1.Platform{OS: "linux", Architecture: arch}}
	for _, data := range tars {
		im.layers = append(im.layers, l.blob(types.OCILayer, gzipOf(l.t, data)))
		im.diffIDs = append(im.diffIDs, digestOf(data).String())
	}
	return im
}

func (l *testLayout) image(im *testImage) v1.Descriptor {
	raw, err := json.Marshal(map[string]any{
		"os": im.platform.OS, "architecture": im.platform.Architecture,
		"rootfs": map[string]any{"type": "layers", "diff_ids": im.diffIDs},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	if im.bendConfig != nil {
		raw = im.bendConfig(raw)
	}
	config := l.blob(types.OCIConfigJSON, raw)
	m := im.manifest
	m.SchemaVersion, m.MediaType, m.Config, m.Layers = 2, types.OCIManifestSchema1, config, im.layers
	d := l.json(types.OCIManifestSchema1, m)
	d.Platform = &im.platform
	return d
}

// standard is an index of two platforms that share their lower layer.
func (l *testLayout) standard() v1.Descriptor {
	base := tarOf(l.t, testEntry{name: "./etc/passwd", content: "root"})
	top := l.json(types.OCIImageIndex, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{
			l.image(l.newImage("amd64", base, tarOf(l.t, testEntry{name: "/ko-app/hello", content: "amd64"}))),
			l.image(l.newImage("arm64", base, tarOf(l.t, testEntry{name: "/ko-app/hello", content: "arm64"}))),
		},
	})
	l.index(top)
	return top
}
