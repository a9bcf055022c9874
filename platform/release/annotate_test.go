package release

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release/base"
	"github.com/colophon-build/colophon/source"
)

// image is an image for one platform whose builder wrote annotations and labels of its own.
func image(t *testing.T, arch string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, static.NewLayer(make([]byte, 1024), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", arch
	cf.Config.Labels = map[string]string{"org.opencontainers.image.revision": "of the Dockerfile", "org.opencontainers.image.source": "https://git.example.com/team/app"}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return mutate.Annotations(img, map[string]string{"org.opencontainers.image.revision": "a lie", "org.opencontainers.image.base.name": "a lie", "com.example": "kept"}).(v1.Image)
}

func writeImage(t *testing.T, archs ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if len(archs) == 1 {
		err = p.AppendImage(image(t, archs[0]))
	} else {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, arch := range archs {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image(t, arch), Descriptor: v1.Descriptor{
				Platform: &v1.Platform{OS: "linux", Architecture: arch}, Annotations: map[string]string{"org.opencontainers.image.revision": "a lie"},
			}})
		}
		err = p.AppendIndex(mutate.Annotations(index, map[string]string{"org.opencontainers.image.version": "a lie"}).(v1.ImageIndex))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// annotated annotates an image and measures it again.
func annotated(t *testing.T, commit source.Commit, bases map[string]baseOf, archs ...string) (*oci.Measured, string, []string) {
	t.Helper()
	dir := writeImage(t, archs...)
	m, err := oci.MeasureLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	j := &run{commit: commit, emit: func(e api.Event) { said = append(said, e.Line) }}
	a := &attempt{}
	a.Bases = bases
	a.Layout, a.Config = dir, map[string]string{}
	before := m.Descriptor.Digest.String()
	if err := j.annotate(a, m); err != nil {
		t.Fatal(err)
	}
	again, err := oci.MeasureLayout(dir) // it is a whole image, and nothing else
	if err != nil {
		t.Fatal(err)
	}
	if again.Descriptor.Digest != m.Descriptor.Digest || string(again.Raw) != string(m.Raw) || len(again.Platforms) != len(m.Platforms) {
		t.Fatalf("annotate says %+v, the bytes are %+v", m.Descriptor, again.Descriptor)
	}
	for i := range m.Platforms {
		if m.Platforms[i].Manifest.Digest != again.Platforms[i].Manifest.Digest {
			t.Errorf("annotate says %+v, the bytes are %+v", m.Platforms[i].Manifest, again.Platforms[i].Manifest)
		}
	}
	if a.Config["image.built"] != before {
		t.Errorf("image.built: got %q, want %q", a.Config["image.built"], before)
	}
	return m, dir, said
}

func annotationsOf(t *testing.T, raw []byte) string {
	t.Helper()
	var doc struct {
		Annotations map[string]string
		Manifests   []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(doc.Annotations)) {
		lines = append(lines, strings.TrimPrefix(name, "org.opencontainers.image.")+"="+doc.Annotations[name])
	}
	for _, m := range doc.Manifests {
		for name := range m.Annotations {
			lines = append(lines, "of a manifest: "+name)
		}
	}
	return strings.Join(lines, " ")
}

// The annotations say what the attestor knows, whatever the builder wrote there.
func TestAnnotations(t *testing.T) {
	commit := source.Commit{URI: "https://git.example.com/team/app", Ref: "refs/tags/v1.2.0", ID: strings.Repeat("c", 40), Time: time.Unix(1700000000, 0)}
	alpine := baseOf{"docker.io/library/alpine:3.22", "sha256:" + hex64("a")}
	const known = "created=2023-11-14T22:13:20Z revision=cccccccccccccccccccccccccccccccccccccccc source=https://git.example.com/team/app"
	m, _, said := annotated(t, commit, map[string]baseOf{"linux/amd64": alpine}, "amd64")
	if got, want := annotationsOf(t, m.Raw), "com.example=kept base.digest="+alpine.Digest+" base.name="+alpine.Name+" "+known+" version=v1.2.0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(said) != 2 || !strings.Contains(said[0], `image.revision is "of the Dockerfile"`) || strings.Contains(said[0], "image.source") {
		t.Errorf("said %q, want that the label contradicts", said)
	}
	branch := commit
	branch.Ref = "refs/heads/main"
	m, dir, _ := annotated(t, branch, map[string]baseOf{"linux/amd64": alpine, "linux/arm64": {}}, "amd64", "arm64")
	if got := annotationsOf(t, m.Raw); got != known { // of an index; the platforms have different bases
		t.Errorf("got %s, want %s", got, known)
	}
	for i, want := range []string{"com.example=kept base.digest=" + alpine.Digest + " base.name=" + alpine.Name + " " + known, "com.example=kept " + known} {
		raw, err := os.ReadFile(blobFile(dir, m.Platforms[i].Manifest.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if got := annotationsOf(t, raw); got != want {
			t.Errorf("%s: got %s, want %s", m.Platforms[i].Platform, got, want)
		}
	}
}

// The same ref of the same address gives the same digest; another commit, tag or address
// gives another one, so that no digest has two origins.
func TestAnnotationsAreReproducible(t *testing.T) {
	digest := func(c source.Commit, archs ...string) v1.Hash {
		m, _, _ := annotated(t, c, nil, archs...)
		return m.Descriptor.Digest
	}
	commit := source.Commit{URI: "https://git.example.com/team/app", Ref: "refs/tags/v1.2.0", ID: strings.Repeat("c", 40), Time: time.Unix(1700000000, 0)}
	for _, archs := range [][]string{{"amd64"}, {"amd64", "arm64"}} {
		first := digest(commit, archs...)
		if again := digest(commit, archs...); again != first {
			t.Errorf("%v: got %s and %s", archs, first, again)
		}
		here := commit
		here.Time = commit.Time.In(time.FixedZone("", 3600)) // another zone, and the same time
		if again := digest(here, archs...); again != first {
			t.Errorf("%v, in another time zone: got %s and %s", archs, first, again)
		}
		for what, change := range map[string]func(*source.Commit){
			"commit": func(c *source.Commit) { c.ID = strings.Repeat("d", 40) }, "tag": func(c *source.Commit) { c.Ref = "refs/tags/v1.2.1" },
			"address": func(c *source.Commit) { c.URI = "https://mirror.example.com/team/app" },
		} {
			other := commit
			change(&other)
			if digest(other, archs...) == first {
				t.Errorf("%v: another %s gives the same digest", archs, what)
			}
		}
	}
}

func TestBasedOn(t *testing.T) {
	h := func(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex64(c)} }
	image := func(tag, top string, diffs ...string) *base.Image {
		i := &base.Image{Domain: "docker.io", Name: "library/x", Tag: tag, Top: h(top)}
		for _, d := range diffs {
			i.DiffIDs = append(i.DiffIDs, h(d))
		}
		return i
	}
	builder, run, same := image("1", "a", "1", "2"), image("2", "b", "3"), image("3", "c", "3")
	for name, tt := range map[string]struct {
		images []*base.Image
		lowest []v1.Hash
		want   string
	}{
		"one of two stages":  {[]*base.Image{builder, run, run}, []v1.Hash{h("3")}, "docker.io/library/x:2"},
		"scratch":            {[]*base.Image{builder}, nil, ""},
		"no base":            {[]*base.Image{image("0", "d")}, nil, ""},
		"two with its bytes": {[]*base.Image{run, same}, []v1.Hash{h("3")}, ""},
		"two, other order":   {[]*base.Image{same, run, same}, []v1.Hash{h("3")}, ""},
	} {
		if got := basedOn(tt.images, tt.lowest); got.Name != tt.want {
			t.Errorf("%s: got %+v, want %q", name, got, tt.want)
		}
	}
}
