package release

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"net/http"
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

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/trust"
)

// inTar is an entry of a layer: a file with its text, or what change makes of it.
func inTar(name, text string, change func(*tar.Header)) func(*tar.Writer) {
	return func(w *tar.Writer) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o755}
		if change != nil {
			change(h)
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, text)
		}
	}
}

// kind makes an entry one of another type.
func kind(flag byte) func(*tar.Header) {
	return func(h *tar.Header) { h.Typeflag, h.Size, h.Linkname = flag, 0, "hello" }
}

func tarOf(entries ...func(*tar.Writer)) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e(w)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// handOver writes a layout of one image, as a builder does, and returns the image's digest.
func handOver(dir string, img v1.Image) (digest string, err error) {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", err
	}
	if err := p.AppendImage(img); err != nil {
		return "", err
	}
	d, err := img.Digest()
	return d.String(), err
}

// stageBuilder is a build zone that hands over images with these layers, by platform.
type stageBuilder map[string][][]byte

func (b stageBuilder) image(platform string) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range b[platform] {
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(l, types.OCIUncompressedLayer)); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, _ = strings.Cut(platform, "/")
	return mutate.ConfigFile(img, config)
}

// Build implements builder.Builder.
func (b stageBuilder) Build(_ context.Context, req builder.Request) (*builder.Result, error) {
	p, err := layout.Write(req.Layout, empty.Index)
	if err != nil {
		return nil, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range req.Recipe.Platforms {
		img, err := b.image(platform)
		if err != nil {
			return nil, err
		}
		if len(req.Recipe.Platforms) == 1 {
			d, err := img.Digest()
			if err != nil {
				return nil, err
			}
			return &builder.Result{Digest: d.String(), Started: time.Now(), Finished: time.Now()}, p.AppendImage(img)
		}
		system, arch, _ := strings.Cut(platform, "/")
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: system, Architecture: arch}}})
	}
	d, err := index.Digest()
	if err != nil {
		return nil, err
	}
	return &builder.Result{Digest: d.String(), Started: time.Now(), Finished: time.Now()}, p.AppendIndex(index)
}

// newStageStage is newStage for files from the Dockerfile at the top of a repository.
func newStageStage(t *testing.T, b builder.Builder, platforms ...string) *stage {
	t.Helper()
	s := newStage(t, b, http.NotFound)
	s.Builders = []BuilderInfo{{Name: "buildkit", Builder: trust.Builder{ID: "http://127.0.0.1:1/builders/buildkit/v1", Level: 2}, BuildType: attest.BuildTypeBuildKit}}
	dir := strings.TrimPrefix(s.req.Source, "file://")
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY go.mod /hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, dir, "rm", "-q", "go.mod")
	gittest.Git(t, dir, "add", ".")
	gittest.Git(t, dir, "commit", "-q", "-m", "a Dockerfile")
	gittest.Git(t, dir, "tag", "-f", "v1.0.0")
	s.req.Recipe = attest.Recipe{Files: true, Platforms: platforms}
	return s
}

// TestHostileStage: nothing of a stage counts as a release file that could be something else
// than a file with these bytes, under a name that is not the platform's own.
func TestHostileStage(t *testing.T) {
	hello := inTar("hello", "hi", nil)
	many := make([]func(*tar.Writer), 513)
	for i := range many {
		many[i] = inTar("f"+strings.Repeat("x", i%128)+string(rune('a'+i/128)), "", nil)
	}
	long := strings.Repeat("a", 190)
	for name, tt := range map[string]struct {
		layers [][]byte
		want   string
	}{
		"a directory":            {[][]byte{tarOf(hello, inTar("bin/", "", kind(tar.TypeDir)))}, "found a directory"},
		"a file in a directory":  {[][]byte{tarOf(hello, inTar("bin/app", "x", nil))}, "found one in a directory"},
		"a symbolic link":        {[][]byte{tarOf(hello, inTar("link", "", kind(tar.TypeSymlink)))}, "found a symbolic link"},
		"a hard link":            {[][]byte{tarOf(hello, inTar("link", "", kind(tar.TypeLink)))}, "found a hard link"},
		"a device":               {[][]byte{tarOf(hello, inTar("null", "", kind(tar.TypeChar)))}, "found a device"},
		"a fifo":                 {[][]byte{tarOf(hello, inTar("pipe", "", kind(tar.TypeFifo)))}, "found a device"},
		"a whiteout":             {[][]byte{tarOf(hello), tarOf(inTar("other", "x", nil), inTar(".wh.hello", "", nil))}, "removes a file"},
		"an opaque whiteout":     {[][]byte{tarOf(hello), tarOf(inTar("other", "x", nil), inTar(".wh..wh..opq", "", nil))}, "removes a file"},
		"a name twice":           {[][]byte{tarOf(hello, inTar("hello", "evil", nil))}, "found it twice"},
		"a name in two layers":   {[][]byte{tarOf(hello), tarOf(inTar("hello", "evil", nil))}, "found it twice"},
		"a name in other case":   {[][]byte{tarOf(hello, inTar("Hello", "evil", nil))}, "found it twice"},
		"a name in two forms":    {[][]byte{tarOf(hello, inTar("./hello", "evil", nil))}, "found it twice"},
		"the platform's name":    {[][]byte{tarOf(hello, inTar("hello-linux-amd64", "evil", nil))}, "found it twice"},
		"a hidden file":          {[][]byte{tarOf(hello, inTar(".bashrc", "x", nil))}, "name of a file"},
		"a newline":              {[][]byte{tarOf(hello, inTar("a\nb", "x", nil))}, "name of a file"},
		"a device of Windows":    {[][]byte{tarOf(hello, inTar("aux.h", "x", nil))}, "a device on Windows"},
		"a list":                 {[][]byte{tarOf(hello, inTar("SHA256SUMS", "x", nil))}, "a list of digests"},
		"a bundle":               {[][]byte{tarOf(hello, inTar("hello.sigstore.json", "x", nil))}, "a file with bundles"},
		"a long name":            {[][]byte{tarOf(hello, inTar(long, "x", nil))}, "name of a file"},
		"a way out":              {[][]byte{tarOf(hello, inTar("../evil", "x", nil))}, "refusing to sign"},
		"too many":               {[][]byte{tarOf(many...)}, "at most 512 files"},
		"no file":                {[][]byte{tarOf()}, "it has no files"},
		"a bomb":                 {[][]byte{sparse("1099511627776")}, "holes of its files included"},
		"a sparse file":          {[][]byte{sparse("1000")}, "found a sparse file"},
		"bytes after the layer":  {[][]byte{append(tarOf(hello), "more"...)}, "refusing to sign"},
		"a layer that is no tar": {[][]byte{bytes.Repeat([]byte("x"), 1024)}, "refusing to sign"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusesToSign(t, newStageStage(t, stageBuilder{"linux/amd64": tt.layers}, "linux/amd64"), []string{"refusing to sign", tt.want})
		})
	}
	t.Run("another platform", func(t *testing.T) {
		b := stageBuilder{"linux/amd64": {tarOf(hello)}}
		s := newStageStage(t, otherPlatform{b}, "darwin/arm64")
		refusesToSign(t, s, []string{"platforms of the image: expected darwin/arm64, found linux/amd64"})
	})
}

