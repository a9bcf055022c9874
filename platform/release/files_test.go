package release

import (
	"cmp"
	"context"
	"errors"
	"net/http"
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

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
)

// fileBuilder is a build zone that hands over these files, by name, in place of what it was
// asked for. harm then changes the layout.
type fileBuilder struct {
	t     *testing.T
	files map[string][]byte
	harm  func(dir string)
}

func (b fileBuilder) Build(_ context.Context, req builder.Request) (*builder.Result, error) {
	l, err := layout.Write(req.Layout, empty.Index)
	if err != nil {
		return nil, err
	}
	write := func(content []byte) (d v1.Descriptor) {
		hash, size, err := v1.SHA256(strings.NewReader(string(content)))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(req.Layout, "blobs", "sha256", hash.Hex), content, 0o600); err != nil {
			b.t.Fatal(err)
		}
		return v1.Descriptor{Digest: hash, Size: size}
	}
	if err := os.MkdirAll(filepath.Join(req.Layout, "blobs", "sha256"), 0o700); err != nil {
		return nil, err
	}
	var files []oci.File
	for name, content := range b.files {
		files = append(files, oci.File{Name: name, Descriptor: write(content)})
	}
	slices.SortFunc(files, func(a, b oci.File) int { return cmp.Compare(a.Name, b.Name) })
	raw, d, err := oci.FilesManifest(files, map[string]string{"org.opencontainers.image.source": "https://git.example.com/other"})
	if err != nil {
		return nil, err
	}
	write(raw)
	write(oci.EmptyConfig())
	if err := l.AppendDescriptor(d); err != nil {
		return nil, err
	}
	if b.harm != nil {
		b.harm(req.Layout)
	}
	return &builder.Result{Digest: d.Digest.String(), Started: time.Now(), Finished: time.Now()}, nil
}

// goPrograms compiles the program of repository for platforms.
func goPrograms(t *testing.T, platforms ...string) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o600), os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	programs := map[string][]byte{}
	for _, p := range platforms {
		system, arch, _ := strings.Cut(p, "/")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", "out", ".")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		content, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		programs[p] = content
	}
	return programs
}

// TestLyingFiles: the build zone decides neither the names nor the number of the files, and
// the binary for one platform does not get the name of another one.
func TestLyingFiles(t *testing.T) {
	programs := goPrograms(t, "linux/amd64", "darwin/arm64")
	linux, darwin := programs["linux/amd64"], programs["darwin/arm64"]
	const forLinux, forDarwin = "x-linux-amd64", "x-darwin-arm64"
	for name, tt := range map[string]struct {
		files map[string][]byte
		harm  func(dir string)
		want  string
	}{
		"another name":      {map[string][]byte{forLinux: linux, "y-darwin-arm64": darwin}, nil, "expected x-darwin-arm64, x-linux-amd64, found x-linux-amd64, y-darwin-arm64"},
		"a file more":       {map[string][]byte{forLinux: linux, forDarwin: darwin, "install.sh": []byte("rm")}, nil, "found install.sh, x-darwin"},
		"a file less":       {map[string][]byte{forLinux: linux}, nil, "found x-linux-amd64"},
		"exchanged":         {map[string][]byte{forLinux: darwin, forDarwin: linux}, nil, `expected "darwin/arm64"`},
		"the same for both": {map[string][]byte{forLinux: linux, forDarwin: linux}, nil, `it says that it is for "linux/amd64", expected "darwin/arm64"`},
		"a script":          {map[string][]byte{forLinux: linux, forDarwin: []byte("#!/bin/sh\n")}, nil, "no Go program"},
		"a blob more": {map[string][]byte{forLinux: linux, forDarwin: darwin}, func(dir string) {
			os.WriteFile(filepath.Join(dir, "blobs/sha256", strings.Repeat("a", 64)), nil, 0o600)
		}, "is not part of the release files"},
		"a file in a layout":  {map[string][]byte{forLinux: linux, forDarwin: darwin}, func(dir string) { os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, "unexpected file"},
		"a link for its file": {map[string][]byte{forLinux: linux, forDarwin: darwin}, linkBlobs(t), "refusing to sign"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, fileBuilder{t, tt.files, tt.harm}, http.NotFound)
			s.req.Recipe = attest.Recipe{Files: true, Platforms: []string{"linux/amd64", "darwin/arm64"}}
			refusesToSign(t, s, []string{"refusing to sign", tt.want})
		})
	}
	t.Run("an image", func(t *testing.T) {
		s := newStage(t, hostile{platform: "linux/amd64", t: t}, http.NotFound)
		s.req.Recipe = attest.Recipe{Files: true, Platforms: []string{"linux/amd64"}}
		refusesToSign(t, s, []string{"refusing to sign", "artifact type"})
	})
	t.Run("honest", func(t *testing.T) { // it gets as far as this test has a token
		s := newStage(t, fileBuilder{t, map[string][]byte{forLinux: linux, forDarwin: darwin}, nil}, http.NotFound)
		s.req.Recipe = attest.Recipe{Files: true, Platforms: []string{"linux/amd64", "darwin/arm64"}}
		var said []string
		_, err := s.Run(t.Context(), s.req, func(e api.Event) { said = append(said, e.Phase+" "+e.Line) })
		if err == nil || strings.Contains(err.Error(), "refusing") || !slices.ContainsFunc(said, func(l string) bool { return strings.Contains(l, "  "+forDarwin) }) {
			t.Errorf("got %v after %q", err, said)
		}
	})
}

