package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/klauspost/compress/zstd"
)

func TestMeasureLayout(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	if err := os.Mkdir(filepath.Join(l.dir, "ingest"), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := MeasureLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Descriptor.Digest != top.Digest || m.Descriptor.Size != top.Size || len(m.Platforms) != 2 {
		t.Fatalf("measured %+v, want %+v with two images", m.Descriptor, top)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		im := m.Platforms[i]
		if im.Platform.Architecture != arch || len(im.Layers) != 2 || im.Layers[1].Entries != 1 || im.Layers[1].Unpacked != 2048 {
			t.Errorf("image %d: %+v", i, im)
		}
	}
	if m.Platforms[0].Layers[0].DiffID != m.Platforms[1].Layers[0].DiffID {
		t.Error("the shared layer differs")
	}
}

func TestMeasureSingleManifestAndPackings(t *testing.T) {
	l := newTestLayout(t)
	data := tarOf(t, testEntry{name: "a", content: "a"})
	im := l.newImage("amd64", data)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := tarOf(t, testEntry{name: "b", content: "b"})
	im.layers = append(im.layers, l.blob(types.OCILayerZStd, enc.EncodeAll(other, nil)), l.blob(types.OCIUncompressedLayer, other))
	im.diffIDs = append(im.diffIDs, digestOf(other).String(), digestOf(other).String())
	d := l.image(im)
	l.index(d)
	m, err := MeasureLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Descriptor.Digest != d.Digest || len(m.Platforms[0].Layers) != 3 || m.Platforms[0].Manifest.Digest != d.Digest {
		t.Errorf("measured %+v", m)
	}
}

// An attack is one change to an image that is accepted, as a builder in a
// stranger's hands could make it.
type attack struct {
	name, want string // want: words of the refusal; empty: the operating system refuses
	make       func(*testLayout)
}

func measureRefuses(t *testing.T, attacks []attack) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			l := newTestLayout(t)
			a.make(l)
			m, err := MeasureLayout(l.dir)
			if err == nil {
				t.Fatalf("measured %s", m.Descriptor.Digest)
			}
			if !strings.Contains(err.Error(), a.want) {
				t.Errorf("got %q, want it to say %q", err, a.want)
			}
			if a.want != "" && !errors.Is(err, ErrMismatch) {
				t.Errorf("%q is not a refusal", err)
			}
		})
	}
}

// one bends the only image of a layout.
func one(bend func(l *testLayout, im *testImage)) func(*testLayout) {
	return func(l *testLayout) {
		im := l.newImage("amd64", fileA(l.t))
		bend(l, im)
		l.index(l.image(im))
	}
}

// reworded replaces the manifest of the only image by a blob with other bytes.
func reworded(bend func(raw []byte) []byte) func(*testLayout) {
	return func(l *testLayout) {
		d := l.image(l.newImage("amd64", fileA(l.t)))
		raw, _ := os.ReadFile(l.path(blobPath(d.Digest)))
		os.Remove(l.path(blobPath(d.Digest)))
		l.index(l.blob(types.OCIManifestSchema1, bend(raw)))
	}
}

// indexOf bends the index of an image for two platforms.
func indexOf(bend func(l *testLayout, list []v1.Descriptor) []v1.Descriptor) func(*testLayout) {
	return func(l *testLayout) {
		list := bend(l, []v1.Descriptor{l.image(l.newImage("amd64", fileA(l.t))), l.image(l.newImage("arm64", fileA(l.t)))})
		l.index(l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list}))
	}
}

// layer adds a layer of the given type, blob and diff_id.
func layer(mediaType types.MediaType, blob, unpacked []byte) func(*testLayout) {
	return one(func(l *testLayout, im *testImage) {
		im.layers = append(im.layers, l.blob(mediaType, blob))
		im.diffIDs = append(im.diffIDs, digestOf(unpacked).String())
	})
}

func fileA(t *testing.T) []byte { return tarOf(t, testEntry{name: "a", content: "a"}) }

func (l *testLayout) path(p string) string { return filepath.Join(l.dir, p) }

