package bench

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/test/harness"
)

// BenchmarkSBOM compares colophon sbom with stock Syft, on an image of about 100 MB in a layout:
// Debian and two large Go programs. Both must list the same packages.
func BenchmarkSBOM(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	dir := b.TempDir()
	image, size := imageOfPrograms(b, dir)
	mine, stock := filepath.Join(dir, "ours.json"), filepath.Join(dir, "theirs.json")
	var ours, theirs, cpu, theirCPU []time.Duration
	timed := func(wall, cpu *[]time.Duration, cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "HOME="+dir, "SYFT_CHECK_FOR_APP_UPDATE=false")
		*wall = append(*wall, times(1, func() { run(b, cmd) }))
		*cpu = append(*cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	for range 7 {
		timed(&ours, &cpu, exec.Command(harness.Bin(b, "colophon"), "sbom", image, "-o", mine))
		timed(&theirs, &theirCPU, exec.Command(harness.Bin(b, "syft"), "oci-dir:"+image, "-q", "-o", "spdx-json="+stock))
	}
	got, want := purls(b, mine), purls(b, stock)
	if !slices.Equal(got, want) {
		b.Errorf("got %d packages, want the %d of Syft", len(got), len(want))
	}
	row(fmt.Sprintf("colophon sbom of an image of %d MB, %d packages", size/1e6, len(got)), median(ours), spread(ours))
	row("  its processor time", median(cpu), "")
	row("syft of the same image, the same packages", median(theirs), spread(theirs))
	row("  its processor time", median(theirCPU), "")
	ratio("  colophon sbom over syft", median(ours), median(theirs), "aim 0.8")
	ratio("  the same, of processor time", median(cpu), median(theirCPU), "")
}

// imageOfPrograms writes a layout with one image, and returns its directory and the size of
// the layers.
func imageOfPrograms(b *testing.B, dir string) (string, int64) {
	packed := filepath.Join(dir, "programs.tar")
	f, err := os.Create(packed)
	if err != nil {
		b.Fatal(err)
	}
	w := tar.NewWriter(f)
	for _, name := range []string{"cosign", "crane"} {
		program, err := os.ReadFile(harness.Bin(b, name))
		if err != nil {
			b.Fatal(err)
		}
		err = w.WriteHeader(&tar.Header{Name: "usr/bin/" + name, Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg})
		if _, err2 := w.Write(program); errors.Join(err, err2) != nil {
			b.Fatal(err, err2)
		}
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		b.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return os.Open(packed) })
	if err != nil {
		b.Fatal(err)
	}
	image, err := mutate.AppendLayers(debian(b), layer)
	if err != nil {
		b.Fatal(err)
	}
	at := filepath.Join(dir, "image")
	p, err := layout.Write(at, empty.Index)
	if err == nil {
		err = p.AppendImage(image)
	}
	if err != nil {
		b.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		b.Fatal(err)
	}
	var size int64
	for _, l := range manifest.Layers {
		size += l.Size
	}
	return at, size
}

// debian returns the stand-in for Debian's image.
func debian(b *testing.B) v1.Image {
	index, err := layout.ImageIndexFromPath(harness.BaseImages(b))
	if err != nil {
		b.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range m.Manifests {
		if strings.HasPrefix(d.Annotations["org.opencontainers.image.ref.name"], "docker.io/library/debian:") {
			img, err := index.Image(d.Digest)
			if err != nil {
				b.Fatal(err)
			}
			return img
		}
	}
	b.Fatal("there is no Debian among the base images")
	return nil
}

// purls returns the package URLs in an SPDX document, sorted.
func purls(b *testing.B, file string) (list []string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	d, err := sbom.Read(raw, sbom.PredicateSPDX)
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range d.List {
		list = append(list, p.PURL)
	}
	slices.Sort(list)
	return list
}
