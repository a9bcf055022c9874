package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

type namedFile struct{ name, content string }

// writeArchive writes a tar of these files. A name that ends with "/" is a directory.
func writeArchive(t *testing.T, files ...namedFile) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o644, Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, buf.Bytes())
}

func writeFile(t *testing.T, raw []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestArchiveRefuses: what is no image, and what another tool could read differently.
func TestArchiveRefuses(t *testing.T) {
	marker := namedFile{"oci-layout", layoutMarker}
	sparse, err := os.ReadFile(writeArchive(t, marker))
	if err != nil {
		t.Fatal(err)
	}
	var pax bytes.Buffer
	w := tar.NewWriter(&pax)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "oci-layout", Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{"XYZ.sparse.name": "x"}}), w.Close()); err != nil {
		t.Fatal(err)
	}
	holes := bytes.Replace(pax.Bytes(), []byte("XYZ.sparse"), []byte("GNU.sparse"), 1)
	broken := append(bytes.Clone(sparse[:1024]), bytes.Repeat([]byte("x"), 1024)...)
	fifo := filepath.Join(t.TempDir(), "fifo")
	mkfifo(t, fifo)
	for name, test := range map[string]struct {
		file, want string
		refused    bool // ErrMismatch
	}{
		"nothing there":              {filepath.Join(t.TempDir(), "none"), "no such file", false},
		"cannot be read":             {"/proc/self/mem", "archive /proc/self/mem: read", false},
		"FIFO":                       {fifo, "is not a regular file", true},
		"directory":                  {t.TempDir(), "is not a regular file", true},
		"no tar":                     {writeFile(t, bytes.Repeat([]byte("x"), 2048)), "neither a directory nor a tar", false},
		"no tar after the first":     {writeFile(t, broken), "invalid tar header", true},
		"no image":                   {writeArchive(t, namedFile{"index.json", "{}"}), "neither an oci-layout file nor docker's manifest.json", false},
		"sparse file":                {writeFile(t, holes), "is a sparse file", true},
		"layout of another version":  {writeArchive(t, namedFile{"oci-layout", `{"imageLayoutVersion":"2.0.0"}`}), `got "2.0.0"`, true},
		"layout whose marker is bad": {writeArchive(t, namedFile{"oci-layout", "{"}), "version", true},
		"large marker":               {writeArchive(t, namedFile{"oci-layout", strings.Repeat(" ", limits.Manifest+1)}), "at most", true},
		"manifest.json too large":    {writeArchive(t, namedFile{"manifest.json", strings.Repeat(" ", limits.Manifest+1)}), "at most", true},
		"manifest.json is no JSON":   {writeArchive(t, namedFile{"manifest.json", "["}), "manifest.json", true},
		"two readers may differ":     {writeArchive(t, namedFile{"manifest.json", `[{"Config":"a","Config":"b"}]`}), "duplicate", true},
		"no configuration":           {writeArchive(t, namedFile{"manifest.json", `[{"Config":"a.json"}]`}), "a.json in archive", false},
		"two images of old docker":   {writeArchive(t, namedFile{"manifest.json", `[{"Config":"a"},{"Config":"a"}]`}), "holds 2 images", false},
	} {
		_, err := openArchive(test.file)
		if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrMismatch) != test.refused {
			t.Errorf("%s: got %v, want %q, refused: %v", name, err, test.want, test.refused)
		}
		if got := errors.Is(err, ErrNoManifest); got != (name == "two images of old docker") {
			t.Errorf("%s: %v says that there is no manifest: %v", name, err, got)
		}
		if got := errors.Is(err, ErrNotFound); got != (name == "no configuration") {
			t.Errorf("%s: %v says that something was not found: %v", name, err, got)
		}
	}
}

// TestArchiveEntries: an archive has at most 100,000 files.
func TestArchiveEntries(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range archiveEntries {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("oci-layout/%d/", i), Typeflag: tar.TypeDir}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openArchive(writeFile(t, buf.Bytes())); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("%d entries: got %v, want them read", archiveEntries, err)
	}
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg}), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := openArchive(writeFile(t, buf.Bytes())); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "more than 100000 entries") {
		t.Errorf("one more: got %v, want a refusal", err)
	}
}