func mkfifo(t *testing.T, path string) {
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMeasureRefusesFiles: files that are not of the image, or not as it names them.
func TestMeasureRefusesFiles(t *testing.T) {
	measureRefuses(t, []attack{
		{"unknown file", "unexpected file", func(l *testLayout) { l.standard(); l.write("extra", nil) }},
		{"unknown file among the blobs", "unexpected file", func(l *testLayout) { l.standard(); l.write("blobs/sha256/note", nil) }},
		{"other algorithm", "unexpected file", func(l *testLayout) { l.standard(); l.write("blobs/sha512/aa", nil) }},
		{"file in ingest", "unexpected file", func(l *testLayout) { l.standard(); l.write("ingest/x", nil) }},
		{"unreachable blob", "is not part of the image", func(l *testLayout) { l.standard(); l.blob("", []byte("stowaway")) }},
		{"missing layer", "is missing", one(func(l *testLayout, im *testImage) { os.Remove(l.path(blobPath(im.layers[0].Digest))) })},
		{"changed layer", "do not match", one(func(l *testLayout, im *testImage) {
			l.write(blobPath(im.layers[0].Digest), gzipOf(t, tarOf(t, testEntry{name: "a", content: "b"})))
		})},
		{"changed manifest", "do not match", func(l *testLayout) {
			d := l.image(l.newImage("amd64", fileA(l.t)))
			l.index(d)
			raw, _ := os.ReadFile(l.path(blobPath(d.Digest)))
			l.write(blobPath(d.Digest), bytes.Replace(raw, []byte(`"schemaVersion"`), []byte(`"schemaversion"`), 1))
		}},
		{"wrong size", "got", one(func(l *testLayout, im *testImage) { im.layers[0].Size++ })},
		{"one blob as two things", "is used as", one(func(l *testLayout, im *testImage) {
			again := im.layers[0]
			again.MediaType = types.OCIUncompressedLayer
			im.layers, im.diffIDs = append(im.layers, again), append(im.diffIDs, im.diffIDs[0])
		})},
		{"symbolic link for a blob", "not a regular file", one(func(l *testLayout, im *testImage) {
			p := l.path(blobPath(im.layers[0].Digest))
			os.Rename(p, filepath.Join(filepath.Dir(l.dir), "aside"))
			os.Symlink(filepath.Join(filepath.Dir(l.dir), "aside"), p)
		})},
		{"FIFO for a blob", "not a regular file", one(func(l *testLayout, im *testImage) {
			mkfifo(l.t, l.path(blobPath(im.layers[0].Digest)))
		})},
		{"symbolic link for index.json", "", func(l *testLayout) {
			l.standard()
			os.Rename(l.path("index.json"), l.path("oci-index"))
			os.Symlink("oci-index", l.path("index.json"))
		}},
		{"FIFO for oci-layout", "", func(l *testLayout) {
			l.standard()
			mkfifo(l.t, l.path("oci-layout"))
		}},
		{"directory for blobs elsewhere", "not a directory", func(l *testLayout) {
			l.standard()
			os.Rename(l.path("blobs"), filepath.Join(filepath.Dir(l.dir), "blobs-aside"))
			os.Symlink(filepath.Join(filepath.Dir(l.dir), "blobs-aside"), l.path("blobs"))
		}},
	})
}

// TestMeasureRefusesDocuments: index.json, index, manifest and configuration.
func TestMeasureRefusesDocuments(t *testing.T) {
	twice := func(raw []byte) []byte {
		return bytes.Replace(raw, []byte(`{"schemaVersion":2`), []byte(`{"schemaVersion":2,"schemaVersion":2`), 1)
	}
	measureRefuses(t, []attack{
		{"duplicate member", "duplicate", reworded(twice)},
		{"duplicate member in index.json", "duplicate", func(l *testLayout) {
			l.standard()
			raw, _ := os.ReadFile(l.path("index.json"))
			l.write("index.json", twice(raw))
		}},
		{"duplicate member in the configuration", "duplicate", one(func(l *testLayout, im *testImage) {
			im.bendConfig = func(raw []byte) []byte { return bytes.Replace(raw, []byte(`{`), []byte(`{"os":"plan9",`), 1) }
		})},
		{"unknown config type", "media type", func(l *testLayout) {
			l.index(l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
				Config: l.blob("application/x-config", []byte("{}")), Layers: []v1.Descriptor{}}))
		}},
		{"unknown manifest type", "media type", func(l *testLayout) { d := l.standard(); d.MediaType = "application/x-manifest"; l.index(d) }},
		{"index said to be a manifest", "the store says", func(l *testLayout) { d := l.standard(); d.MediaType = types.OCIManifestSchema1; l.index(d) }},
		{"manifest and index at once", "has the manifests of an index", reworded(func(raw []byte) []byte {
			return append(bytes.TrimSuffix(raw, []byte("}")), []byte(`,"manifests":[]}`)...)
		})},
		{"no entry", "got 0 entries", func(l *testLayout) { l.index() }},
		{"two entries", "got 2 entries", func(l *testLayout) { d := l.standard(); l.index(d, d) }},
		{"nested index", "nested", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			d := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
			d.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
			return []v1.Descriptor{d}
		})},
		{"platform twice", "twice", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			return append(list, l.image(l.newImage("amd64", fileA(l.t), tarOf(t, testEntry{name: "evil"}))))
		})},
		{"platform that is not the configuration's", "platform", indexOf(func(_ *testLayout, list []v1.Descriptor) []v1.Descriptor {
			list[0].Platform.Architecture = "s390x"
			return list
		})},
		{"no platform in the index", "no platform", indexOf(func(_ *testLayout, list []v1.Descriptor) []v1.Descriptor {
			list[0].Platform = nil
			return list
		})},
		{"empty index", "no manifests", indexOf(func(l *testLayout, _ []v1.Descriptor) []v1.Descriptor {
			os.RemoveAll(l.path("blobs"))
			return nil
		})},
		{"diff_ids too few", "diff_ids", one(func(_ *testLayout, im *testImage) { im.diffIDs = []string{} })},
		{"subject", "artifact", one(func(_ *testLayout, im *testImage) { im.manifest.Subject = &im.layers[0] })},
		{"deep JSON", "nested deeper", one(func(_ *testLayout, im *testImage) {
			im.bendConfig = func(raw []byte) []byte {
				return bytes.Replace(raw, []byte(`{`), []byte(`{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,`), 1)
			}
		})},
		{"configuration that is too large", "at most", one(func(_ *testLayout, im *testImage) {
			im.bendConfig = func(raw []byte) []byte { return append(raw, bytes.Repeat([]byte(" "), limits.Config)...) }
		})},
		{"manifest that is too large", "at most", reworded(func(raw []byte) []byte {
			return append(raw, bytes.Repeat([]byte(" "), limits.Manifest)...)
		})},
		{"more layers than there may be", "at most", one(func(_ *testLayout, im *testImage) {
			for range limits.Layers {
				im.layers, im.diffIDs = append(im.layers, im.layers[0]), append(im.diffIDs, im.diffIDs[0])
			}
		})},
	})
}

