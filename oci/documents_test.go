package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// TestDocuments: what is no manifest and no index, or could be taken for both, and the
// limits themselves.
func TestDocuments(t *testing.T) {
	hex := digestOf(nil).String()
	descriptor := fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":0}`, hex)
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(descriptor+",", n), ",") + "]" }
	image, index := types.OCIManifestSchema1, types.OCIImageIndex
	for name, test := range map[string]struct {
		raw       string
		mediaType types.MediaType
		want      string // words of the refusal
	}{
		"image":               {`{"schemaVersion":2,"config":` + descriptor + `}`, image, ""},
		"index":               {`{"schemaVersion":2,"manifests":[]}`, index, ""},
		"most layers":         {`{"schemaVersion":2,"config":` + descriptor + `,"layers":` + list(limits.Layers) + `}`, image, ""},
		"more layers":         {`{"schemaVersion":2,"config":` + descriptor + `,"layers":` + list(limits.Layers+1) + `}`, image, "layers, want at most"},
		"most manifests":      {`{"schemaVersion":2,"manifests":` + list(limits.IndexManifests) + `}`, index, ""},
		"more manifests":      {`{"schemaVersion":2,"manifests":` + list(limits.IndexManifests+1) + `}`, index, "manifests, want at most"},
		"schema 1":            {`{"schemaVersion":1,"config":` + descriptor + `}`, image, "got 1, want 2"},
		"no config":           {`{"schemaVersion":2,"layers":[]}`, image, "no config"},
		"config in an index":  {`{"schemaVersion":2,"manifests":[],"config":` + descriptor + `}`, index, "config or layers"},
		"layers in an index":  {`{"schemaVersion":2,"manifests":[],"layers":[]}`, index, "config or layers"},
		"manifests":           {`{"schemaVersion":2,"manifests":[],"config":` + descriptor + `}`, image, "manifests of an index"},
		"another media type":  {`{"schemaVersion":2}`, "application/x-manifest", "that of an image manifest or index"},
		"negative size":       {`{"schemaVersion":2,"config":{"mediaType":"x","digest":"` + hex + `","size":-1}}`, image, "size -1"},
		"no digest":           {`{"schemaVersion":2,"config":{"mediaType":"x","size":1}}`, image, `digest`},
		"no digest in layers": {`{"schemaVersion":2,"config":` + descriptor + `,"layers":[{"mediaType":"x","size":1}]}`, image, `digest`},
	} {
		_, err := parseContent([]byte(test.raw), test.mediaType)
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	for raw, want := range map[string]types.MediaType{`{}`: image, `{"manifests":[]}`: index, `{"mediaType":"x","manifests":[]}`: "x", `{`: ""} {
		c, err := decodeContent([]byte(raw))
		if (err == nil) != (want != "") || err == nil && c.guessMediaType() != want {
			t.Errorf("%s: got %+v, %v, want type %q", raw, c, err, want)
		}
	}
	config := &v1.Descriptor{MediaType: "application/x-config"}
	for want, c := range map[string]content{"a": {ArtifactType: "a", Config: config}, "application/x-config": {Config: config}, "": {}} {
		if got := c.kind(); got != want {
			t.Errorf("artifact type: got %q, want %q", got, want)
		}
	}
}

