package base

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
)

// mirror is a layout with two images for two platforms each, and one that
// triggers a copy from another.
type mirror struct {
	layout *oci.Layout
	images map[string]v1.Image // NAME PLATFORM
	tops   map[string]v1.Hash
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{images: map[string]v1.Image{}, tops: map[string]v1.Hash{}}
	for name, triggers := range map[string][]string{
		"docker.io/library/golang:1.26": nil, "gcr.io/distroless/static:nonroot": nil, "docker.io/library/tools:1": nil,
		"docker.io/library/onbuild:1": {"COPY --from=docker.io/library/tools:1 / /x"},
	} {
		index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
		for _, arch := range []string{"arm64", "amd64"} {
			img, err := random.Image(64, 2)
			if err != nil {
				t.Fatal(err)
			}
			img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
			cf, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			cf = cf.DeepCopy()
			cf.OS, cf.Architecture, cf.Config.OnBuild = "linux", arch, triggers
			if img, err = mutate.ConfigFile(img, cf); err != nil {
				t.Fatal(err)
			}
			m.images[name+" linux/"+arch] = img
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
		if m.tops[name], err = index.Digest(); err != nil {
			t.Fatal(err)
		}
		if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{oci.RefNameAnnotation: name})); err != nil {
			t.Fatal(err)
		}
	}
	if m.layout, err = oci.OpenLayout(dir); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mirror) resolver() *Resolver {
	return &Resolver{Mirror: m.layout, Registry: func(name string) (oci.Source, error) { return nil, fmt.Errorf("asked the registry for %s", name) }}
}

func (m *mirror) diffIDs(t *testing.T, name, platform string) []v1.Hash {
	t.Helper()
	cf, err := m.images[name+" "+platform].ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return cf.RootFS.DiffIDs
}

func TestImagesOfDockerfiles(t *testing.T) {
	m := newMirror(t)
	const golang, static, tools, onbuild = "docker.io/library/golang:1.26", "gcr.io/distroless/static:nonroot", "docker.io/library/tools:1", "docker.io/library/onbuild:1"
	for name, test := range map[string]struct {
		text     string
		recipe   attest.Recipe
		platform string
		images   []string
		lowest   string // image; empty for scratch
		fails    string
	}{
		"one stage":         {text: "FROM golang:1.26\nRUN true\n", images: []string{golang}, lowest: golang},
		"scratch":           {text: "FROM golang:1.26 AS b\nRUN true\nFROM scratch\nCOPY --from=b / /\n", images: []string{golang}},
		"two stages":        {text: "FROM golang:1.26 AS b\nRUN true\nFROM gcr.io/distroless/static:nonroot\nCOPY --from=b / /\n", images: []string{golang, static}, lowest: static},
		"from a stage":      {text: "FROM golang:1.26 AS b\nRUN true\nFROM b AS c\nRUN true\nFROM c\n", images: []string{golang}, lowest: golang},
		"unused stage":      {text: "FROM nowhere.example/x AS b\nFROM golang:1.26\n", images: []string{golang}, lowest: golang},
		"target":            {text: "FROM golang:1.26 AS b\nFROM gcr.io/distroless/static:nonroot\n", recipe: attest.Recipe{Target: "b"}, images: []string{golang}, lowest: golang},
		"argument":          {text: "ARG V=1.25\nARG NAME=golang\nFROM ${NAME}:${V}\n", recipe: attest.Recipe{BuildArgs: map[string]string{"V": "1.26"}}, images: []string{golang}, lowest: golang},
		"stage by argument": {text: "ARG WHICH=one\nFROM golang:1.26 AS one\nFROM gcr.io/distroless/static:nonroot AS two\nFROM $WHICH\n", recipe: attest.Recipe{BuildArgs: map[string]string{"WHICH": "two"}}, images: []string{static}, lowest: static},
		"copy from image":   {text: "FROM golang:1.26\nCOPY --from=tools:1 / /t\n", images: []string{golang, tools}, lowest: golang},
		"mount from image":  {text: "FROM golang:1.26\nRUN --mount=from=tools:1,target=/t true\n", images: []string{golang, tools}, lowest: golang},
		"trigger":           {text: "FROM onbuild:1\n", images: []string{onbuild, tools}, lowest: onbuild},
		"foreign":           {text: "FROM --platform=linux/amd64 golang:1.26 AS b\nFROM gcr.io/distroless/static:nonroot\nCOPY --from=b / /\n", platform: "linux/arm64", images: []string{golang + " linux/amd64", static + " linux/arm64"}, lowest: static},
		"heredoc":           {text: "FROM golang:1.26\nRUN <<E\nFROM tools:1\nE\n", images: []string{golang}, lowest: golang},
		"comment":           {text: "# FROM tools:1\nFROM golang:1.26 # x\n", fails: "determined"},
		"nothing":           {text: "", fails: "determined"},
		"no such target":    {text: "FROM golang:1.26\n", recipe: attest.Recipe{Target: "x"}, fails: "determined"},
		"no such image":     {text: "FROM nowhere.example/x\n", fails: "asked the registry for nowhere.example/x"},
		"Docker's registry": {text: "FROM other\n", fails: "asked the registry for registry-1.docker.io/library/other"},
		"empty argument":    {text: "ARG X\nFROM $X\n", fails: "determined"},
		"circle":            {text: "FROM b AS a\nFROM a AS b\nFROM a\n", fails: "asked the registry"},
		"bad reference":     {text: "FROM bad/Case\n", fails: "determined"},
		"garbage":           {text: "\x00\x01FROM", fails: "determined"},
		"no such platform":  {text: "FROM golang:1.26\n", platform: "linux/s390x", fails: "no image for linux/s390x"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.platform == "" {
				test.platform = "linux/amd64"
			}
			d := dockerfile.Dockerfile{Text: []byte(test.text), Recipe: test.recipe, Epoch: time.Unix(1000, 0)}
			images, lowest, err := Images(t.Context(), d, test.platform, m.resolver().Image)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("got %v and %v, want an error that says %q", images, err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, i := range images {
				got[i.String()+" "+i.Platform] = true
				if i.Top != m.tops[i.String()] || i.Dependency.SHA256 != i.Top.Hex || !slices.Equal(i.DiffIDs, m.diffIDs(t, i.String(), i.Platform)) || len(i.Content) != 5 {
					t.Errorf("%s: %+v", i, i)
				}
			}
			want := map[string]bool{}
			for _, i := range test.images {
				if !strings.Contains(i, " ") {
					i += " " + test.platform
				}
				want[i] = true
			}
			if !maps.Equal(got, want) {
				t.Errorf("got images %v, want %v", got, want)
			}
			var ids []v1.Hash
			if test.lowest != "" {
				ids = m.diffIDs(t, test.lowest, test.platform)
			}
			if !slices.Equal(lowest, ids) {
				t.Errorf("lowest layers: got %v, want those of %q: %v", lowest, test.lowest, ids)
			}
		})
	}
}