// TestMeasureRefusesLayers: layers that readers could unpack to something else.
func TestMeasureRefusesLayers(t *testing.T) {
	file := fileA(t)
	trailing := append(bytes.Clone(file), []byte("hidden")...)
	named := func(e testEntry) func(*testLayout) {
		data := tarOf(t, e)
		return layer(types.OCILayer, gzipOf(t, data), data)
	}
	tarOfHeader := func(h *tar.Header) func(*testLayout) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := errors.Join(w.WriteHeader(h), w.Close()); err != nil {
			t.Fatal(err)
		}
		return layer(types.OCILayer, gzipOf(t, buf.Bytes()), buf.Bytes())
	}
	measureRefuses(t, []attack{
		{"unknown layer type", "media type", layer("application/x-layer", file, file)},
		{"foreign layer", "media type", layer(types.DockerForeignLayer, gzipOf(t, trailing[:1024]), trailing[:1024])},
		{"layer that is elsewhere", "urls or data", one(func(l *testLayout, im *testImage) { im.layers[0].URLs = []string{"https://example.com/"} })},
		{"diff_id of other content", "unpacks to", one(func(_ *testLayout, im *testImage) { im.diffIDs[0] = digestOf([]byte("x")).String() })},
		{"climbing name", "climbs", named(testEntry{name: "a/../../etc/passwd"})},
		{"climbing hard link", "climbs", named(testEntry{name: "a", link: "../../etc/shadow"})},
		{"double slash", "not a path", named(testEntry{name: "//etc/passwd"})},
		{"whiteout of the directory above", "removes no name", named(testEntry{name: "a/.wh..."})},
		{"whiteout of its own directory", "removes no name", named(testEntry{name: "a/.wh.."})},
		{"whiteout of nothing", "removes no name", named(testEntry{name: "a/.wh."})},
		{"unknown type", "unknown type", tarOfHeader(&tar.Header{Name: "a", Typeflag: 'Z'})},
		{"name for all that follows", "sets \"path\"", tarOfHeader(&tar.Header{Name: "g", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "etc/shadow"}})},
		{"not gzip", "unpacking", layer(types.OCILayer, file, file)},
		{"data behind the gzip stream", "unpacking", layer(types.OCILayer, append(gzipOf(t, file), "hidden"...), file)},
		{"data behind the tar", "follows the end of the tar", layer(types.OCILayer, gzipOf(t, trailing), trailing)},
		{"not a tar", "unpacking", layer(types.OCILayer, gzipOf(t, bytes.Repeat([]byte("x"), 2048)), bytes.Repeat([]byte("x"), 2048))},
	})
}

