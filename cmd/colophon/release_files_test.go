package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestFilesRepository: the name of the repository for files says which source and package.
func TestFilesRepository(t *testing.T) {
	stage, err := filesRepository("https://git.example.com/team/app", attest.Recipe{Dockerfile: "release/Dockerfile", Target: "files"})
	if want := "files/git.example.com/team/app/release/dockerfile/files"; stage != want || err != nil {
		t.Errorf("got %q, %v, want %q", stage, err, want)
	}
	for _, tt := range []struct{ uri, context, pkg, want string }{
		{"https://git.example.com/team/app", "", "", "files/git.example.com/team/app"},
		{"https://git.example.com/Team/App_x", "", "./cmd/tool", "files/git.example.com/team/app_x/cmd/tool"},
		{"https://git.example.com:8443/team/app", "services/web", "", "files/git.example.com-8443/team/app/services/web"},
		{"file:///home/ada/My+App-", "", ".", "files/home/ada/my-app"},
		{"https://git.example.com/" + strings.Repeat("a", 200), "", "", ""},
		{"nonsense", "", "", ""},
	} {
		got, err := filesRepository(tt.uri, attest.Recipe{Context: tt.context, Package: tt.pkg})
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
		if _, err := oci.OpenRegistry("127.0.0.1:5000/"+got, oci.RegistryOptions{}); got != "" && err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

// filesStage is a registry with the files of one release, and a directory to save them in.
type filesStage struct {
	*savedFiles
	t     *testing.T
	p     *prooftest.Platform
	store *prooftest.Store
	top   v1.Descriptor
}

func newFilesStage(t *testing.T, contents map[string]string) *filesStage {
	p, store := prooftest.New(t), prooftest.NewStore(t)
	s := &filesStage{t: t, p: p, store: store}
	var files []oci.File
	for _, name := range []string{"app-darwin-arm64", "app-linux-amd64"} {
		d := store.Put([]byte(contents[name]), "application/octet-stream")
		files = append(files, oci.File{Name: name, Descriptor: d})
	}
	store.Put(oci.EmptyConfig(), types.OCIEmptyJSON)
	raw, d, err := oci.FilesManifest(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	store.Put(raw, d.MediaType)
	s.top = d
	demand, err := policy.Document{Source: prooftest.Source, Ref: "v1.2.0"}.Policy()
	if err != nil {
		t.Fatal(err)
	}
	s.savedFiles = &savedFiles{to: filepath.Join(t.TempDir(), "dist"), rel: &api.Release{Image: "127.0.0.1:8080/files/app", Digest: d.Digest.String()},
		opts: verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demand}}
	s.files = files
	return s
}

// prove attaches the provenance of these files.
func (s *filesStage) prove(files []oci.File) {
	r := s.p.ReleaseOf(v1.Descriptor{})
	r.Provenance.BuildDefinition.BuildType = attest.BuildTypeFiles
	r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","package":".","files":true}`)
	r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: ".", Files: true}}
	var subjects []attest.Subject
	for _, f := range files {
		subjects = append(subjects, attest.Subject{Name: f.Name, Digest: map[string]string{"sha256": f.Descriptor.Digest.Hex}})
	}
	statement, err := attest.NewStatementAbout(subjects, attest.PredicateSLSA1, r.Predicate(attest.PredicateSLSA1))
	if err != nil {
		s.t.Fatal(err)
	}
	s.store.Attach(s.top, s.p.Sign(r.Signer(), statement), attest.PredicateSLSA1)
}

// nothing fails if anything is there beside an unfinished directory that another command uses.
func (s *filesStage) nothing(what string) {
	s.t.Helper()
	left, err := os.ReadDir(filepath.Dir(s.to))
	if err != nil || len(left) > 0 {
		s.t.Errorf("%s: left %v, %v", what, left, err)
	}
}