// TestDirectoriesOfAnArchive: an empty directory in an archive is a file that does not
// belong to a layout, as it is on the disk.
func TestDirectoriesOfAnArchive(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	for _, dir := range []string{"blobs/", "ingest/"} {
		a, err := openArchive(archiveOf(t, l.dir, "", &tar.Header{Name: dir, Typeflag: tar.TypeDir}))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.CheckSole(t.Context(), "", top); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	a, err := openArchive(archiveOf(t, l.dir, "", &tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir}))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.CheckSole(t.Context(), "", top); !errors.Is(err, ErrMismatch) {
		t.Errorf("rootfs: got %v, want a refusal", err)
	}
}

// TestBundleManifests: what says that it is a bundle must have the form of one.
func TestBundleManifests(t *testing.T) {
	layer := func(mediaTypes ...string) (ls []v1.Descriptor) {
		for _, m := range mediaTypes {
			ls = append(ls, v1.Descriptor{MediaType: types.MediaType(m)})
		}
		return ls
	}
	const note = "application/x-note"
	for name, test := range map[string]struct {
		a    Attached
		is   bool
		want string // words of BundleLayer's refusal
	}{
		"bundle":           {Attached{ArtifactType: attest.BundleMediaType, Layers: layer(attest.BundleMediaType)}, true, ""},
		"by its layer":     {Attached{ArtifactType: note, Layers: layer(attest.BundleMediaType)}, true, ""},
		"by its type":      {Attached{ArtifactType: attest.BundleMediaType, Layers: layer(note)}, true, `layer of type "application/x-note"`},
		"two layers":       {Attached{ArtifactType: attest.BundleMediaType, Layers: layer(attest.BundleMediaType, attest.BundleMediaType)}, true, "got 2 layers"},
		"no layer":         {Attached{ArtifactType: attest.BundleMediaType}, true, "got 0 layers"},
		"two other layers": {Attached{ArtifactType: note, Layers: layer(attest.BundleMediaType, note)}, false, "got 2 layers"},
		"note":             {Attached{ArtifactType: note, Layers: layer(note)}, false, "layer of type"},
	} {
		if got := test.a.IsBundle(); got != test.is {
			t.Errorf("%s: got %v, want %v", name, got, test.is)
		}
		_, err := test.a.BundleLayer()
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestShrink: the manifests and inline data of 4096 referrers do not fill the memory.
func TestShrink(t *testing.T) {
	data := make([]byte, 3000) // base64 makes 4000 bytes of it
	item := func(size int64, layers ...v1.Descriptor) *Attached {
		return &Attached{Descriptor: v1.Descriptor{Size: size}, Layers: layers, Annotations: map[string]string{"a": "b"}}
	}
	for name, test := range map[string]struct {
		a       *Attached
		total   int64 // data of other manifests
		refused bool
		left    int // bytes of data
	}{
		"largest":             {item(attachedManifest+4*2, v1.Descriptor{}, v1.Descriptor{}), 0, false, 0},
		"too large":           {item(attachedManifest+4*2+1, v1.Descriptor{}, v1.Descriptor{}), 0, true, 0},
		"data does not count": {item(attachedManifest+4+4000, v1.Descriptor{Data: data}), 0, false, 3000},
		"large beside data":   {item(attachedManifest+4+4001, v1.Descriptor{Data: data}), 0, true, 0},
		"last data":           {item(4500, v1.Descriptor{Data: data}), attachedData - 3000, false, 3000},
		"more data":           {item(4500, v1.Descriptor{Data: data}), attachedData - 2999, false, 0},
	} {
		var total atomic.Int64
		total.Store(test.total)
		test.a.shrink(&total)
		left := 0
		for _, l := range test.a.Layers {
			left += len(l.Data)
		}
		if errors.Is(test.a.Err, ErrMismatch) != test.refused || left != test.left {
			t.Errorf("%s: got %v and %d bytes of data, want refused: %v, and %d", name, test.a.Err, left, test.refused, test.left)
		}
		if test.refused && (test.a.Layers != nil || test.a.Annotations != nil) {
			t.Errorf("%s: what is refused is kept", name)
		}
	}
	failed := item(1<<30, v1.Descriptor{Data: data})
	failed.Err = errOutage
	if failed.shrink(new(atomic.Int64)); failed.Err != errOutage || failed.Layers != nil {
		t.Errorf("an item that was not read: got %+v", failed)
	}
}

// listing is a source with a list of referrers of its own.
type listing struct {
	Target
	list []v1.Descriptor
	mu   sync.Mutex
	read map[v1.Hash]int // how often each manifest or blob was read
}

func (l *listing) count(digest v1.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read[digest]++
}

func (l *listing) Referrers(context.Context, v1.Hash) ([]v1.Descriptor, error) { return l.list, nil }

func (l *listing) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	l.count(digest)
	return l.Target.Manifest(ctx, digest)
}

func (l *listing) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	l.count(d.Digest)
	return l.Target.Blob(ctx, d)
}