// linkBlobs replaces each blob of a layout by a link to the same bytes outside.
func linkBlobs(t *testing.T) func(dir string) {
	outside := t.TempDir()
	return func(dir string) {
		blobs, _ := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
		for _, b := range blobs {
			to := filepath.Join(outside, filepath.Base(b))
			if err := errors.Join(os.Rename(b, to), os.Symlink(to, b)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFilesBuiltTwice: a hermetic release whose second build makes other bytes is refused, and
// the error names the file.
func TestFilesBuiltTwice(t *testing.T) {
	programs := goPrograms(t, "linux/amd64", "darwin/arm64")
	files := map[string][]byte{"x-linux-amd64": programs["linux/amd64"], "x-darwin-arm64": programs["darwin/arm64"]}
	again := map[string][]byte{"x-linux-amd64": append(slices.Clone(programs["linux/amd64"]), 0), "x-darwin-arm64": programs["darwin/arm64"]}
	s := newStage(t, &inTurn{fileBuilder{t, files, nil}, fileBuilder{t, again, nil}}, http.NotFound)
	s.req.Recipe, s.req.Hermetic = attest.Recipe{Files: true, Platforms: []string{"linux/amd64", "darwin/arm64"}}, true
	refusesToSign(t, s, []string{"the two builds of a hermetic release differ", "x-linux-amd64: sha256:"})
}

// inTurn builds with each of its builders once.
type inTurn []builder.Builder

func (b *inTurn) Build(ctx context.Context, req builder.Request) (*builder.Result, error) {
	next := (*b)[0]
	*b = (*b)[1:]
	return next.Build(ctx, req)
}

// TestFilesRequest: a request that a release of files cannot fulfil is refused before anything
// is fetched.
func TestFilesRequest(t *testing.T) {
	files := func(change func(*api.ReleaseRequest)) api.ReleaseRequest {
		req := api.ReleaseRequest{Recipe: attest.Recipe{Files: true}}
		change(&req)
		return req
	}
	for name, tt := range map[string]struct {
		req  api.ReleaseRequest
		want string
	}{
		"cache mounts":           {files(func(r *api.ReleaseRequest) { r.CacheMounts = true }), "--cache-mounts"},
		"another builder":        {files(func(r *api.ReleaseRequest) { r.Recipe.Builder = "make" }), "it has"},
		"Docker attestation":     {files(func(r *api.ReleaseRequest) { r.DockerAttestations = true }), "--docker-attestations"},
		"a platform":             {files(func(r *api.ReleaseRequest) { r.Recipe.Platforms = []string{"plan9/amd64"} }), ""},
		"a platform of an image": {api.ReleaseRequest{Recipe: attest.Recipe{Platforms: []string{"darwin/arm64"}}}, ""},
	} {
		j := &run{Releaser: &Releaser{}, req: tt.req}
		err := j.checkRecipe()
		known, ok := errors.AsType[*api.Error](err)
		if !ok || known.Kind != api.Usage || !strings.Contains(known.Hint, tt.want) {
			t.Errorf("%s: got %#v", name, err)
		}
	}
}
