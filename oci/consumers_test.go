package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// soleLayout is a layout with one image of two platforms, under the tag v1.
func soleLayout(t *testing.T) (*testLayout, v1.Descriptor) {
	l := newTestLayout(t)
	top := l.standard()
	top.Annotations = map[string]string{RefNameAnnotation: "v1"}
	l.index(top)
	return l, top
}

// stranger adds another image.
func (l *testLayout) stranger(bend func(*v1.Manifest)) v1.Descriptor {
	im := l.newImage("amd64", tarOf(l.t, testEntry{name: "/bin/sh", content: "evil"}))
	if bend != nil {
		bend(&im.manifest)
	}
	d := l.image(im)
	d.Platform = nil
	return d
}

// artifact adds a manifest that is no image unless the types say so.
func (l *testLayout) artifact(manifest, config, layer types.MediaType, content []byte) v1.Descriptor {
	m := v1.Manifest{SchemaVersion: 2, MediaType: manifest, Config: l.blob(config, []byte("{}"))}
	if layer != "" {
		m.Layers = []v1.Descriptor{l.blob(layer, content)}
	}
	return l.json(manifest, m)
}

// checkSoleIn checks a directory or archive as a verifier of a reference would.
func checkSoleIn(t *testing.T, path, reference string) error {
	ref := Reference{Dir: path}
	src, err := ref.Open(RegistryOptions{})
	if err != nil {
		return err
	}
	l := src.(*Layout)
	defer l.Close()
	d, err := l.Resolve(t.Context(), reference)
	if err != nil {
		return err
	}
	return l.CheckSole(t.Context(), reference, d)
}

const (
	noConfig  = types.MediaType("application/vnd.oci.empty.v1+json")
	signature = types.MediaType("application/vnd.dev.cosign.simplesigning.v1+json")
)