// TestAttachmentsAreBounded: past the caps there is an error, and never a shorter list.
func TestAttachmentsAreBounded(t *testing.T) {
	layout, top := savedLayout(t)
	list := make([]v1.Descriptor, limits.Referrers)
	for i := range list {
		list[i].Digest = digestOf(fmt.Append(nil, i))
	}
	for n, ok := range map[int]bool{limits.Referrers: true, limits.Referrers + 1: false} {
		src := &flood{layout, slices.Concat(list, []v1.Descriptor{{Digest: top.Digest}})[:n]}
		found, err := Attachments(t.Context(), src, top.Digest)
		if (err == nil) != ok || ok && len(found) != n {
			t.Errorf("%d referrers: got %d and %v", n, len(found), err)
		}
	}
	// Tagged manifests are fetched, too.
	found, err := Attachments(t.Context(), layout, top.Digest, CosignSignatures, CosignSBOM)
	if err != nil || len(found) != 2 || found[1].Tag != CosignSignatures || len(found[1].Layers) != 1 {
		t.Errorf("got %+v, %v, want the bundle and cosign's signature with its layer", found, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Attachments(canceled, layout, top.Digest); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}

	limit := emptyLayout(t)
	if _, err := AttachBundle(t.Context(), limit, top, make([]byte, limits.Bundle), "kind", time.Unix(0, 0)); err != nil {
		t.Errorf("the largest bundle: %v", err)
	}
	if _, err := AttachBundle(t.Context(), limit, top, make([]byte, limits.Bundle+1), "kind", time.Unix(0, 0)); err == nil {
		t.Error("a bundle that nobody would read was attached")
	}
	for n, inline := range map[int]bool{maxInline: true, maxInline + 1: false} {
		raw, err := BundleManifest(top, make([]byte, n), "kind", time.Unix(0, 0))
		if err != nil || strings.Contains(string(raw), `"data"`) != inline {
			t.Errorf("a bundle of %d bytes: inline is not %v, %v", n, inline, err)
		}
	}
	content := []byte("content")
	d := v1.Descriptor{Digest: digestOf(content), Size: 7, Data: content}
	if raw, err := Content(t.Context(), layout, d, 7); err != nil || string(raw) != "content" {
		t.Errorf("the largest content: got %q, %v", raw, err)
	}
}

// TestSmallBundlesAreRead: bundles that are too large together do not keep the small ones
// from being read.
func TestSmallBundlesAreRead(t *testing.T) {
	item := func(size int64, data []byte) Bundle {
		return Bundle{Attached: Attached{Layers: []v1.Descriptor{{MediaType: attest.BundleMediaType, Digest: digestOf(data), Size: size, Data: data}}}}
	}
	large := func(n int) (list []Bundle) {
		for range n {
			list = append(list, item(limits.Bundle, nil))
		}
		return list
	}
	most := bundlesTotal / limits.Bundle
	list := append(large(most), item(5, []byte("small")))
	fetchBundles(t.Context(), emptyLayout(t), list)
	if string(list[most].Raw) != "small" || list[most].Err != nil {
		t.Errorf("the small one: got %q, %v", list[most].Raw, list[most].Err)
	}
	over := 0
	for _, b := range list {
		if b.Err != nil && !errors.Is(b.Err, ErrNotFound) {
			over++
		}
	}
	if over != 1 {
		t.Errorf("got %d bundles over the cap, want one", over)
	}
	list = large(most)
	fetchBundles(t.Context(), emptyLayout(t), list)
	for _, b := range list {
		if !errors.Is(b.Err, ErrNotFound) {
			t.Errorf("within the cap: got %v, want that the store does not have it", b.Err)
		}
	}
}

// TestCopyRefuses: descriptors that do not describe what is there, and deep indexes.
func TestCopyRefuses(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	index := func(list ...v1.Descriptor) v1.Descriptor {
		return l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	}
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	image := l.image(l.newImage("amd64", fileA(t)))
	larger, typed := image, image
	larger.Size++
	typed.MediaType = types.DockerManifestSchema2
	for name, d := range map[string]v1.Descriptor{
		"size": larger, "media type": typed, "index in an index": index(top), "entry of another size": index(larger), "entry of another type": index(typed),
	} {
		if err := Copy(t.Context(), emptyLayout(t), src, d); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	// One image twice in an index is read and written once.
	twice := index(image, image)
	from, to := &listing{Target: src, read: map[v1.Hash]int{}}, &listing{Target: emptyLayout(t), read: map[v1.Hash]int{}}
	if err := Copy(t.Context(), to, from, twice); err != nil || from.read[image.Digest] != 1 {
		t.Errorf("an image twice: got %v, and it was read %d times", err, from.read[image.Digest])
	}
}

// TestAttachmentsThatCanBeRun: an index of attachments has none that a tool could run,
// and entries that repeat cost nothing.
func TestAttachmentsThatCanBeRun(t *testing.T) {
	l := newTestLayout(t)
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	signature := func(layers ...v1.Descriptor) v1.Descriptor {
		return l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: l.blob(types.OCIConfigJSON, []byte("{}")), Layers: layers})
	}
	index := func(list ...v1.Descriptor) v1.Descriptor {
		return l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	}
	layer := l.blob(attest.SimpleSigningMediaType, []byte(`{"critical":{}}`))
	good, image := signature(layer, layer, layer), l.image(l.newImage("amd64", fileA(t)))
	larger, typed := good, good
	larger.Size++
	typed.MediaType = types.DockerManifestSchema2
	read := func(d v1.Descriptor) (*listing, error) {
		c := &listing{Target: src, read: map[v1.Hash]int{}}
		return c, CheckAttachment(t.Context(), c, d)
	}
	c, err := read(index(good, good, good))
	if err != nil || c.read[good.Digest] != 1 || c.read[layer.Digest] != 1 {
		t.Errorf("a signature three times: got %v, read %v", err, c.read)
	}
	for name, d := range map[string]v1.Descriptor{
		"image": image, "image behind a signature": index(good, image), "image before a signature": index(image, good), "index in an index": index(index(good)),
		"another size": larger, "another type": typed, "no layer": signature(), "layer that is no JSON": signature(l.blob("text/plain", fileA(t))),
	} {
		if _, err := read(d); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := CheckAttachment(canceled, src, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestLayerSources: docker's manifest.json may not lead to layers elsewhere.
func TestLayerSources(t *testing.T) {
	l := newTestLayout(t)
	top := l.image(l.newImage("amd64", fileA(t)))
	top.Platform = nil
	l.index(top)
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := layout.content(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, inline, other := c.Layers[0], c.Layers[0], c.Layers[0]
	elsewhere.URLs, inline.Data, other.Digest = []string{"https://example.com/layer"}, []byte("x"), digestOf([]byte("other"))
	for name, test := range map[string]struct {
		source v1.Descriptor
		ok     bool
	}{"its own": {c.Layers[0], true}, "urls": {elsewhere, false}, "data": {inline, false}, "another layer": {other, false}} {
		raw, err := json.Marshal([]map[string]any{{"Config": blobPath(c.Config.Digest), "RepoTags": []string{"a:b"}, "Layers": []string{blobPath(c.Layers[0].Digest)},
			"LayerSources": map[string]v1.Descriptor{digestOf(fileA(t)).String(): test.source}}})
		if err != nil {
			t.Fatal(err)
		}
		l.write(dockerManifest, raw)
		if err := layout.CheckSole(t.Context(), "", top); (err == nil) != test.ok || !test.ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want it accepted: %v", name, err, test.ok)
		}
	}
}
