package release

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/attest"
)

// The builder must name every module that the linker wrote into a binary.
func TestModulesInTheBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "deps")
	if out, err := exec.Command("go", "build", "-o", binary, "../../sbom/contents/testdata/deps").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var honest []attest.ResourceDescriptor
	for _, d := range info.Deps {
		honest = append(honest, attest.ResourceDescriptor{Name: d.Path + "@" + d.Version, Digest: map[string]string{"dirHash": dirHash(d.Sum)}})
	}
	if len(honest) == 0 || honest[0].Digest["dirHash"] == "" {
		t.Fatalf("the binary has the modules %+v, want one with a sum", honest)
	}
	raw, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for name, data := range map[string][]byte{"ko-app/deps": raw, "etc/text": []byte("text")} {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg})
		w.Write(data)
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := partial.Descriptor(image)
	if err != nil {
		t.Fatal(err)
	}
	found, err := linkedModules(t.Context(), modulesOrder{Layout: dir, Manifests: []v1.Hash{d.Digest}})
	if err != nil || len(found) == 0 {
		t.Fatalf("got %+v, %v, want modules", found, err)
	}
	if err := checkLinked(found, honest); err != nil {
		t.Error(err)
	}
	if err := checkLinked(found, honest[1:]); err == nil || !strings.Contains(err.Error(), honest[0].Name) || !strings.Contains(err.Error(), "ko-app/deps") {
		t.Errorf("a module that the builder left out: got %v, want an error that names it and the file", err)
	}
	other := []attest.ResourceDescriptor{{Name: honest[0].Name, Digest: map[string]string{"dirHash": hex64("1")}}}
	if err := checkLinked(found, other); err == nil {
		t.Error("another sum: it passed")
	}
}
