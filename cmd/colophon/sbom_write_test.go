package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/test/needs"
)

// withScanner puts the program colophon-scan into PATH.
func withScanner(t *testing.T) {
	t.Helper()
	bin, err := filepath.Abs("../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if _, err := exec.LookPath("colophon-scan"); err != nil {
		needs.Missing(t, "out/bin/colophon-scan is not there: make scanner")
	}
}

// pythonImage is an image for one platform with one package.
func pythonImage(t *testing.T, arch, pkg string) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	metadata := "Metadata-Version: 2.1\nName: " + pkg + "\nVersion: 1.0\n"
	w.WriteHeader(&tar.Header{Name: "usr/lib/python3/site-packages/" + pkg + ".dist-info/METADATA", Mode: 0o644, Size: int64(len(metadata)), Typeflag: tar.TypeReg})
	io.WriteString(w, metadata)
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// writeLayout writes an index of images for amd64 and arm64.
func writeLayout(t *testing.T, dir string) {
	t.Helper()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: pythonImage(t, arch, "on-"+arch), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := p.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
}

func TestSBOMOfFiles(t *testing.T) {
	withScanner(t)
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(lock, []byte("flask==3.0.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	first := s.run(exitOK, []string{"sbom", dir}, `"name":"flask"`, `"created":"1970-01-01T00:00:00Z"`)
	t.Chdir(dir)
	if again := s.run(exitOK, []string{"sbom", "."}); again != first {
		t.Errorf("from another directory: got\n%s\nwant\n%s", again, first)
	}
	if strings.Contains(first, filepath.Dir(dir)) {
		t.Error("the SBOM names the directory of this machine")
	}
	to := filepath.Join(t.TempDir(), "sbom.json")
	s.run(exitOK, []string{"sbom", "requirements.txt", "--format", "cyclonedx", "-o", to, "--name", "deps"})
	raw, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := sbom.Read(raw, sbom.PredicateCycloneDX); err != nil || d.Packages != 1 || d.Name != "deps" {
		t.Errorf("got %+v, %v", d, err)
	}
	file, err := openSubject(t.Context(), lock, ".sigstore.json", "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePredicate("cyclonedx", raw)
	if err == nil {
		err = p.about(file)
	}
	if err != nil {
		t.Errorf("attest: %v", err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	s.run(exitOK, []string{"sbom", "requirements.txt"}, `"created":"1970-01-02T00:00:00Z"`)
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	s.run(exitUsage, []string{"sbom", "requirements.txt"}, `expected seconds since 1970, found "today"`)
	s.run(exitUsage, []string{"sbom", "requirements.txt", "--platform", "linux/amd64"}, "--platform is for an image")
	s.run(exitUsage, []string{"sbom", "requirements.txt", "--format", "syft"}, "expected spdx or cyclonedx")
	s.run(exitUsage, []string{"sbom", "nothing.txt"}, "there is no such file or directory")
	s.run(exitUsage, []string{"sbom", "/dev/null"}, "neither a file nor a directory")
	s.run(exitUsage, []string{"sbom", "/"}, "the root of the disk")
	t.Setenv("PATH", "")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	s.run(exitFailure, []string{"sbom", "requirements.txt"}, "neither beside colophon nor in PATH", "make scanner")
}

// TestSBOMOfArchive: attest --files scans the bytes of the archive, also if its path is spelled as
// an image in a registry, and if an image is in it.
func TestSBOMOfArchive(t *testing.T) {
	withScanner(t)
	t.Chdir(t.TempDir())
	if err := os.Mkdir("v1.2.0", 0o700); err != nil {
		t.Fatal(err)
	}
	const archive = "v1.2.0/app.tar"
	ref, err := name.NewTag("app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(archive, ref, pythonImage(t, "amd64", "app")); err != nil {
		t.Fatal(err)
	}
	raw, err := archiveSBOM(t.Context(), func(hint string) { t.Error(hint) })(archive)
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := sbom.Read(raw, sbom.PredicateSPDX); err != nil || d.SubjectDigest != f.Digest.String() {
		t.Errorf("got %+v, %v, want the digest %s", d, err, f.Digest)
	}
}

// TestSBOMReplacesFilesOnly: -o does not replace a link, a device or a fifo.
func TestSBOMReplacesFilesOnly(t *testing.T) {
	s := newStage(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{link, filepath.Dir(link)} {
		s.run(exitUsage, []string{"sbom", filepath.Dir(link), "-o", to}, "--output: "+to+" is not a regular file", "standard output")
		s.run(exitUsage, []string{"sbom", "merge", "a", "b", "-o", to}, "--output: "+to+" is not a regular file")
	}
	for _, to := range []string{"cyclonedx", "json"} {
		s.run(exitUsage, []string{"sbom", filepath.Dir(link), "-o", to}, "expected a file, found the format "+to, "--format", "./"+to)
		s.run(exitUsage, []string{"sbom", "merge", "a", "b", "-o", to}, "expected a file, found the format "+to)
	}
	if _, err := os.Readlink(link); err != nil {
		t.Error(err)
	}
}

// TestOutputsHaveADirectory: a file that a command cannot write is an error before its work.
func TestOutputsHaveADirectory(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"release", dir, "--ref", "v1", "--image", "registry.example/a", "--hermetic", "--write-lock"},
		{"release", dir, "--ref", "v1", "--files", "--save"},
		{"sbom", dir, "-o"},
		{"verify", s.image, "--any-source", "--report"},
	} {
		prefix := map[bool]string{true: "sarif="}[args[len(args)-1] == "--report"]
		s.run(exitUsage, append(args, prefix+filepath.Join(dir, "none", "to")), "there is no directory "+filepath.Join(dir, "none")+" for to", "mkdir -p")
		s.run(exitUsage, append(args, prefix+filepath.Join(file, "to")), file+" is not a directory")
	}
}

func TestSBOMOfImages(t *testing.T) {
	withScanner(t)
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "app")
	writeLayout(t, dir)
	both := s.run(exitOK, []string{"sbom", dir})
	for _, want := range []string{`"name":"on-amd64"`, `"name":"on-arm64"`} {
		if !strings.Contains(both, want) {
			t.Errorf("the SBOM of the index lacks %s", want)
		}
	}
	i, err := openSubject(t.Context(), "oci:"+dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePredicate("spdx", []byte(both))
	if err == nil {
		err = p.about(i)
	}
	if err != nil {
		t.Errorf("attest: %v", err)
	}
	if one := s.run(exitOK, []string{"sbom", dir, "--platform", "linux/arm64"}); strings.Contains(one, "on-amd64") || !strings.Contains(one, "on-arm64") {
		t.Error("the SBOM of one platform has another one's packages")
	}
	s.run(exitUsage, []string{"sbom", dir, "--platform", "linux/s390x"}, "the image has no linux/s390x; it has linux/amd64, linux/arm64")

	// The SBOM of the index is that of its images, merged.
	var files []string
	for _, arch := range []string{"arm64", "amd64"} {
		file := filepath.Join(t.TempDir(), arch+".json")
		s.run(exitOK, []string{"sbom", dir, "--platform", "linux/" + arch, "-o", file})
		files = append(files, file)
	}
	merge := append([]string{"sbom", "merge"}, files...)
	if got := s.run(exitOK, append(merge, "--image", dir)); got != both {
		t.Errorf("got\n%s\nwant\n%s", got, both)
	}
	merged := filepath.Join(t.TempDir(), "merged.json")
	s.run(exitOK, append(merge, "-o", merged))
	s.run(exitOK, []string{"sbom", "diff", files[0], merged}, "+ on-amd64 1.0", "1 added, 0 removed, 0 changed; 1 package before, 2 after")
	s.run(exitRejected, []string{"sbom", "check", merged}, "2 packages: on-amd64", "on-arm64")
	s.run(exitFailure, []string{"sbom", "merge", files[0], files[0]}, "got two SBOMs of sha256:")
	s.run(exitFailure, []string{"sbom", "merge", files[0], files[0], "--image", dir}, "no SBOM was given for linux/amd64", "--platform linux/amd64")
	s.run(exitFailure, append(merge, "--image", s.image), "which is none of the images of")
	s.run(exitUsage, []string{"sbom", "merge", files[0]}, "expected FILE|IMAGE...")

	tar := filepath.Join(t.TempDir(), "app.tar")
	s.run(exitOK, []string{"copy", dir, tar})
	if got := s.run(exitOK, []string{"sbom", tar, "--name", "app"}); got != both {
		t.Error("the archive of the layout has another SBOM")
	}
	other := s.host + "/team/other:v1"
	s.run(exitOK, []string{"copy", dir, other})
	if got := s.run(exitOK, []string{"sbom", other, "--name", "app"}); got != both {
		t.Error("the image in the registry has another SBOM")
	}

	// A layer that is not what the manifest names is scanned by nobody.
	blobs := filepath.Join(dir, "blobs", "sha256")
	entries, err := os.ReadDir(blobs)
	if err != nil {
		t.Fatal(err)
	}
	forged := 0
	for _, e := range entries {
		path := filepath.Join(blobs, e.Name())
		if raw, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
			continue
		}
		layers, err := pythonImage(t, "amd64", fmt.Sprintf("forged%d", forged)).Layers()
		if err != nil {
			t.Fatal(err)
		}
		r, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		forged++
	}
	if forged != 2 {
		t.Fatalf("got %d layers, want 2", forged)
	}
	s.run(exitFailure, []string{"sbom", dir}, "digest: got sha256:")
}
