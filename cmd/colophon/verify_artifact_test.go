package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestVerifyArtifacts verifies and shows what is in registries and is no image: a Helm
// chart, a configuration in YAML, an artifact with the empty configuration.
func TestVerifyArtifacts(t *testing.T) {
	for name, tt := range map[string]struct {
		config     string
		configType types.MediaType
		artifact   string
		layer      types.MediaType
		shown      string
	}{
		"Helm chart":           {`{"name":"chart","version":"1.0.0","apiVersion":"v2"}`, "application/vnd.cncf.helm.config.v1+json", "", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "artifact of type application/vnd.cncf.helm.config.v1+json"},
		"YAML":                 {"kind: Policy\n", "application/vnd.example.config.v1+yaml", "", "application/vnd.example.layer", "artifact of type application/vnd.example.config.v1+yaml"},
		"empty configuration":  {`{}`, types.OCIEmptyJSON, "application/vnd.example.thing", "application/octet-stream", "artifact of type application/vnd.example.thing"},
		"image of no platform": {`{}`, types.OCIConfigJSON, "", types.OCILayer, "no platform"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
			dir := t.TempDir()
			dst, err := oci.CreateLayout(dir)
			if err != nil {
				t.Fatal(err)
			}
			store := prooftest.NewStore(t)
			raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: tt.artifact,
				Config: store.Put([]byte(tt.config), tt.configType), Layers: []v1.Descriptor{store.Put([]byte("content"), tt.layer)}})
			if err != nil {
				t.Fatal(err)
			}
			artifact := store.Put(raw, types.OCIManifestSchema1)
			store.Tag("v1", artifact)
			r := s.p.ReleaseOf(artifact)
			for _, kind := range prooftest.Kinds {
				store.Attach(artifact, s.p.Sign(r.Signer(), r.Statement(kind)), kind)
			}
			store.Push(t.Context(), dst)
			s.run(exitOK, []string{"verify", dir + ":v1", "--source", "git.example.com/team/app", "--skip-source"}, "✓ image       "+tt.shown, "accepted")
			s.run(exitRejected, []string{"verify", dir + ":v1", "--source", "git.example.com/team/app", "--skip-source", "--platform", "linux/amd64"}, "want linux/amd64")
			if tt.shown == "no platform" {
				tt.shown = "image"
			}
			s.run(exitOK, []string{"inspect", dir + ":v1"}, "─ "+tt.shown+"  sha256:")
		})
	}
}

// TestArtifactInIndex: a manifest for a platform is an image, whatever the type of its
// configuration, because tools run it.
func TestArtifactInIndex(t *testing.T) {
	s := newStage(t)
	store := prooftest.NewStore(t)
	raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: store.Put([]byte(`{"os":"linux","architecture":"arm64"}`), "application/x"), Layers: []v1.Descriptor{store.Put([]byte("content"), types.OCILayer)}})
	if err != nil {
		t.Fatal(err)
	}
	m := store.Put(raw, types.OCIManifestSchema1)
	m.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	if raw, err = json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{m}}); err != nil {
		t.Fatal(err)
	}
	store.Tag("v1", store.Put(raw, types.OCIImageIndex))
	dir := t.TempDir()
	dst, err := oci.CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Push(t.Context(), dst)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	s.run(exitRejected, []string{"verify", dir + ":v1", "--source", "git.example.com/team/app", "--skip-source"}, `got "linux/arm64", want "linux/amd64"`)
}

// TestVerifySpelling: real provenance from GitHub whose source is demanded in another
// spelling of the same repository.
func TestVerifySpelling(t *testing.T) {
	s := trustSigstore(t)
	const here = "testdata/github-attestation/"
	for source, hint := range map[string]string{
		"github.com/Aspect-Build/rules_lint":     "hint: it was built from https://github.com/aspect-build/rules_lint: write the source",
		"git@github.com:aspect-build/rules_lint": "hint: it was built from https://github.com/aspect-build/rules_lint: write the source",
		"github.com/aspect-build/rules_lint2":    "rejected",
	} {
		s.run(exitRejected, []string{"verify", here + "MODULE.bazel", "--bundle", here + "MODULE.bazel.intoto.jsonl", "--source", source, "--offline"}, "rejected", hint)
	}
}

// TestVerifyFileSpelledAsImage: the path of a file is that file, also if its name could be that of an image in
// a layout or an archive: who serves a file chooses its name.
func TestVerifyFileSpelledAsImage(t *testing.T) {
	s := trustSigstore(t)
	const here = "testdata/github-attestation/"
	dir := t.TempDir()
	for _, name := range []string{"MODULE@sha256:" + strings.Repeat("0", 64), "MODULE:v1"} {
		file := filepath.Join(dir, name)
		for ending, from := range map[string]string{"": "MODULE.bazel", ".intoto.jsonl": "MODULE.bazel.intoto.jsonl"} {
			raw, err := os.ReadFile(here + from)
			if err := errors.Join(err, os.WriteFile(file+ending, raw, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		demand := []string{"--source", "github.com/aspect-build/rules_lint", "--skip-source"}
		s.run(exitOK, append([]string{"verify", file}, demand...), "accepted")
		s.run(exitOK, append([]string{"verify", file, "--bundle", file + ".intoto.jsonl"}, demand...), "accepted")
	}
}
