package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anchore/syft/syft/file"
	syftsbom "github.com/anchore/syft/syft/sbom"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/source"
)

var hello = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "hello-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "hello")
	cmd := exec.Command("go", "build", "-o", out, "./testdata/hello")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

const dpkg = "Package: base-files\nVersion: 12.4+deb12u5\nArchitecture: amd64\nMaintainer: Santiago <s@example.com>\nStatus: install ok installed\nDescription: base\n\n" +
	"Package: tzdata\nVersion: 2024a\nArchitecture: all\nStatus: install ok installed\nDescription: zones\n\n"

func testImage(t *testing.T, arch string, files map[string][]byte) v1.Image {
	t.Helper()
	var names []string
	for n := range files {
		names = append(names, n)
	}
	img := empty.Image
	for _, n := range sorted(names) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o755, Size: int64(len(files[n])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write(files[n])
		w.Close()
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

func sorted(names []string) []string {
	for i := range names {
		for j := i; j > 0 && names[j] < names[j-1]; j-- {
			names[j], names[j-1] = names[j-1], names[j]
		}
	}
	return names
}

func sample(t *testing.T) map[string][]byte {
	t.Helper()
	bin, err := hello()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"app/hello":           bin,
		"var/lib/dpkg/status": []byte(dpkg),
		"etc/os-release":      []byte("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\n"),
	}
}

var commitTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))

func options(dir string, digest v1.Hash) scan.Order {
	return scan.Order{Layout: dir, Digest: digest, Image: "registry.example.com:5000/Team/app", Created: commitTime,
		Source: source.Commit{URI: "https://git.example.com/team/app", ID: strings.Repeat("ab", 20)}}
}

func writeIndex(t *testing.T, dir string, images ...v1.Image) v1.Hash {
	t.Helper()
	idx := v1.ImageIndex(empty.Index)
	for _, img := range images {
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: cfg.Platform()}})
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(idx); err != nil {
		t.Fatal(err)
	}
	d, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The same index at another place, at another time, gives the same bytes, and
// they name the image, its commit and everything in it.
func TestSameImageSameBytes(t *testing.T) {
	other := sample(t)
	other["var/lib/dpkg/status"] = []byte(strings.ReplaceAll(dpkg, "tzdata", "only-on-arm"))
	images := []v1.Image{testImage(t, "amd64", sample(t)), testImage(t, "arm64", other)}
	var docs [2][2][]byte
	var digest v1.Hash
	for i := range docs {
		dir := t.TempDir()
		digest = writeIndex(t, dir, images...)
		var err error
		if docs[i][0], docs[i][1], err = generate(t.Context(), options(dir, digest)); err != nil {
			t.Fatal(err)
		}
	}
	for f, kind := range []string{sbom.PredicateSPDX + "/v2.3", sbom.PredicateCycloneDX} {
		if !bytes.Equal(docs[0][f], docs[1][f]) {
			t.Errorf("%s: two runs differ", kind)
		}
		doc := docs[0][f]
		info, err := sbom.ReadOfImage(doc, kind)
		if err != nil {
			t.Fatal(err)
		}
		if info.SubjectDigest != digest.String() || info.Name != "registry.example.com:5000/Team/app" || !info.Created.Equal(commitTime) || info.Packages < 5 {
			t.Errorf("got %+v", info)
		}
		for _, want := range []string{"golang.org/x/mod", "base-files", "12.4+deb12u5", "only-on-arm", "stdlib", "git+https://git.example.com/team/app@" + strings.Repeat("ab", 20), "2026-01-02T02:04:05Z", "syft"} {
			if !bytes.Contains(doc, []byte(want)) {
				t.Errorf("%s does not mention %q", kind, want)
			}
		}
		if bytes.Contains(doc, []byte(os.TempDir())) {
			t.Errorf("%s names a directory of this machine", kind)
		}
		noDangling(t, kind, doc)
	}
}