func TestCheckSole(t *testing.T) {
	elf := []byte("\x7fELF")
	for name, c := range map[string]struct {
		bend             func(*testLayout, v1.Descriptor)
		archive, v1, dir string // in the error for the archive, the tag in the directory, the directory; empty: no error
	}{
		"as it is": {func(l *testLayout, top v1.Descriptor) {}, "", "", ""},
		"two tags of one image": {func(l *testLayout, top v1.Descriptor) {
			again := top
			again.Annotations = map[string]string{RefNameAnnotation: "v2", imageNameAnnotation: "docker.io/team/app:v2"}
			l.index(top, again)
		}, "", "", ""},
		"attachments": {func(l *testLayout, top v1.Descriptor) {
			tagged := l.artifact(types.OCIManifestSchema1, types.OCIConfigJSON, signature, []byte(`{"critical":{}}`))
			tagged.Annotations = map[string]string{RefNameAnnotation: CosignSignatures.Of(top.Digest)}
			referrer := l.json(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Subject: &top,
				Config: l.blob(noConfig, []byte("{}")), Layers: []v1.Descriptor{l.blob("text/plain", elf)}})
			fallback := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{referrer}})
			fallback.Annotations = map[string]string{RefNameAnnotation: fallbackTag(top.Digest)}
			l.index(top, tagged, referrer, fallback)
		}, "", "", ""},
		"another tag, another image": {func(l *testLayout, top v1.Descriptor) {
			other := l.stranger(nil)
			other.Annotations = map[string]string{RefNameAnnotation: "v2"}
			l.index(top, other)
		}, "can be run", "", "2 images"},
		"an image with a subject": {func(l *testLayout, top v1.Descriptor) {
			l.index(top, l.stranger(func(m *v1.Manifest) { m.Subject = &top }))
		}, "can be run", "", "can be run"},
		"an image with a subject, and the tag for BuildKit and containerd": {func(l *testLayout, top v1.Descriptor) {
			other := l.stranger(func(m *v1.Manifest) { m.Subject = &top })
			other.Annotations = map[string]string{imageNameAnnotation: "docker.io/team/app:v1"}
			l.index(top, other)
		}, "can be run", "can be run", "can be run"},
		"an image in an index of attachments": {func(l *testLayout, top v1.Descriptor) {
			fallback := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{l.stranger(nil)}})
			fallback.Annotations = map[string]string{RefNameAnnotation: fallbackTag(top.Digest)}
			l.index(top, fallback)
		}, "can be run", "", "can be run"},
		"an index in an index of attachments": {func(l *testLayout, top v1.Descriptor) {
			inner := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{l.stranger(nil)}})
			outer := l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{inner}})
			outer.Annotations = map[string]string{RefNameAnnotation: fallbackTag(top.Digest)}
			l.index(top, outer)
		}, "in another index", "", "in another index"},
		"a tar with the type of a signature": {func(l *testLayout, top v1.Descriptor) {
			d := l.artifact(types.OCIManifestSchema1, types.OCIConfigJSON, signature, tarOf(t, testEntry{name: "sh"}))
			d.Annotations = map[string]string{RefNameAnnotation: CosignSignatures.Of(top.Digest)}
			l.index(top, d)
		}, "not JSON", "", "not JSON"},
		"layers of an artifact": {func(l *testLayout, top v1.Descriptor) {
			d := l.artifact(types.OCIManifestSchema1, noConfig, types.OCILayer, gzipOf(t, tarOf(t, testEntry{name: "sh"})))
			d.Annotations = map[string]string{RefNameAnnotation: CosignSignatures.Of(top.Digest)}
			l.index(top, d)
		}, "can be run", "", "can be run"},
		"docker's manifest with the configuration of an artifact": {func(l *testLayout, top v1.Descriptor) {
			d := l.artifact(types.DockerManifestSchema2, noConfig, "text/plain", tarOf(t, testEntry{name: "sh"}))
			d.Annotations = map[string]string{RefNameAnnotation: CosignSignatures.Of(top.Digest)}
			l.index(top, d)
		}, "not JSON", "", "not JSON"},
		"a configuration alone": {func(l *testLayout, top v1.Descriptor) {
			d := l.artifact(types.OCIManifestSchema1, types.OCIConfigJSON, "", nil)
			d.Annotations = map[string]string{RefNameAnnotation: CosignSignatures.Of(top.Digest)}
			l.index(top, d)
		}, "can be run", "", "can be run"},
		"an entry that contradicts its manifest": {func(l *testLayout, top v1.Descriptor) {
			again := top
			again.MediaType = types.OCIManifestSchema1
			l.index(top, again)
		}, "index.json says", "index.json says", "index.json says"},
		"inline data": {func(l *testLayout, top v1.Descriptor) {
			top.Data = []byte("{}")
			l.index(top)
		}, "data", "data", "data"},
		"a manifest.json for the image": {func(l *testLayout, top v1.Descriptor) { l.dockerManifest(top, nil) }, "", "", ""},
		"a manifest.json with other layers": {func(l *testLayout, top v1.Descriptor) {
			l.dockerManifest(top, func(item map[string]any) { item["Layers"] = item["Layers"].([]string)[:1] })
		}, "manifest.json", "manifest.json", "manifest.json"},
		"a manifest.json with another configuration": {func(l *testLayout, top v1.Descriptor) {
			l.dockerManifest(top, func(item map[string]any) {
				item["Config"] = blobPath(l.blob("", []byte(`{"os":"linux"}`)).Digest)
			})
		}, "manifest.json", "manifest.json", "manifest.json"},
		"a manifest.json whose layer comes from elsewhere": {func(l *testLayout, top v1.Descriptor) {
			l.dockerManifest(top, func(item map[string]any) {
				item["LayerSources"] = map[string]any{"sha256:" + strings.Repeat("ab", 32): map[string]any{"mediaType": types.OCILayer, "size": 1, "digest": top.Digest, "urls": []string{"https://evil.example"}}}
			})
		}, "source", "source", "source"},
		"a manifest.json with a member of another reader": {func(l *testLayout, top v1.Descriptor) {
			l.dockerManifest(top, func(item map[string]any) { item["config"] = "x" })
		}, "manifest.json", "manifest.json", "manifest.json"},
		"repositories alone": {func(l *testLayout, top v1.Descriptor) { l.write(dockerTags, []byte("{}")) }, "repositories", "repositories", "repositories"},
		"a legacy image of docker": {func(l *testLayout, top v1.Descriptor) {
			l.write(strings.Repeat("fe", 32)+"/json", []byte("{}"))
		}, "unexpected file", "unexpected file", "unexpected file"},
		"index.json in another case": {func(l *testLayout, top v1.Descriptor) { l.write("index.JSON", []byte("{}")) }, "unexpected file", "unexpected file", "unexpected file"},
	} {
		l, top := soleLayout(t)
		c.bend(l, top)
		for where, check := range map[string]struct{ path, reference, want string }{
			"archive":                {archiveOf(t, l.dir, ""), "", c.archive},
			"archive, by its tag":    {archiveOf(t, l.dir, "./"), "v1", c.archive},
			"archive, by its digest": {archiveOf(t, l.dir, ""), top.Digest.String(), c.archive},
			"tag in a directory":     {l.dir, "v1", c.v1},
			"directory":              {l.dir, "", c.dir},
		} {
			err := checkSoleIn(t, check.path, check.reference)
			if where == "archive" && strings.Contains(c.dir, "2 images") {
				continue // nothing says which of two images the archive means
			}
			if (err == nil) != (check.want == "") || err != nil && !strings.Contains(err.Error(), check.want) {
				t.Errorf("%s, %s: got %v, want %q in it", name, where, err, check.want)
			}
		}
	}
}