// TestReadsThatFail: a blob is whole and right, or its reader says what is wrong, again
// and again.
func TestReadsThatFail(t *testing.T) {
	content := []byte("content")
	read := func(d v1.Descriptor, r io.Reader) (string, error) {
		t.Helper()
		checked, err := verifying(io.NopCloser(r), d)
		if err != nil {
			return "", err
		}
		if n, err := checked.Read(nil); n != 0 || err != nil {
			t.Errorf("a read of nothing: got %d, %v", n, err)
		}
		got, err := io.ReadAll(checked)
		end := io.EOF
		if err != nil {
			end = err
		}
		if n, again := checked.Read(make([]byte, 1)); n != 0 || !errors.Is(again, end) {
			t.Errorf("a read after the end: got %d, %v, want %v", n, again, end)
		}
		return string(got), err
	}
	good := v1.Descriptor{Digest: digestOf(content), Size: 7}
	longer := v1.Descriptor{Digest: good.Digest, Size: 8}
	for name, test := range map[string]struct {
		d    v1.Descriptor
		r    io.Reader
		want error
	}{
		"whole":             {good, bytes.NewReader(content), nil},
		"other":             {good, strings.NewReader("c0ntent"), ErrMismatch},
		"short":             {longer, bytes.NewReader(content), ErrMismatch},
		"long":              {good, strings.NewReader("content!"), ErrMismatch},
		"breaks":            {good, io.MultiReader(strings.NewReader("cont"), &stallingReader{}), errOutage},
		"breaks at its end": {good, io.MultiReader(bytes.NewReader(content), &stallingReader{}), errOutage},
		"negative":          {v1.Descriptor{Digest: good.Digest, Size: -1}, bytes.NewReader(content), ErrMismatch},
		"too large":         {v1.Descriptor{Digest: good.Digest, Size: limits.LayerPacked + 1}, bytes.NewReader(content), ErrMismatch},
		"largest, short":    {v1.Descriptor{Digest: good.Digest, Size: limits.LayerPacked}, io.MultiReader(bytes.NewReader(content), &stallingReader{}), errOutage},
		"empty":             {v1.Descriptor{Digest: digestOf(nil)}, bytes.NewReader(nil), nil},
		"unknown digest":    {v1.Descriptor{Digest: v1.Hash{Algorithm: "md5", Hex: "x"}, Size: 7}, bytes.NewReader(content), ErrMismatch},
	} {
		got, err := read(test.d, test.r)
		if !errors.Is(err, test.want) || test.want == nil && (err != nil || int64(len(got)) != test.d.Size) {
			t.Errorf("%s: got %q, %v, want %v", name, got, err, test.want)
		}
	}
	if err := checkDigest(content, v1.Hash{Algorithm: "md5", Hex: "x"}); !errors.Is(err, ErrMismatch) {
		t.Errorf("an unknown digest: got %v, want a refusal", err)
	}
	layout := emptyLayout(t)
	if _, err := readBlob(t.Context(), layout, v1.Descriptor{Digest: good.Digest, Size: 8}, 7); !errors.Is(err, ErrMismatch) {
		t.Errorf("a blob that is too large: got %v, want a refusal", err)
	}
	if _, err := readBlob(t.Context(), layout, good, 7); !errors.Is(err, ErrNotFound) {
		t.Errorf("the largest blob, which is not there: got %v", err)
	}
}