func TestMeasureRefusesBombs(t *testing.T) {
	small := bombLimits{floor: 1 << 20, ratio: 10, total: 8 << 20, entries: 100}
	zeros := func(n int) []byte { return tarOf(t, testEntry{name: "zeros", content: strings.Repeat("\x00", n)}) }
	for _, c := range []struct {
		name, want string
		tars       [][]byte
	}{
		{"one layer", "unpacks to more than", [][]byte{zeros(2 << 20)}},
		{"many layers", "too many bytes", func() (tars [][]byte) {
			for i := range 9 {
				tars = append(tars, zeros(1<<20-4096-512*i))
			}
			return tars
		}()},
		{"many entries", "more than 100 entries", [][]byte{tarOf(t, manyEntries(101)...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestLayout(t)
			l.index(l.image(l.newImage("amd64", c.tars...)))
			if _, err := measureWith(l.dir, small); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if _, err := MeasureLayout(l.dir); err != nil {
				t.Fatalf("within the limits: %v", err)
			}
		})
	}
}

// sparse is the tar of a file that is all hole (GNU format), of 1 TiB.
func sparse() []byte {
	b := make([]byte, 512*3)
	copy(b, "hole")
	copy(b[100:], "0000644\x00")
	copy(b[124:], "00000000000\x00") // bytes in the stream
	copy(b[136:], "00000000000\x00")
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	binary := []byte{0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0}
	copy(b[483:495], binary)
	copy(b[386:], "00000000000\x00") // one region, at the end, of nothing
	copy(b[398:], "00000000000\x00")
	copy(b[386:398], binary)
	copy(b[148:], "        ")
	var sum int
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestMeasureRefusesHoles(t *testing.T) {
	tr := tar.NewReader(bytes.NewReader(sparse()))
	if h, err := tr.Next(); err != nil || h.Size != 1<<40 {
		t.Fatalf("the test's own file: %+v, %v", h, err)
	}
	l := newTestLayout(t)
	l.index(l.image(l.newImage("amd64", sparse())))
	if _, err := MeasureLayout(l.dir); err == nil || !strings.Contains(err.Error(), "unpacks to more than") || !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// What was measured is what is pushed, or nothing: each byte is hashed again on
// its way, whatever became of the layout in between.
func TestSwappedBetweenMeasuringAndPushing(t *testing.T) {
	for name, swap := range map[string]func(l *testLayout, m *Measured){
		"layer": func(l *testLayout, m *Measured) {
			d := m.Platforms[0].Layers[0].Descriptor
			l.write(blobPath(d.Digest), bytes.Repeat([]byte("x"), int(d.Size)))
		},
		"configuration": func(l *testLayout, m *Measured) {
			d := m.Platforms[0].Config
			l.write(blobPath(d.Digest), bytes.Repeat([]byte(" "), int(d.Size)))
		},
		"manifest": func(l *testLayout, m *Measured) {
			d := m.Platforms[0].Manifest
			raw, _ := os.ReadFile(filepath.Join(l.dir, blobPath(d.Digest)))
			l.write(blobPath(d.Digest), bytes.Replace(raw, []byte("sha256:"), []byte("sha256;"), 1))
		},
		"index": func(l *testLayout, m *Measured) {
			l.write(blobPath(m.Descriptor.Digest), bytes.Replace(m.Raw, []byte("amd64"), []byte("s390x"), 1))
		},
	} {
		l := newTestLayout(t)
		l.standard()
		m, err := MeasureLayout(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		swap(l, m)
		src, err := OpenLayout(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		dst, err := CreateLayout(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := Copy(t.Context(), dst, src, m.Descriptor); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want ErrMismatch", name, err)
		}
	}
	// Another image that index.json names by now is not what was measured.
	l := newTestLayout(t)
	l.standard()
	m, err := MeasureLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.index(l.image(l.newImage("amd64", tarOf(t, testEntry{name: "evil"}))))
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := CreateLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), dst, src, m.Descriptor); err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Resolve(t.Context(), m.Descriptor.Digest.String()); err != nil {
		t.Error(err)
	}
}

func manyEntries(n int) []testEntry {
	entries := make([]testEntry, n)
	for i := range entries {
		entries[i].name = "f" + strings.Repeat("x", i)
	}
	return entries
}