// dockerManifest writes the manifest.json for the first platform of an index.
func (l *testLayout) dockerManifest(top v1.Descriptor, bend func(map[string]any)) {
	l.t.Helper()
	read := func(h v1.Hash, v any) {
		raw, err := os.ReadFile(filepath.Join(l.dir, blobPath(h)))
		if err != nil {
			l.t.Fatal(err)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			l.t.Fatal(err)
		}
	}
	var index v1.IndexManifest
	read(top.Digest, &index)
	var m v1.Manifest
	read(index.Manifests[0].Digest, &m)
	item := map[string]any{"Config": blobPath(m.Config.Digest), "RepoTags": []string{"team/app:v1"}}
	var layers []string
	for _, d := range m.Layers {
		layers = append(layers, blobPath(d.Digest))
	}
	if item["Layers"] = layers; bend != nil {
		bend(item)
	}
	raw, err := json.Marshal([]any{item})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(dockerManifest, raw)
}

// TestArchiveForOneReader: tars that tools unpack differently are refused.
func TestArchiveForOneReader(t *testing.T) {
	l, _ := soleLayout(t)
	plain := archiveOf(t, l.dir, "")
	if err := checkSoleIn(t, plain, ""); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := soleLayout(t)
	other.index(other.stranger(nil))
	evil, err := os.ReadFile(archiveOf(t, other.dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	polyglot := gzipAndTar(t, evil, raw)
	if zr, err := gzip.NewReader(bytes.NewReader(polyglot)); err != nil {
		t.Fatal(err)
	} else if h, err := tar.NewReader(zr).Next(); err != nil {
		t.Fatalf("the gzip holds no tar: %+v, %v", h, err)
	}
	if h, err := tar.NewReader(bytes.NewReader(polyglot)).Next(); err != nil || !strings.HasPrefix(h.Name, "blobs/") {
		t.Fatalf("the file is no tar: %+v, %v", h, err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"a link":         {withEntry(raw, "manifest.json", '2', "index.json"), "neither a file nor a directory"},
		"a hard link":    {withEntry(raw, "manifest.json", '1', "index.json"), "neither a file nor a directory"},
		"a device":       {withEntry(raw, "manifest.json", '3', ""), "neither a file nor a directory"},
		"global header":  {withEntry(raw, "PaxHeader/global", 'g', ""), "neither a file nor a directory"},
		"gzip and a tar": {polyglot, "unpack first"},
	} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, c.raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkSoleIn(t, path, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

// withEntry returns a tar with one more entry without content before the others.
func withEntry(raw []byte, name string, kind byte, link string) []byte {
	return append(tarHeader(name, kind, link, 0), raw...)
}

// tarHeader returns a header in the format of ustar. Nothing in it needs to make sense.
func tarHeader(name string, kind byte, link string, size int) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	h[156] = kind
	copy(h[157:], link)
	copy(h[257:], "ustar\x0000")
	return sumHeader(h)
}

func sumHeader(h []byte) []byte {
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// gzipAndTar returns a file that is the gzip of one tar for tools that look for
// compression, and another tar for those that do not. It begins with a PAX header, whose
// own name means nothing: here, that is the header of a gzip, with an extra field that
// holds the rest of the tar's header. The compressed tar is a comment in the PAX header.
func gzipAndTar(t *testing.T, inner, outer []byte) []byte {
	deflated := gzipOf(t, inner)[10:]
	record := " comment=" + string(deflated) + "\n"
	size := len(record) + 4
	payload := fmt.Appendf(nil, "%04d%s", size, record)
	at := 512 + bytes.Index(payload, deflated)
	header := tarHeader("\x1f\x8b\x08\x04\x01\x01\x01\x01\x01\xff", 'x', "", len(payload))
	header[10], header[11] = byte(at-12), byte((at-12)>>8)
	file := append(sumHeader(header), payload...)
	file = append(file, make([]byte, -len(file)&511)...)
	return append(file, outer...)
}