// TestFilesOfAnotherCommit: two commits of a branch may have the same files. The proof that is
// saved, or that lies in the directory from an earlier release, is that of the commit released.
func TestFilesOfAnotherCommit(t *testing.T) {
	s := newFilesStage(t, map[string]string{"app-darwin-arm64": "for macOS", "app-linux-amd64": "for linux"})
	s.prove(s.files)
	demand := func(commit string) {
		var err error
		s.rel.Source.ID = commit
		if s.opts.Policy, err = (releaseOptions{ref: "v1.2.0"}).filesDemand(api.ReleaseRequest{Source: prooftest.Source}, s.rel); err != nil {
			t.Fatal(err)
		}
	}
	later := strings.Repeat("a", 40)
	demand(later)
	if err := s.save(t.Context(), s.store); err == nil || !strings.Contains(err.Error(), later) {
		t.Errorf("the proof of an earlier commit: got %v", err)
	}
	s.nothing("the proof of an earlier commit")
	demand(prooftest.Commit)
	if err := s.save(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	demand(later)
	if err := s.save(t.Context(), s.store); err == nil || !strings.Contains(err.Error(), "is not this release") {
		t.Errorf("a directory of an earlier commit: got %v", err)
	}
}

// TestSavedSBOMs: beside a file is the SBOM that the signer of the proof made of this file, and
// no other one, whatever else is attached.
func TestSavedSBOMs(t *testing.T) {
	s := newFilesStage(t, map[string]string{"app-darwin-arm64": "for macOS", "app-linux-amd64": "for linux"})
	attach := func(p *prooftest.Platform, f oci.File, predicateType, predicate string) {
		about := []attest.Subject{{Name: f.Name, Digest: map[string]string{"sha256": f.Descriptor.Digest.Hex}}}
		statement, err := attest.NewStatementAbout(about, predicateType, json.RawMessage(predicate))
		if err != nil {
			t.Fatal(err)
		}
		r := p.ReleaseOf(v1.Descriptor{})
		r.Provenance.BuildDefinition.BuildType = attest.BuildTypeFiles
		r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","package":".","files":true}`)
		r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: ".", Files: true}}
		s.store.Attach(s.top, p.Sign(r.Signer(), statement), predicateType)
	}
	darwin, linux := s.files[0], s.files[1]
	attach(prooftest.New(t), darwin, attest.PredicateSPDX, `{"name":"a stranger's"}`)
	attach(s.p, linux, attest.PredicateCDX, `{"name":"of another kind"}`)
	attach(s.p, linux, attest.PredicateSPDX, `{"name":"the linux one"}`)
	s.prove(s.files)
	if err := s.save(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(s.to, "app-linux-amd64"+attest.SBOMBundleEnding))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Parse(raw)
	if err != nil || !strings.Contains(string(b.Statement.Predicate), "the linux one") {
		t.Errorf("linux: got %s, %v", raw, err)
	}
	if _, err := os.Stat(filepath.Join(s.to, "app-darwin-arm64"+attest.SBOMBundleEnding)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("darwin: got %v, want no SBOM", err)
	}
	if !slices.Equal(s.bare, []string{"app-darwin-arm64"}) {
		t.Errorf("without an SBOM: got %q", s.bare)
	}
}

// TestUnfinished: of what lies beside the directory, only the unfinished directories of commands
// for the same one are removed, whatever signs their names have, and nothing can keep a release
// from being saved.
func TestUnfinished(t *testing.T) {
	for _, base := range []string{"dist", "[dist]", "di[st", "d*"} {
		parent := filepath.Join(t.TempDir(), "[a", "*")
		other, target := filepath.Join(parent, ".d.tmp-1"), t.TempDir()
		for _, dir := range []string{filepath.Join(parent, "."+base+".tmp-1", "files"), other, filepath.Join(parent, ".d1.tmp-1")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(target, filepath.Join(parent, "."+base+".tmp-2")); err != nil {
			t.Fatal(err)
		}
		s := newFilesStage(t, map[string]string{"app-darwin-arm64": "for macOS", "app-linux-amd64": "for linux"})
		s.to = filepath.Join(parent, base)
		s.prove(s.files)
		if err := s.save(t.Context(), s.store); err != nil {
			t.Errorf("%s: %v", base, err)
		}
		var left []string
		entries, err := os.ReadDir(parent)
		for _, e := range entries {
			left = append(left, e.Name())
		}
		if want := []string{".d.tmp-1", ".d1.tmp-1", "." + base + ".tmp-2", base}; err != nil || !slices.Equal(slices.Sorted(slices.Values(left)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: left %q, %v, want %q", base, left, err, want)
		}
		if inside, err := os.ReadDir(target); err != nil || len(inside) > 0 {
			t.Errorf("%s: a symbolic link led to %v, %v", base, inside, err)
		}
	}
}

// TestSaveFiles: the directory is there whole, or not at all, and what is there is verified.
func TestSaveFiles(t *testing.T) {
	contents := map[string]string{"app-darwin-arm64": "for macOS", "app-linux-amd64": "for linux"}
	ctx := context.Background()

	s := newFilesStage(t, contents)
	if err := s.save(ctx, s.store); err == nil {
		t.Error("files without proof were saved")
	}
	s.nothing("without proof")
	s.prove([]oci.File{{Name: "app-darwin-arm64", Descriptor: s.files[0].Descriptor}, {Name: "other-linux-amd64", Descriptor: s.files[1].Descriptor}})
	if err := s.save(ctx, s.store); err == nil || !strings.Contains(err.Error(), "under its own name") {
		t.Errorf("another name: got %v", err)
	}
	s.nothing("another name")
	s.prove(s.files)
	s.store.Tamper(s.files[1].Descriptor.Digest, []byte("for linuy"))
	if err := s.save(ctx, s.store); err == nil {
		t.Error("a file that the registry changed was saved")
	}
	s.nothing("a file that the registry changed")
	s.store.Put([]byte("for linux"), "application/octet-stream")

	// One of two unfinished directories is another command's, which runs.
	parent := filepath.Dir(s.to)
	for _, name := range []string{".dist.tmp-1", ".dist.tmp-2"} {
		if err := os.MkdirAll(filepath.Join(parent, name, "files"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := dirlock.Take(filepath.Join(parent, ".dist.tmp-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := s.save(ctx, s.store); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(parent, ".*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != ".dist.tmp-2" {
		t.Errorf("unfinished: got %v, %v", left, err)
	}
	got, err := os.ReadDir(s.to)
	if err != nil || len(got) != 5 {
		t.Fatalf("got %v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(s.to, "app-linux-amd64")); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("got %v, %v", info, err)
	}
	if err := s.save(ctx, s.store); err != nil || !s.old {
		t.Errorf("again: got %v", err)
	}
	if err := os.WriteFile(filepath.Join(s.to, "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.save(ctx, s.store); err == nil || !strings.Contains(err.Error(), "is not this release") {
		t.Errorf("a directory with another file: got %v", err)
	}
}