// TestLayoutRefuses: what is no layout, and what its files may not be.
func TestLayoutRefuses(t *testing.T) {
	if _, err := OpenLayout(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there was opened")
	}
	for name, test := range map[string]struct {
		marker  []byte // nil: no file
		want    string
		refused bool
	}{
		"no marker":       {nil, "is not an OCI layout", false},
		"another version": {[]byte(`{"imageLayoutVersion":"1.1.0"}`), `got "1.1.0"`, true},
		"no JSON":         {[]byte(`1.0.0`), "version", true},
		"version twice":   {[]byte(`{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}`), "version", true},
		"large":           {bytes.Repeat([]byte(" "), limits.Manifest+1), "at most", true},
	} {
		dir := t.TempDir()
		if test.marker != nil {
			if err := os.WriteFile(filepath.Join(dir, "oci-layout"), test.marker, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := OpenLayout(dir); err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrMismatch) != test.refused {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	l := newTestLayout(t)
	top := l.standard()
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	entry := top
	entry.Platform = nil
	entries := func(n int) []byte {
		var list []v1.Descriptor
		for range n {
			list = append(list, entry)
		}
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: list})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	padded := append(entries(1), bytes.Repeat([]byte(" "), limits.Manifest-len(entries(1)))...)
	for name, test := range map[string]struct {
		index []byte
		ok    bool
	}{
		"most entries": {entries(limits.Referrers), true}, "too many": {entries(limits.Referrers + 1), false},
		"largest": {padded, true}, "too large": {append(bytes.Clone(padded), ' '), false}, "schema 1": {[]byte(`{"schemaVersion":1,"manifests":[]}`), false},
		"no index": {[]byte(`{"schemaVersion":2,"config":{}}`), false}, "no JSON": {[]byte(`[`), false},
	} {
		l.write("index.json", test.index)
		for what, do := range map[string]func() error{
			"resolve":   func() error { _, err := layout.Resolve(t.Context(), ""); return err },
			"referrers": func() error { _, err := layout.Referrers(t.Context(), top.Digest); return err },
			"tag":       func() error { return layout.Tag(t.Context(), "v1", top) },
		} {
			if what == "tag" && test.ok {
				continue
			}
			if err := do(); (err == nil) != test.ok || !test.ok && !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: %s: got %v, want it accepted: %v", name, what, err, test.ok)
			}
		}
	}
	// A manifest that no reader could use is none.
	l.index(entry, l.json(types.OCIImageIndex, map[string]any{"schemaVersion": 3, "manifests": []string{}}))
	if _, err := layout.Resolve(t.Context(), ""); !errors.Is(err, ErrMismatch) {
		t.Errorf("an entry of schema 3: got %v, want a refusal", err)
	}
	if _, err := layout.Referrers(t.Context(), top.Digest); !errors.Is(err, ErrMismatch) {
		t.Errorf("an entry of schema 3: got %v, want a refusal", err)
	}
	l.index(entry)
	for _, bad := range []string{"", "a b", "../x"} {
		if err := layout.Tag(t.Context(), bad, top); err == nil || !strings.Contains(err.Error(), "is not a tag") {
			t.Errorf("tag %q: got %v", bad, err)
		}
	}
	if err := layout.Tag(t.Context(), "v1", v1.Descriptor{Digest: digestOf([]byte("none"))}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag of nothing: got %v, want ErrNotFound", err)
	}
	if _, err := layout.PushManifest(t.Context(), []byte(`{}`), string(types.OCIManifestSchema1)); !errors.Is(err, ErrMismatch) {
		t.Errorf("a manifest that is none: got %v, want a refusal", err)
	}
	gone := func() (io.ReadCloser, error) { return nil, errOutage }
	if err := layout.PushBlob(t.Context(), v1.Descriptor{Digest: digestOf([]byte("x")), Size: 1}, gone); !errors.Is(err, errOutage) {
		t.Errorf("content that is gone: got %v", err)
	}
	other := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("y")), nil }
	for _, d := range []v1.Descriptor{{Digest: digestOf([]byte("x")), Size: 1}, {Digest: digestOf([]byte("x")), Size: -1}, {Digest: v1.Hash{Algorithm: "md5", Hex: "x"}, Size: 1}} {
		if err := layout.PushBlob(t.Context(), d, other); !errors.Is(err, ErrMismatch) {
			t.Errorf("other content for %+v: got %v, want a refusal", d, err)
		}
		if _, _, err := layout.files.open(blobPath(d.Digest)); !errors.Is(err, ErrNotFound) {
			t.Errorf("other content for %+v was stored: %v", d, err)
		}
	}
	if left, err := filepath.Glob(l.path("blobs/*/.blob-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLayoutThatCannotBeWritten: an error, and no half of an image.
func TestLayoutThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLayout(file); err == nil {
		t.Error("a layout was made in a file")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere/else", filepath.Join(dir, "oci-layout")); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLayout(dir); err == nil {
		t.Error("a layout was made over a link")
	}
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for name, spoil := range map[string]func(dir string) error{
		"no directory for blobs": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "blobs")), os.WriteFile(filepath.Join(dir, "blobs"), nil, 0o600))
		},
		"a file for the blob directory": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "blobs/sha256")), os.WriteFile(filepath.Join(dir, "blobs/sha256"), nil, 0o600))
		},
		"a directory for the blob": func(dir string) error { return os.MkdirAll(filepath.Join(dir, blobPath(digestOf(raw)), "x"), 0o700) },
	} {
		l := emptyLayout(t)
		if err := spoil(l.dir); err != nil {
			t.Fatal(err)
		}
		if _, err := l.PushManifest(t.Context(), raw, string(types.OCIImageIndex)); err == nil {
			t.Errorf("%s: the manifest was pushed", name)
		}
	}
}