// What the registry says of a tag and what the build got must be one thing.
func TestTagsMustAgree(t *testing.T) {
	m := newMirror(t)
	other := m.tops["docker.io/library/tools:1"]
	d := dockerfile.Dockerfile{Text: []byte("FROM golang:1.26\n"), Epoch: time.Unix(1000, 0)}
	r := m.resolver()
	r.Seen = func(domain, name, tag string) (v1.Hash, error) {
		if domain+"/"+name+":"+tag != "docker.io/library/golang:1.26" {
			t.Errorf("asked for %s %s %s", domain, name, tag)
		}
		return other, nil
	}
	_, _, err := Images(t.Context(), d, "linux/amd64", r.Image)
	if _, ok := errors.AsType[*MismatchError](err); !ok || !strings.Contains(err.Error(), other.String()) || !strings.Contains(err.Error(), m.tops["docker.io/library/golang:1.26"].String()) {
		t.Errorf("got %v, want both digests", err)
	}
	r.Pinned = true
	images, _, err := Images(t.Context(), d, "linux/amd64", r.Image)
	if err != nil || images[0].Top != other {
		t.Errorf("pinned: got %v, %v; want %s", images, err, other)
	}
	r.Seen = func(_, _, _ string) (v1.Hash, error) { return v1.Hash{}, errors.New("never seen") }
	if _, _, err := Images(t.Context(), d, "linux/amd64", r.Image); err == nil || !strings.Contains(err.Error(), "never seen") {
		t.Errorf("got %v", err)
	}
}

// A host that is named by digest is asked only if the build was given that image.
func TestDigestsMustHaveBeenSeen(t *testing.T) {
	m := newMirror(t)
	golang, tools := m.tops["docker.io/library/golang:1.26"], m.tops["docker.io/library/tools:1"]
	d := dockerfile.Dockerfile{Text: []byte("FROM golang@" + golang.String() + "\n"), Epoch: time.Unix(1000, 0)}
	r := m.resolver()
	for seen, want := range map[v1.Hash]string{golang: "", tools: tools.String()} {
		r.Seen = func(domain, name, ref string) (v1.Hash, error) {
			if domain+"/"+name+"@"+ref != "docker.io/library/golang@"+golang.String() {
				t.Errorf("asked for %s %s %s", domain, name, ref)
			}
			return seen, nil
		}
		_, _, err := Images(t.Context(), d, "linux/amd64", r.Image)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	r.Seen = func(_, _, _ string) (v1.Hash, error) { return v1.Hash{}, errors.New("never seen") }
	r.Registry = func(string) (oci.Source, error) {
		t.Error("a registry was asked for what the build never got")
		return nil, errors.New("no")
	}
	inside := dockerfile.Dockerfile{Text: []byte("FROM 10.0.0.1/x@" + golang.String() + "\n"), Epoch: time.Unix(1000, 0)}
	if _, _, err := Images(t.Context(), inside, "linux/amd64", r.Image); err == nil || err.Error() != "never seen" {
		t.Errorf("got %v", err)
	}
}

// A converter that fails in a new way is no pass.
func TestPanicIsAnError(t *testing.T) {
	d := dockerfile.Dockerfile{Text: []byte("FROM golang:1.26\n"), Epoch: time.Unix(1000, 0)}
	_, _, err := Images(t.Context(), dockerfile.Dockerfile{Text: d.Text}, "nonsense/x/y/z", nil)
	if _, ok := errors.AsType[*UnsettledError](err); !ok {
		t.Errorf("got %v", err)
	}
	_, _, err = Images(t.Context(), d, "linux/amd64", func(context.Context, Request) (*Image, error) { return nil, errors.New("no") })
	if err == nil || err.Error() != "no" {
		t.Errorf("got %v, want the resolver's error as it is", err)
	}
}

func TestLowest(t *testing.T) {
	h := func(s string) (out []v1.Hash) {
		for _, c := range s {
			out = append(out, v1.Hash{Algorithm: "sha256", Hex: string(c)})
		}
		return out
	}
	for _, test := range []struct {
		base, image string
		ok          bool
	}{
		{"ab", "abc", true}, {"", "abc", true}, {"ab", "ab", true}, {"ab", "a", false}, {"ab", "acb", false}, {"ab", "cab", false},
	} {
		if err := Lowest(h(test.base), h(test.image)); (err == nil) != test.ok {
			t.Errorf("%+v: got %v", test, err)
		}
	}
}