// otherPlatform builds for linux/amd64 whatever it was asked for.
type otherPlatform struct{ stageBuilder }

func (b otherPlatform) Build(ctx context.Context, req builder.Request) (*builder.Result, error) {
	req.Recipe.Platforms = []string{"linux/amd64"}
	return b.stageBuilder.Build(ctx, req)
}

// sparse returns a tar with a file that is one hole of so many bytes, in the form of PAX 1.0.
func sparse(size string) []byte {
	text := "1\n" + size + "\n0\n"
	raw := tarOf(func(w *tar.Writer) {
		padded := text + strings.Repeat("\x00", 512-len(text))
		h := &tar.Header{Name: "hole", Typeflag: tar.TypeReg, Size: int64(len(padded)), Mode: 0o644, PAXRecords: map[string]string{
			"ANY.sparse.major": "1", "ANY.sparse.minor": "0", "ANY.sparse.name": "hole", "ANY.sparse.realsize": size,
		}}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(w, padded)
	})
	return bytes.ReplaceAll(raw, []byte("ANY.sparse"), []byte("GNU.sparse"))
}

// TestStage: the files of all platforms get as far as this test has a token, each under the
// name of its platform. From then on the layout is one of files, which a restart measures again.
func TestStage(t *testing.T) {
	b := stageBuilder{
		"linux/amd64":   {tarOf(inTar("./", "", kind(tar.TypeDir)), inTar("hello", "hi", nil)), tarOf(inTar("app-linux-amd64.tar.gz", "archive", nil))},
		"windows/amd64": {tarOf(inTar("hello.exe", "hi", nil), inTar("app-linux-amd64.tar.gz", "same", nil))},
	}
	s := newStageStage(t, b, "linux/amd64", "windows/amd64")
	var said []string
	var m *oci.Measured
	_, err := s.Run(t.Context(), s.req, func(e api.Event) {
		if said = append(said, e.Line); e.Phase == "push" {
			layouts, _ := filepath.Glob(filepath.Join(s.Dir, "work", "*", "layout"))
			m, _ = oci.MeasureFiles(strings.Join(layouts, " "))
		}
	})
	if err == nil || strings.Contains(err.Error(), "refusing") {
		t.Fatalf("got %v after %q", err, said)
	}
	if m == nil || len(m.Files) != 4 {
		t.Errorf("layout: got %+v", m)
	}
	for _, name := range []string{"hello-linux-amd64", "hello-windows-amd64.exe", "app-linux-amd64.tar.gz", "app-linux-amd64.tar.gz-windows-amd64"} {
		if !slices.ContainsFunc(said, func(l string) bool { return strings.HasSuffix(l, "  "+name) }) {
			t.Errorf("%s is missing in %q", name, said)
		}
	}
}

// TestStageIsBounded: the files of all platforms together have a limit, before they are written.
func TestStageIsBounded(t *testing.T) {
	r := stageReader{to: t.TempDir(), left: 3, names: map[string]bool{}}
	h := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 2} }
	if err := r.add("linux/amd64", h("a"), strings.NewReader("aa")); err != nil {
		t.Fatal(err)
	}
	if err := r.add("linux/amd64", h("b"), strings.NewReader("bb")); err == nil || !strings.Contains(err.Error(), "bytes in all files") {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadDir(r.to); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
}