// TestListedUnderTheFallbackTag: a layout that was copied from a registry without the
// referrers API lists referrers in an index of their own, each once and with its type.
func TestListedUnderTheFallbackTag(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	referrer := func(subject v1.Descriptor) v1.Descriptor {
		return l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: l.blob("application/x-note", []byte("{}")), Subject: &subject})
	}
	other := top
	other.Digest = digestOf([]byte("other"))
	mine, its := referrer(top), referrer(other)
	list := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{mine, its, mine}})
	list.Annotations = map[string]string{RefNameAnnotation: fallbackTag(top.Digest)}
	l.index(top, list)
	found, err := layout.Referrers(t.Context(), top.Digest)
	if err != nil || len(found) != 1 || found[0].Digest != mine.Digest || found[0].ArtifactType != "application/x-note" {
		t.Errorf("got %+v, %v, want the one that is about the image", found, err)
	}
	list.Digest = digestOf([]byte("gone"))
	l.index(top, list)
	if _, err := layout.Referrers(t.Context(), top.Digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("a list that is not there: got %v, want an error", err)
	}
}

// TestIndexOfALayout: what PushManifest and Tag write, other tools can read.
func TestIndexOfALayout(t *testing.T) {
	layout, top := savedLayout(t)
	if err := layout.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(layout.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again changes nothing
		if err := layout.Tag(t.Context(), "v1", top); err != nil {
			t.Fatal(err)
		}
	}
	again, err := os.ReadFile(filepath.Join(layout.dir, "index.json"))
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("a second tag changes the index: %s, %v", again, err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil || index.SchemaVersion != 2 || index.MediaType != types.OCIImageIndex {
		t.Errorf("got %s, %v", raw, err)
	}
	for _, d := range index.Manifests {
		if d.ArtifactType == attest.BundleMediaType && d.Annotations[attest.AnnotationType] == attest.PredicateSLSA1 {
			return
		}
	}
	t.Errorf("no entry has the bundle's artifact type and annotations: %s", raw)
}

// TestMeasureRefusesPlatforms: platforms that tools would tell apart differently.
func TestMeasureRefusesPlatforms(t *testing.T) {
	config := func(bend func(map[string]any)) func([]byte) []byte {
		return func(raw []byte) []byte {
			var c map[string]any
			if err := json.Unmarshal(raw, &c); err != nil {
				t.Fatal(err)
			}
			bend(c)
			raw, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
	}
	set := func(key, value string) func(l *testLayout, im *testImage) {
		return func(_ *testLayout, im *testImage) { im.bendConfig = config(func(c map[string]any) { c[key] = value }) }
	}
	sha512 := v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("ab", 64)}
	measureRefuses(t, []attack{
		{"no os", `got "/amd64"`, one(set("os", ""))},
		{"no architecture", `got "linux/"`, one(set("architecture", ""))},
		{"slash in the os", "platform in configuration", one(set("os", "linux/amd64"))},
		{"space in the variant", "platform in configuration", one(set("variant", "v 7"))},
		{"rootfs of another type", "rootfs of type", one(func(_ *testLayout, im *testImage) {
			im.bendConfig = config(func(c map[string]any) { c["rootfs"].(map[string]any)["type"] = "chunks" })
		})},
		{"variant that the index does not give", "the configuration says linux/amd64/v3", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			im := l.newImage("amd64", fileA(l.t))
			im.bendConfig = config(func(c map[string]any) { c["variant"] = "v3" })
			list[0] = l.image(im)
			return list
		})},
		{"os feature that the index does not give", "linux/amd64/gpu", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			im := l.newImage("amd64", fileA(l.t))
			im.bendConfig = config(func(c map[string]any) { c["os.features"] = []string{"gpu"} })
			list[0] = l.image(im)
			return list
		})},
		{"arm64 beside arm64/v8", "twice", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			d := l.image(l.newImage("arm64", fileA(l.t), tarOf(l.t, testEntry{name: "evil"})))
			d.Platform.Variant = "v8"
			return append(list, d)
		})},
		{"configuration with another digest", "want sha256", func(l *testLayout) {
			l.index(l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
				Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: sha512, Size: 2}}))
		}},
		{"blob of another algorithm", "unexpected file", func(l *testLayout) { l.standard(); l.write(blobPath(sha512), nil) }},
		{"two layers that are wrong", "unpacks to", one(func(l *testLayout, im *testImage) {
			im.diffIDs[0] = digestOf([]byte("x")).String()
		})},
		{"manifest of another size", "got", func(l *testLayout) {
			d := l.image(l.newImage("amd64", fileA(l.t)))
			d.Size++
			l.index(d)
		}},
	})
	// What is said of arm64 in two ways is one platform.
	l := newTestLayout(t)
	d := l.image(l.newImage("arm64", fileA(t)))
	d.Platform.Variant = "v8"
	l.index(l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}}))
	if m, err := MeasureLayout(l.dir); err != nil || m.Platforms[0].Platform.Variant != "" {
		t.Errorf("arm64/v8 in the index: %+v, %v", m, err)
	}
	for want, p := range map[string]v1.Platform{
		"linux/arm64": {OS: "linux", Architecture: "arm64", Variant: "v8"}, "linux/arm64/v9": {OS: "linux", Architecture: "arm64", Variant: "v9"},
		"linux/arm/v8": {OS: "linux", Architecture: "arm", Variant: "v8"}, "windows/amd64/10.0/a/b": {OS: "windows", Architecture: "amd64", OSVersion: "10.0", OSFeatures: []string{"b", "a"}},
	} {
		if got := platformName(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLimitsOfALayer: the limits themselves are allowed, and a failure to read is none of
// the layer's faults.
func TestLimitsOfALayer(t *testing.T) {
	for _, test := range []struct {
		left, total int64
		ok          bool
	}{{4, 4, true}, {3, 4, false}, {4, 3, false}} {
		raw, err := io.ReadAll(&boundedReader{inner: strings.NewReader("four"), left: test.left, total: newBudget(test.total)})
		if (err == nil && string(raw) == "four") != test.ok || !test.ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%+v: got %q, %v", test, raw, err)
		}
	}
	for name, ok := range map[string]bool{"": false, "a\x00b": false, "//a": false, "..": false, "a/..": false, "a/../b": false, "/": true, "/a": true, "./a": true, "a//b": true, "..a": true, ".": true} {
		if err := checkName(name); (err == nil) != ok || !ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("%q: got %v, want it allowed: %v", name, err, ok)
		}
	}
	if err := onlyPadding(&stallingReader{}); !errors.Is(err, errOutage) {
		t.Errorf("padding that cannot be read: got %v", err)
	}
	wrong := fmt.Errorf("x: %w", ErrMismatch)
	if err := unpackError(wrong); err != wrong {
		t.Errorf("a mismatch: got %v, want it as it is", err)
	}
	refused := refuse("y")
	if err := unpackError(refused); err != refused {
		t.Errorf("a refusal: got %v, want it as it is", err)
	}
	if err := unpackError(io.ErrUnexpectedEOF); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "unpacking: ") {
		t.Errorf("a fault of the format: got %v, want a refusal", err)
	}
}

// TestManyTags: as many as are allowed, and never a shorter list.
func TestManyTags(t *testing.T) {
	page := func(images, attachments int) string {
		var tags []string
		for i := range images {
			tags = append(tags, fmt.Sprintf(`"v%d"`, i))
		}
		for i := range attachments {
			tags = append(tags, fmt.Sprintf(`"sha256-%064x"`, i))
		}
		return `{"tags":[` + strings.Join(tags, ",") + `]}`
	}
	for _, test := range []struct {
		images, attachments int
		link                string
		ok                  bool
	}{
		{limits.Images, 0, "", true}, {limits.Images + 1, 0, "", false}, {limits.Images, limits.Images, "", true}, {1, 2*limits.Images - 1, "", true}, {1, 2 * limits.Images, "", false},
		{1, 0, "nonsense", false},
	} {
		r, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", test.link)
			io.WriteString(w, page(test.images, test.attachments))
		})
		tags, attachments, err := r.Tags(t.Context())
		if (err == nil) != test.ok || test.ok && (len(tags) != test.images || attachments != test.attachments) {
			t.Errorf("%+v: got %d and %d, %v", test, len(tags), attachments, err)
		}
	}
}
