package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestVerifyWhatOthersLoad: an archive or a layout with a genuine image and its proof
// is rejected if another tool would take another image from it.
func TestVerifyWhatOthersLoad(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	demand := []string{"--source", "git.example.com/team/app", "--skip-source"}
	for name, c := range map[string]struct {
		bend func(*genuine)
		want string
	}{
		"docker up to 24 reads manifest.json": {func(g *genuine) {
			config, layer := g.stranger()
			g.json("manifest.json", []map[string]any{{"Config": blob(config), "Layers": []string{blob(layer)}, "RepoTags": []string{"team/app:v1.2.0"}}})
		}, "manifest.json"},
		"a subject hides an image from us": {func(g *genuine) {
			g.entry(g.manifest(func(m *v1.Manifest) { m.Subject = &g.image }), nil)
		}, "can be run"},
		"containerd's name of the image": {func(g *genuine) {
			g.entry(g.manifest(func(m *v1.Manifest) { m.Subject = &g.image }), map[string]string{"io.containerd.image.name": "docker.io/team/app:v1.2.0"})
		}, "can be run"},
		"the tag of a signature": {func(g *genuine) {
			g.entry(g.manifest(nil), map[string]string{oci.RefNameAnnotation: oci.CosignSignatures.Of(g.image.Digest)})
		}, "can be run"},
		"another case of the letters": {func(g *genuine) {
			index := g.index()
			raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": index.Manifests, "Manifests": []v1.Descriptor{g.manifest(nil)}})
			if err != nil {
				t.Fatal(err)
			}
			g.write("index.json", raw)
		}, "another case"},
		"a link in place of a file": {func(g *genuine) {
			if err := os.Symlink("index.json", filepath.Join(g.dir, "manifest.json")); err != nil {
				t.Fatal(err)
			}
		}, "manifest.json"},
		"a file that is no part of a layout": {func(g *genuine) { g.write("install.sh", []byte("rm -rf /\n")) }, "install.sh"},
	} {
		t.Log(name)
		g := newGenuine(t, s)
		s.run(exitOK, append([]string{"verify", tarOf(t, g.dir)}, demand...), "accepted")
		s.run(exitOK, append([]string{"verify", g.dir}, demand...), "accepted")
		c.bend(g)
		s.run(exitRejected, append([]string{"verify", tarOf(t, g.dir)}, demand...), c.want, "rejected")
		s.run(exitRejected, append([]string{"verify", "oci:" + g.dir}, demand...), c.want, "rejected")
		s.run(exitRejected, append([]string{"verify", tarOf(t, g.dir) + "@" + g.image.Digest.String()}, demand...), c.want, "rejected")
	}
}

// genuine is a layout with a released image and its proofs, which tests bend.
type genuine struct {
	t     *testing.T
	dir   string
	image v1.Descriptor
}

func newGenuine(t *testing.T, s *stage) *genuine {
	g := &genuine{t: t, dir: t.TempDir()}
	dst, err := oci.CreateLayout(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	store := prooftest.NewStore(t)
	s.p.Release(store).Attach(prooftest.Kinds...)
	store.Push(t.Context(), dst)
	if g.image, err = dst.Resolve(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *genuine) write(name string, raw []byte) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, filepath.FromSlash(name)), raw, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *genuine) json(name string, v any) []byte {
	g.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		g.t.Fatal(err)
	}
	g.write(name, raw)
	return raw
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// stranger adds configuration and layer of another image.
func (g *genuine) stranger() (config, layer v1.Hash) {
	m := g.parts()
	return m.Config.Digest, m.Layers[0].Digest
}

func (g *genuine) parts() *v1.Manifest {
	g.t.Helper()
	img, err := random.Image(1000, 1)
	if err != nil {
		g.t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		g.t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		g.t.Fatal(err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		g.t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		g.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(g.dir, blob(m.Layers[0].Digest)))
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := f.ReadFrom(rc); err != nil {
		g.t.Fatal(err)
	}
	f.Close()
	g.write(blob(m.Config.Digest), config)
	m.MediaType, m.Config.MediaType, m.Layers[0].MediaType = types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer
	return m
}

// manifest adds another image, which bend changes.
func (g *genuine) manifest(bend func(*v1.Manifest)) v1.Descriptor {
	g.t.Helper()
	m := g.parts()
	if bend != nil {
		bend(m)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		g.t.Fatal(err)
	}
	h, size, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		g.t.Fatal(err)
	}
	g.write(blob(h), raw)
	return v1.Descriptor{MediaType: m.MediaType, Digest: h, Size: size}
}

func (g *genuine) index() *v1.IndexManifest {
	g.t.Helper()
	raw, err := os.ReadFile(filepath.Join(g.dir, "index.json"))
	if err != nil {
		g.t.Fatal(err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		g.t.Fatal(err)
	}
	return &index
}

// entry adds an entry to index.json.
func (g *genuine) entry(d v1.Descriptor, annotations map[string]string) {
	index := g.index()
	d.Annotations = annotations
	index.Manifests = append(index.Manifests, d)
	g.json("index.json", index)
}