// noDangling checks that identifiers are unique, and that each reference leads
// to one.
func noDangling(t *testing.T, kind string, doc []byte) {
	t.Helper()
	var d struct {
		Packages      []struct{ SPDXID string }
		Files         []struct{ SPDXID string }
		Relationships []struct{ SpdxElementId, RelatedSpdxElement string }
		Components    []struct {
			Ref string `json:"bom-ref"`
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	add := func(id string) {
		if ids[id] {
			t.Errorf("%s: the id %q is there twice", kind, id)
		}
		ids[id] = true
	}
	for _, p := range d.Packages {
		add(p.SPDXID)
	}
	for _, p := range d.Files {
		add(p.SPDXID)
	}
	for _, c := range d.Components {
		add(c.Ref)
	}
	need := func(id string) {
		if !ids[id] {
			t.Errorf("%s: nothing has the id %q", kind, id)
		}
	}
	for _, r := range d.Relationships {
		need(r.SpdxElementId)
		need(r.RelatedSpdxElement)
	}
	for _, r := range d.Dependencies {
		need(r.Ref)
		for _, id := range r.DependsOn {
			need(id)
		}
	}
}

func TestOneImage(t *testing.T) {
	dir := t.TempDir()
	img := testImage(t, "amd64", sample(t))
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	spdx, cdx, err := generate(t.Context(), options(dir, digest))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; %d and %d bytes", time.Since(start), len(spdx), len(cdx))
	for kind, doc := range map[string][]byte{sbom.PredicateSPDX: spdx, sbom.PredicateCycloneDX: cdx} {
		if info, err := sbom.ReadOfImage(doc, kind); err != nil || info.SubjectDigest != digest.String() {
			t.Errorf("got %+v, %v", info, err)
		}
	}
	// A commit more, and it is another document.
	o := options(dir, digest)
	o.Source.ID = strings.Repeat("cd", 20)
	again, _, err := generate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ns := regexp.MustCompile(`"documentNamespace":"[^"]*"`)
	if a, b := ns.Find(spdx), ns.Find(again); a == nil || bytes.Equal(a, b) {
		t.Errorf("two documents share the namespace %s", a)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	digest := writeIndex(t, dir, testImage(t, "amd64", map[string][]byte{"zeros": make([]byte, 1<<20)}))
	unlisted, err := v1.NewHash("sha256:" + strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := generate(t.Context(), options(dir, unlisted)); err == nil {
		t.Error("an image that is not there was described")
	}
	if _, _, err := generate(t.Context(), scan.Order{Layout: dir, Digest: digest}); err == nil {
		t.Error("options without image and time were taken")
	}
	defer func(old int64) { unpackedCap = old }(unpackedCap)
	unpackedCap = 1 << 19
	if _, _, err := generate(t.Context(), options(dir, digest)); err == nil || !strings.Contains(err.Error(), "unpacked size exceeds") {
		t.Errorf("a layer over its cap: got %v", err)
	}
}

// Layers go where the caller wants them, and nothing of them stays there.
func TestLayersAreUnpackedInDir(t *testing.T) {
	dir := t.TempDir()
	o := options(dir, writeIndex(t, dir, testImage(t, "amd64", map[string][]byte{"file": []byte("content")})))
	o.Dir = filepath.Join(t.TempDir(), "layers")
	if _, _, err := generate(t.Context(), o); err == nil || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("a directory that is not there: got %v", err)
	}
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := generate(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A scan that finds no room to unpack an archive fails: Syft itself would leave the
// archive's packages out.
func TestScanThatFindsNoRoom(t *testing.T) {
	s := &syftsbom.SBOM{}
	s.Artifacts.Unknowns = map[file.Coordinates][]string{{RealPath: "/app/outer.jar"}: {"java: write /tmp/x: " + syscall.ENOSPC.Error()}}
	if err := complete(s); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "outer.jar") {
		t.Errorf("got %v, want no space left for outer.jar", err)
	}
}

func TestSyftVersion(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/anchore/syft v" + syftVersion + "\n"; !bytes.Contains(mod, []byte(want)) {
		t.Errorf("go.mod does not say %q", want)
	}
}

// BenchmarkGenerate scans the file named by COLOPHON_SBOM_BINARY in an image,
// or the small test binary.
func BenchmarkGenerate(b *testing.B) {
	bin, err := hello()
	if name := os.Getenv("COLOPHON_SBOM_BINARY"); name != "" {
		bin, err = os.ReadFile(name)
	}
	if err != nil {
		b.Fatal(err)
	}
	t := &testing.T{}
	img := testImage(t, "amd64", map[string][]byte{"app/hello": bin, "var/lib/dpkg/status": []byte(dpkg)})
	dir := b.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		b.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		b.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := generate(b.Context(), options(dir, digest)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestForgedBlobs: a layer, configuration or manifest that is not what its digest says is not
// scanned.
func TestForgedBlobs(t *testing.T) {
	good, evil := testImage(t, "amd64", map[string][]byte{"var/lib/dpkg/status": []byte(dpkg)}), testImage(t, "amd64", map[string][]byte{"var/lib/dpkg/status": {}})
	dir := t.TempDir()
	digest := writeIndex(t, dir, good)
	blobs := func(img v1.Image) map[string][2]string { // by kind: hex, content
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := img.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		r, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		return map[string][2]string{"manifest": {d.Hex, string(raw)}, "layer": {m.Layers[0].Digest.Hex, string(layer)}, "config": {m.Config.Digest.Hex, string(config) + " "}}
	}
	right, wrong := blobs(good), blobs(evil)
	for kind, b := range right {
		path := filepath.Join(dir, "blobs", "sha256", b[0])
		for what, content := range map[string]string{"another": wrong[kind][1], "a longer": b[1] + "\n"} {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, _, err := generate(t.Context(), options(dir, digest)); err == nil || what == "another" && kind != "manifest" && !strings.Contains(err.Error(), "digest: got sha256:") {
				t.Errorf("%s %s: got %v", what, kind, err)
			}
		}
		if err := os.WriteFile(path, []byte(b[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		if kind == "config" { // the space at its end was ours
			os.WriteFile(path, []byte(strings.TrimSuffix(b[1], " ")), 0o644)
		}
	}
	if _, _, err := generate(t.Context(), options(dir, digest)); err != nil {
		t.Error(err)
	}
}
