package contents

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
)

// entry of a layer: content, or for links where they lead.
type entry struct {
	name    string
	kind    byte
	content string
	mode    int64 // zero: 0755
}

func file(name, content string) entry { return entry{name: name, kind: tar.TypeReg, content: content} }
func module(name, version string) entry {
	return file("app/node_modules/"+name+"/package.json", fmt.Sprintf(`{"name":%q,"version":%q}`, name, version))
}

func image(t *testing.T, layers ...[]entry) (*oci.Layout, v1.Hash) {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, entries := range layers {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, e := range entries {
			h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: cmp.Or(e.mode, 0o755)}
			if e.kind == tar.TypeReg {
				h.Size = int64(len(e.content))
			} else {
				h.Linkname = e.content
			}
			must(t, w.WriteHeader(h))
			if e.kind == tar.TypeReg {
				_, err := io.WriteString(w, e.content)
				must(t, err)
			}
		}
		must(t, w.Close())
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
		must(t, err)
		img, err = mutate.AppendLayers(img, layer)
		must(t, err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	must(t, err)
	must(t, p.AppendImage(img))
	d, err := img.Digest()
	must(t, err)
	l, err := oci.OpenLayout(dir)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(installed map[Package]bool) string {
	var out []string
	for p := range installed {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// What a container sees counts, not what lower layers once had.
func TestLayers(t *testing.T) {
	const dpkg = "var/lib/dpkg/status"
	a, b := "Package: a\nVersion: 1\nStatus: install ok installed\n", "Package: b\nVersion: 2\n\nPackage: gone\nVersion: 1\nStatus: deinstall ok config-files\n"
	for name, tc := range map[string]struct {
		layers [][]entry
		want   string
	}{
		"one layer":                    {[][]entry{{module("x", "1"), file(dpkg, a)}}, "deb a 1, npm x 1"},
		"replaced":                     {[][]entry{{file(dpkg, a)}, {file(dpkg, b)}}, "deb b 2"},
		"not configured yet":           {[][]entry{{file(dpkg, "Package: a\nVersion: 1\nStatus: install ok unpacked\n\nPackage: b\nVersion: 2\nStatus: install ok half-configured\n\nPackage: c\nVersion: 3\nStatus: install ok triggers-pending\n\nPackage: d\nVersion: 4\nStatus: purge ok not-installed\n")}}, "deb a 1, deb b 2, deb c 3"},
		"replaced by an empty file":    {[][]entry{{file(dpkg, a)}, {file(dpkg, "")}}, ""},
		"replaced by a link":           {[][]entry{{file(dpkg, a)}, {{name: dpkg, kind: tar.TypeSymlink, content: "/tmp/x"}}}, ""},
		"twice in a layer":             {[][]entry{{file(dpkg, a), file(dpkg, b)}}, "deb b 2"},
		"whiteout":                     {[][]entry{{module("x", "1"), module("y", "1")}, {file("app/node_modules/.wh.x", "")}}, "npm y 1"},
		"whiteout of a directory":      {[][]entry{{module("x", "1"), file(dpkg, a)}, {file(".wh.app", "")}}, "deb a 1"},
		"whiteout and new":             {[][]entry{{module("x", "1")}, {module("y", "1"), file(".wh.app", "")}}, "npm y 1"},
		"whiteout in the lowest layer": {[][]entry{{module("x", "1"), file(".wh.app", "")}}, "npm x 1"},
		"opaque":                       {[][]entry{{module("x", "1")}, {file("app/.wh..wh..opq", ""), module("y", "1")}}, "npm y 1"},
		"opaque, after the new":        {[][]entry{{module("x", "1")}, {module("y", "1"), file("app/.wh..wh..opq", "")}}, "npm y 1"},
		"opaque root":                  {[][]entry{{module("x", "1")}, {file(".wh..wh..opq", "")}}, ""},
		"a file over a directory":      {[][]entry{{module("x", "1")}, {file("app/node_modules", "")}}, ""},
		"a directory over a file":      {[][]entry{{file(dpkg, a)}, {{name: dpkg, kind: tar.TypeDir, content: ""}}}, ""},
		"a directory over a directory": {[][]entry{{module("x", "1")}, {{name: "app", kind: tar.TypeDir, content: ""}}}, "npm x 1"},
		"names with dots and slashes":  {[][]entry{{file("./var/lib//dpkg/./status", a)}, {file("/var/lib/dpkg/.wh.status", "")}}, ""},
		"hard link":                    {[][]entry{{module("x", "1"), {name: "y/package.json", kind: tar.TypeLink, content: "app/node_modules/x/package.json"}}, {file(".wh.app", "")}}, "npm x 1"},
		"no packages":                  {[][]entry{{file("etc/passwd", "x"), file("bin/sh", "#!/bin/sh"), file("a/package.json", "{")}}, ""},
		"no version":                   {[][]entry{{file("b/package.json", `{"name":"x"}`)}}, "npm x"},
	} {
		t.Run(name, func(t *testing.T) {
			l, d := image(t, tc.layers...)
			got, err := Read(t.Context(), l, d)
			if err != nil || names(got) != tc.want {
				t.Errorf("got %s, %v, want %s", names(got), err, tc.want)
			}
		})
	}
}

// What cannot be read is never taken for nothing.
func TestHostileLayers(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []entry
		want    error
	}{
		"a database behind a hard link": {[]entry{file("x", "Package: a\nVersion: 1\n"), {name: "var/lib/dpkg/status", kind: tar.TypeLink, content: "x"}}, errUnread},
		"a database that is too large":  {[]entry{file("package.json", strings.Repeat(" ", maxManifest+1))}, errUnread},
		"a name that climbs":            {[]entry{file("../var/lib/dpkg/status", "")}, oci.ErrMismatch},
		"a name that no system takes":   {[]entry{file(strings.Repeat("a/", 4096)+"package.json", "")}, oci.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			l, d := image(t, tc.entries)
			if got, err := Read(t.Context(), l, d); !errors.Is(err, tc.want) {
				t.Errorf("got %s, %v, want %v", names(got), err, tc.want)
			}
		})
	}
	t.Run("whiteouts without end", func(t *testing.T) {
		tr := tree{}
		for i := range 1000 {
			must(t, tr.add(fmt.Sprint("a/", i), 1, []Package{{"npm", "x", "1"}}))
		}
		var err error
		for i := 0; err == nil && i < maxWork; i++ {
			err = tr.hide("", 1, true)
		}
		if !errors.Is(err, oci.ErrMismatch) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other bytes than their digest", func(t *testing.T) {
		l, d := image(t, []entry{module("x", "1")})
		raw, _, err := l.Manifest(t.Context(), d)
		must(t, err)
		digest := strings.Split(strings.Split(string(raw), `"layers":[`)[1], "sha256:")[1][:64]
		path := filepath.Join(l.Name(), "blobs/sha256", digest)
		blob, err := os.ReadFile(path)
		must(t, err)
		blob[len(blob)/2] ^= 1
		must(t, os.WriteFile(path, blob, 0o644))
		if _, err := Read(t.Context(), l, d); !errors.Is(err, oci.ErrMismatch) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Read(ctx, failing{}, v1.Hash{}); err == nil {
			t.Error("it answered")
		}
	})
}

type failing struct{ oci.Source }

func (failing) Manifest(ctx context.Context, _ v1.Hash) ([]byte, string, error) {
	return nil, "", ctx.Err()
}

// A real Go binary with modules; half of one says nothing.
func TestGoBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deps")
	if out, err := exec.Command("go", "build", "-o", path, "./testdata/deps").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	l, d := image(t, []entry{file("bin/x", string(raw)), file("bin/cut", string(raw[:len(raw)/2])), {name: "bin/y", kind: tar.TypeLink, content: "bin/x"}}, []entry{file("bin/.wh.x", "")})
	got, err := Read(t.Context(), l, d)
	must(t, err)
	if list := names(got); !strings.Contains(list, "golang stdlib 1.") || !strings.Contains(list, "golang github.com/colophon-build/colophon,") || !strings.Contains(list, "golang golang.org/x/sync v0.") {
		t.Errorf("got %s", list)
	}
}

// A Go program counts whatever its mode is, and whatever system it is for: scanners list it, and
// a hard link or the image's start can make it executable.
func TestGoBinaryOfAnyKind(t *testing.T) {
	for _, system := range []string{"linux", "windows", "darwin"} {
		path := filepath.Join(t.TempDir(), "deps")
		build := exec.Command("go", "build", "-o", path, "./testdata/deps")
		build.Env = append(os.Environ(), "GOOS="+system, "GOARCH=amd64")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		raw, err := os.ReadFile(path)
		must(t, err)
		for _, mode := range []int64{0o755, 0o644} {
			l, d := image(t, []entry{{name: "bin/x", kind: tar.TypeReg, content: string(raw), mode: mode}})
			got, err := Read(t.Context(), l, d)
			must(t, err)
			if list := names(got); !strings.Contains(list, "golang golang.org/x/sync v0.") {
				t.Errorf("%s, mode %o: got %q, want its modules", system, mode, list)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	installed := map[Package]bool{{"deb", "libc6", "1:2.36-9+deb12u9"}: true, {"golang", "example.com/a/b/v2", "v2.0.0"}: true, {"golang", "example.com/main", ""}: true,
		{"golang", "stdlib", "1.26.8"}: true, {"npm", "@scope/thing", "1.0.0"}: true, {"pypi", "foo-bar", "1.2"}: true, {"apk", "musl", "1.2.4-r2"}: true}
	purls := []string{"pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12", "pkg:golang/example.com/a/b@v2.0.0#v2", "pkg:golang/example.com/main@(devel)",
		"pkg:golang/stdlib@go1.26.8", "pkg:npm/%40scope/thing@1.0.0", "pkg:pypi/Foo_Bar@1.2", "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64",
		"pkg:oci/app@sha256%3Aabcd", "pkg:generic/x@1", "", "pkg:", "pkg:npm", "pkg:npm/", "junk"}
	list := func(purls ...string) (out []sbom.Package) {
		for _, p := range purls {
			out = append(out, sbom.Package{PURL: p})
		}
		return out
	}
	if d := Compare(list(purls...), installed); !d.None() || d.Compared != 7 {
		t.Errorf("compared %d: %s", d.Compared, d)
	}
	for i := range 7 {
		without := slices.Delete(slices.Clone(purls), i, i+1)
		if d := Compare(list(without...), installed); len(d.Unlisted) != 1 || len(d.Missing) != 0 {
			t.Errorf("without %s: %s", purls[i], d)
		}
	}
	for purl, want := range map[string]string{
		"pkg:npm/evil@1":                         "in the SBOM and not in the image: npm evil 1",
		"pkg:npm/@scope/thing@1.0.1":             "in the SBOM and not in the image: npm @scope/thing 1.0.1",
		"pkg:npm/@scope/other":                   "in the SBOM and not in the image: npm @scope/other",
		"pkg:golang/example.com/a/b@v2.0.0":      "in the SBOM and not in the image: golang example.com/a/b v2.0.0",
		"pkg:deb/debian/libc6@2.36-9?arch=amd64": "in the SBOM and not in the image: deb libc6 2.36-9",
	} {
		if d := Compare(list(append(purls, purl)...), installed); d.String() != want {
			t.Errorf("%s: got %s", purl, d)
		}
	}
	// A package.json without a version may be listed or not.
	installed[Package{"npm", "part", ""}] = true
	for _, more := range [][]string{nil, {"pkg:npm/part"}} {
		if d := Compare(list(append(purls, more...)...), installed); !d.None() {
			t.Errorf("%q: %s", more, d)
		}
	}
	if d := Compare(nil, installed); len(d.Unlisted) != 7 || !strings.Contains(d.String(), "2 more") {
		t.Errorf("got %s", d)
	}
}

func FuzzPURL(f *testing.F) {
	for _, s := range []string{"pkg:npm/%40a/b@1", "pkg:golang/a/b@v1#c", "pkg:deb/debian/x@1%3A2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := parsePURL(s); ok && (p.Name == "" || !slices.Contains(Types, p.Type)) {
			t.Errorf("%q: got %+v", s, p)
		}
	})
}
