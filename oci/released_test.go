package oci

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
)

// filesLayout writes a layout with two release files, after bend has changed its manifest.
func filesLayout(t *testing.T, bend func(m *v1.Manifest, blobs map[string][]byte)) string {
	t.Helper()
	blobs := map[string][]byte{"a": []byte("for linux"), "b": []byte("for macOS")}
	layer := func(name string, content []byte) v1.Descriptor {
		return v1.Descriptor{MediaType: fileMediaType, Digest: digestOf(content), Size: int64(len(content)), Annotations: map[string]string{attest.TitleAnnotation: name}}
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: attest.FilesArtifactType,
		Config: v1.Descriptor{MediaType: types.OCIEmptyJSON, Size: 2, Digest: digestOf(emptyConfig)},
		Layers: []v1.Descriptor{layer("app-darwin-arm64", blobs["b"]), layer("app-linux-amd64", blobs["a"])}}
	blobs["config"] = emptyConfig
	if bend != nil {
		bend(&m, blobs)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	blobs["manifest"] = raw
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{MediaType: m.MediaType, Digest: digestOf(raw), Size: int64(len(raw))}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write("index.json", index)
	for _, content := range blobs {
		write("blobs/sha256/"+digestOf(content).Hex, content)
	}
	return dir
}

// TestMeasureFiles: a layout of release files has nothing but the files under plain names.
func TestMeasureFiles(t *testing.T) {
	m, err := MeasureFiles(filesLayout(t, nil))
	if err != nil || len(m.Files) != 2 || m.Files[1].Name != "app-linux-amd64" || m.Files[1].Descriptor.Digest != digestOf([]byte("for linux")) {
		t.Fatalf("got %+v, %v", m, err)
	}
	title := func(nth int, name string) func(*v1.Manifest, map[string][]byte) {
		return func(m *v1.Manifest, _ map[string][]byte) { m.Layers[nth].Annotations[attest.TitleAnnotation] = name }
	}
	for name, tt := range map[string]struct {
		bend func(*v1.Manifest, map[string][]byte)
		want string
	}{
		"a path":              {title(0, "../app-darwin-arm64"), "name of a file"},
		"a directory":         {title(0, "a/b"), "name of a file"},
		"a hidden file":       {title(0, ".bashrc"), "name of a file"},
		"a line break":        {title(0, "app\nx"), "name of a file"},
		"no name":             {func(m *v1.Manifest, _ map[string][]byte) { m.Layers[0].Annotations = nil }, "name of a file"},
		"a device":            {title(0, "aux.exe"), "a device on Windows"},
		"a list of digests":   {title(0, "SHA256SUMS"), "list of digests"},
		"a bundle":            {title(0, "app-linux-amd64.intoto.jsonl"), "file with bundles"},
		"a name twice":        {title(0, "app-linux-amd64"), "twice"},
		"the same in capital": {title(0, "APP-linux-amd64"), "twice"},
		"another order":       {title(0, "zz"), "the order of names"},
		"another annotation":  {func(m *v1.Manifest, _ map[string][]byte) { m.Layers[0].Annotations["x"] = "y" }, "with other members"},
		"a layer of an image": {func(m *v1.Manifest, _ map[string][]byte) { m.Layers[0].MediaType = types.OCILayer }, "with other members"},
		"an address":          {func(m *v1.Manifest, _ map[string][]byte) { m.Layers[0].URLs = []string{"https://x.test/"} }, "with other members"},
		"no files":            {func(m *v1.Manifest, _ map[string][]byte) { m.Layers = []v1.Descriptor{} }, "no file"},
		"an image":            {func(m *v1.Manifest, _ map[string][]byte) { m.ArtifactType = "" }, "artifact type"},
		"a subject":           {func(m *v1.Manifest, _ map[string][]byte) { m.Subject = &m.Layers[0] }, "got a subject"},
		"a configuration": {func(m *v1.Manifest, b map[string][]byte) {
			b["config"] = []byte(`{"os":"linux"}`)
			m.Config.Digest, m.Config.Size = digestOf(b["config"]), int64(len(b["config"]))
		}, "want the empty one"},
		"a blob too many": {func(_ *v1.Manifest, b map[string][]byte) { b["more"] = []byte("more") }, "is not part of the release files"},
		"a missing file":  {func(_ *v1.Manifest, b map[string][]byte) { delete(b, "a") }, "is missing"},
		"another size":    {func(m *v1.Manifest, _ map[string][]byte) { m.Layers[0].Size++ }, "want 10"},
	} {
		m, err := MeasureFiles(filesLayout(t, tt.bend))
		if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, m, err, tt.want)
		}
	}
	if _, err := MeasureLayout(filesLayout(t, nil)); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "artifact") {
		t.Errorf("as an image: got %v", err)
	}
}

// TestMeasureLinkedFile: a blob that is a link leads nowhere.
func TestMeasureLinkedFile(t *testing.T) {
	dir := filesLayout(t, nil)
	blob := filepath.Join(dir, "blobs/sha256", digestOf([]byte("for linux")).Hex)
	outside := filepath.Join(t.TempDir(), "same bytes")
	if err := errors.Join(os.WriteFile(outside, []byte("for linux"), 0o600), os.Remove(blob), os.Symlink(outside, blob)); err != nil {
		t.Fatal(err)
	}
	if m, err := MeasureFiles(dir); err == nil {
		t.Errorf("got %+v", m)
	}
}

// TestFilesManifest: what is written is what is read, and the same each time.
func TestFilesManifest(t *testing.T) {
	files := []File{{"a-linux-amd64", v1.Descriptor{MediaType: fileMediaType, Digest: digestOf([]byte("a")), Size: 1}}, {"b-linux-amd64", v1.Descriptor{MediaType: fileMediaType, Digest: digestOf([]byte("b")), Size: 1}}}
	raw, d, err := FilesManifest(files, map[string]string{"org.opencontainers.image.version": "v1"})
	if err != nil || d.Digest != digestOf(raw) {
		t.Fatalf("got %+v, %v", d, err)
	}
	back, err := ParseFiles(raw)
	if err != nil || len(back) != 2 || back[0].Name != files[0].Name || back[1].Descriptor.Digest != files[1].Descriptor.Digest {
		t.Errorf("got %+v, %v", back, err)
	}
	if _, _, err := FilesManifest([]File{files[1], files[0]}, nil); err == nil {
		t.Error("files in another order were taken")
	}
}
