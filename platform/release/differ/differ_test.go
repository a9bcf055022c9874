package differ

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
)

type file struct {
	name, text string
	change     func(*tar.Header)
}

// image writes a layout with one layer and measures it.
func image(t *testing.T, env string, arch string, files ...file) Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.text)), ModTime: time.Unix(1000, 0), Format: tar.FormatPAX}
		if f.change != nil {
			f.change(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: arch, Config: v1.Config{Env: []string{env}}, RootFS: v1.RootFS{Type: "layers"}}); err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	m, err := oci.MeasureLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	return Image{dir, m}
}

func TestDescribe(t *testing.T) {
	plain := func(name, text string) file { return file{name: name, text: text} }
	changed := func(f func(*tar.Header)) []file { return []file{{"a", "x", f}} }
	one := []file{plain("a", "x")}
	for name, test := range map[string]struct {
		a, b []file
		env  string
		arch string
		want []string
	}{
		"content":   {one, []file{plain("a", "yy")}, "", "", []string{"linux/amd64: layer 1, /a: content: sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 of 1 bytes; sha256:", " of 2 bytes"}},
		"time":      {one, changed(func(h *tar.Header) { h.ModTime = time.Unix(2000, 5e8) }), "", "", []string{"/a: time: 1970-01-01T00:16:40Z; 1970-01-01T00:33:20.5Z"}},
		"mode":      {one, changed(func(h *tar.Header) { h.Mode = 0o755 }), "", "", []string{"/a: mode: 0644; 0755"}},
		"owner":     {one, changed(func(h *tar.Header) { h.Uid = 5 }), "", "", []string{"/a: owner: 0:0; 5:0"}},
		"attribute": {one, changed(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b"} }), "", "", []string{`/a: attributes: nothing; SCHILY.xattr.user.a="b"`}},
		"missing":   {append(one, plain("b", "")), one, "", "", []string{"/b: only in the first image"}},
		"more":      {one, append(one, plain("b", "")), "", "", []string{"/b: only in the second image"}},
		"twice":     {one, append(one, plain("a", "x")), "", "", []string{"/a (2): only in the second image"}},
		"order":     {[]file{plain("a", "x"), plain("b", "y")}, []file{plain("b", "y"), plain("a", "x")}, "", "", []string{"a different order"}},
		"form":      {one, changed(func(h *tar.Header) { h.Format, h.Uname = tar.FormatUSTAR, "x" }), "", "", []string{"a different tar encoding"}},
		"setting":   {one, one, "A=2", "", []string{`linux/amd64: configuration, config.Env.0: "A=1"; "A=2"`}},
		"platform":  {one, one, "", "arm64", []string{"platforms: linux/amd64; linux/arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.env == "" {
				test.env = "A=1"
			}
			if test.arch == "" {
				test.arch = "amd64"
			}
			lines, err := Describe(image(t, "A=1", "amd64", test.a...), image(t, test.env, test.arch, test.b...))
			if err != nil || len(lines) != 1 {
				t.Fatalf("got %q, %v; want one difference", lines, err)
			}
			for _, w := range test.want {
				if !strings.Contains(lines[0], w) {
					t.Errorf("got %q, want %q in it", lines[0], w)
				}
			}
		})
	}
}

// However much differs, what is told of it is short.
func TestDescribeIsBounded(t *testing.T) {
	var a, b []file
	for i := range 1000 {
		name := strings.Repeat("long/", 50) + fmt.Sprint(i)
		a, b = append(a, file{name: name, text: "x"}), append(b, file{name: name, text: "y"})
	}
	lines, err := Describe(image(t, "A=1", "amd64", a...), image(t, "A="+strings.Repeat("x", 1<<20), "amd64", b...))
	if err != nil || len(lines) != maxNamed+1 || lines[maxNamed] != "at most 10 differences are listed" || len(strings.Join(lines, "\n")) > 8<<10 {
		t.Errorf("got %d lines of %d bytes, %v", len(lines), len(strings.Join(lines, "\n")), err)
	}
}

// The layout is a stranger's, and the second look must not trust the first.
func TestLayoutThatChangedAfterMeasuring(t *testing.T) {
	a, b := image(t, "A=1", "amd64", file{name: "a", text: "x"}), image(t, "A=1", "amd64", file{name: "a", text: "y"})
	b.Dir = a.Dir // its blobs are not there
	if lines, err := Describe(a, b); err == nil {
		t.Errorf("got %q, want an error", lines)
	}
}
