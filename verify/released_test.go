package verify_test

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// ofFiles makes a release one of files.
func ofFiles(r *prooftest.Release) {
	r.Provenance.BuildDefinition.BuildType = attest.BuildTypeFiles
	r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","platforms":["darwin/arm64","linux/amd64"],"package":".","files":true}`)
	r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: ".", Files: true}}
}

// releasedFiles prepares the provenance of release files, and signs it.
func releasedFiles(p *prooftest.Platform, bend func(*prooftest.Release), subjects ...attest.Subject) []byte {
	r := p.ReleaseOf(v1.Descriptor{})
	ofFiles(r)
	if bend != nil {
		bend(r)
	}
	statement, err := attest.NewStatementAbout(subjects, attest.PredicateSLSA1, r.Predicate(attest.PredicateSLSA1))
	if err != nil {
		panic(err)
	}
	return p.Sign(r.Signer(), statement)
}

// TestFileOfPlatform: a file that a platform built is accepted with its provenance, under its
// own name, and no other one is.
func TestFileOfPlatform(t *testing.T) {
	p := prooftest.New(t)
	linux, darwin := fileOf([]byte("for linux")), fileOf([]byte("for macOS"))
	linux.Title, darwin.Title = "app-linux-amd64", "app-darwin-arm64"
	subject := func(name string, f verify.File) attest.Subject {
		return attest.Subject{Name: name, Digest: map[string]string{"sha256": f.Digest.Hex}}
	}
	both := []attest.Subject{subject("app-darwin-arm64", darwin), subject("app-linux-amd64", linux)}
	good := releasedFiles(p, nil, both...)
	called := func(f verify.File, title string) verify.File { f.Title = title; return f }
	image := func(r *prooftest.Release) {
		r.Provenance.BuildDefinition.BuildType = attest.BuildTypeGolang
		r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","platforms":["linux/amd64"],"package":"."}`)
		r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: "."}}
	}
	other := func(r *prooftest.Release) {
		r.Parameters.Recipe = json.RawMessage(`{"builder":"golang","platforms":["linux/amd64"],"package":"./cmd/other","files":true}`)
	}
	mixed := func(r *prooftest.Release) {
		r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.Golang, Package: "."}}
	}
	// stage makes it a release of files from a Dockerfile, with this recipe.
	stage := func(recipe string) func(r *prooftest.Release) {
		return func(r *prooftest.Release) {
			r.Provenance.BuildDefinition.BuildType = attest.BuildTypeDockerfileFiles
			r.Parameters.Recipe = json.RawMessage(recipe)
			r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "Dockerfile", Files: true}}
		}
	}
	fromDockerfile := stage(`{"builder":"buildkit","platforms":["darwin/arm64","linux/amd64"],"dockerfile":"Dockerfile","files":true}`)
	fromTarget := stage(`{"builder":"buildkit","platforms":["darwin/arm64","linux/amd64"],"dockerfile":"Dockerfile","target":"evil","files":true}`)
	// other statements of the same signer about the file are no provenance.
	sbomOf := func(f verify.File, kind string) []byte {
		r := p.ReleaseOf(v1.Descriptor{Digest: f.Digest})
		ofFiles(r)
		statement, err := attest.NewStatementAbout([]attest.Subject{subject(f.Title, f)}, kind, r.Predicate(kind))
		if err != nil {
			t.Fatal(err)
		}
		return p.Sign(r.Signer(), statement)
	}
	mine := policy.Document{Source: prooftest.Source, Ref: "v1.2.0"}
	with := func(change func(*policy.Document)) policy.Document { d := mine; change(&d); return d }
	exact := func(text string) *policy.DocumentValue { return &policy.DocumentValue{Exact: text} }
	for name, tt := range map[string]struct {
		file   verify.File
		bundle []byte
		policy policy.Document
		want   string // why it is rejected; empty: accepted
	}{
		"its file":                      {linux, good, mine, ""},
		"the other file":                {darwin, good, mine, ""},
		"a level":                       {linux, good, with(func(d *policy.Document) { d.MinLevel = 2 }), ""},
		"the builder":                   {linux, good, with(func(d *policy.Document) { d.Builders = []string{prooftest.Builder} }), ""},
		"another platform's name":       {called(linux, "app-darwin-arm64"), good, mine, "a file counts only under its own name"},
		"any other name":                {called(linux, "app"), good, mine, "a file counts only under its own name"},
		"no name":                       {called(linux, ""), good, mine, "a file counts only under its own name"},
		"another file":                  {called(fileOf([]byte("evil")), "app-linux-amd64"), good, mine, "subject of the statement"},
		"another ref":                   {linux, good, with(func(d *policy.Document) { d.Ref = "v1.3.0" }), "ref"},
		"another source":                {linux, good, with(func(d *policy.Document) { d.Source = "https://git.example.com/team/other" }), "source"},
		"another builder":               {linux, good, with(func(d *policy.Document) { d.Builders = []string{prooftest.URL + "/builders/golang/v1"} }), "signer"},
		"a higher level":                {linux, good, with(func(d *policy.Document) { d.MinLevel = 3 }), "level"},
		"the provenance of an image":    {linux, releasedFiles(p, image, both...), mine, "provenance is about an image"},
		"what the requester chose":      {linux, releasedFiles(p, other, both...), mine, "the requester of the build chose package ./cmd/other"},
		"what the consumer wants":       {linux, releasedFiles(p, other, both...), with(func(d *policy.Document) { d.Recipe = &policy.DocumentRecipe{Package: exact("./cmd/other")} }), ""},
		"the default of an image":       {linux, releasedFiles(p, mixed, both...), mine, "files: the recipe says true, the default false"},
		"from the Dockerfile":           {linux, releasedFiles(p, fromDockerfile, both...), mine, ""},
		"from it, another name":         {called(linux, "app-darwin-arm64"), releasedFiles(p, fromDockerfile, both...), mine, "a file counts only under its own name"},
		"a target":                      {linux, releasedFiles(p, fromTarget, both...), mine, "the requester of the build chose target evil"},
		"a target that is wanted":       {linux, releasedFiles(p, fromTarget, both...), with(func(d *policy.Document) { d.Recipe = &policy.DocumentRecipe{Target: exact("evil")} }), ""},
		"the recipe of an image":        {linux, releasedFiles(p, stage(`{"builder":"buildkit","platforms":["linux/amd64"],"dockerfile":"Dockerfile"}`), both...), mine, "files: got false, want true"},
		"the recipe of Go":              {linux, releasedFiles(p, stage(`{"builder":"golang","platforms":["linux/amd64"],"package":".","files":true}`), both...), mine, `builder: got "golang", want "buildkit"`},
		"a stranger's platform":         {linux, releasedFiles(prooftest.New(t), nil, both...), mine, "signature"},
		"an SBOM alone":                 {linux, sbomOf(linux, attest.PredicateSPDX), mine, "predicate type"},
		"a signature alone":             {linux, sbomOf(linux, attest.PredicateSign), mine, "predicate type"},
		"names that differ in the case": {linux, releasedFiles(p, nil, subject("App-linux-amd64", linux)), mine, "a file counts only under its own name"},
	} {
		opts := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, tt.policy), SourceCheck: func(context.Context, source.Question) (source.Standing, error) {
			return source.Standing{}, errors.New("it is away")
		}}
		v := verify.Bundled(context.Background(), tt.file, [][]byte{tt.bundle}, time.Now(), opts)
		switch {
		case tt.want == "" && v.Outcome != verify.Accepted, tt.want != "" && v.Outcome != verify.Rejected:
			t.Errorf("%s: got %v, %q", name, v.Outcome, v.Why())
		case !strings.Contains(v.Why(), tt.want):
			t.Errorf("%s: got %q, want %q", name, v.Why(), tt.want)
		case tt.want == "" && (v.Facts == nil || v.Facts.Build.Commit != prooftest.Commit || v.Level != 2):
			t.Errorf("%s: got level %d, facts %+v", name, v.Level, v.Facts)
		}
	}
}

// TestFilesAreNoImage: the provenance of release files proves no image, also if the bytes of
// one of the files are those of the image's manifest.
func TestFilesAreNoImage(t *testing.T) {
	fromStage := func(r *prooftest.Release) {
		r.Provenance.BuildDefinition.BuildType = attest.BuildTypeDockerfileFiles
		r.Parameters.Recipe = json.RawMessage(`{"builder":"buildkit","platforms":["linux/amd64"],"dockerfile":"Dockerfile","files":true}`)
		r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "Dockerfile", Files: true}}
	}
	for name, bend := range map[string]func(*prooftest.Release){"of a package": ofFiles, "of a stage": fromStage} {
		c := newScene(t)
		bend(c.r)
		c.r.Attach(prooftest.Kinds...)
		v := c.verdict()
		if v.Outcome != verify.Rejected || !strings.Contains(v.Why(), "provenance is about release files") {
			t.Errorf("%s: got %v, %q", name, v.Outcome, v.Why())
		}
	}
}

// TestReleasedForbidden: an SBOM that must be absent is not hidden by what it calls the file: only one
// that is about another file of the release is left out.
func TestReleasedForbidden(t *testing.T) {
	p := prooftest.New(t)
	content := map[string][]byte{"app-darwin-arm64": []byte("for macOS"), "app-linux-amd64": []byte("for linux")}
	sum512 := sha512.Sum512(content["app-linux-amd64"])
	for name, tt := range map[string]struct {
		about map[string]string // digests of the subject of the SBOM; nil: there is none
		want  verify.Outcome
	}{
		"none":            {nil, verify.Accepted},
		"by its sha256":   {map[string]string{"sha256": fileOf(content["app-linux-amd64"]).Digest.Hex}, verify.Rejected},
		"by its sha512":   {map[string]string{"sha512": hex.EncodeToString(sum512[:])}, verify.Undecided},
		"of another file": {map[string]string{"sha256": fileOf([]byte("another")).Digest.Hex}, verify.Undecided},
	} {
		s := prooftest.NewStore(t)
		var files []oci.File
		var subjects []attest.Subject
		for _, name := range slices.Sorted(maps.Keys(content)) {
			d := s.Put(content[name], "application/octet-stream")
			files = append(files, oci.File{Name: name, Descriptor: d})
			subjects = append(subjects, attest.Subject{Name: name, Digest: map[string]string{"sha256": d.Digest.Hex}})
		}
		raw, _, err := oci.FilesManifest(files, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Put(oci.EmptyConfig(), types.OCIEmptyJSON)
		top := s.Put(raw, types.OCIManifestSchema1)
		s.Attach(top, releasedFiles(p, nil, subjects...), attest.PredicateSLSA1)
		if tt.about != nil {
			r := p.ReleaseOf(v1.Descriptor{})
			ofFiles(r)
			statement, err := attest.NewStatementAbout([]attest.Subject{{Name: "app-linux-amd64", Digest: tt.about}}, attest.PredicateSPDX, r.SPDX)
			if err != nil {
				t.Fatal(err)
			}
			s.Attach(top, p.Sign(r.Signer(), statement), attest.PredicateSPDX)
		}
		wants := demanded(t, policy.Document{Source: prooftest.Source})
		wants.Absent = []policy.Absent{{PredicateType: attest.PredicateSPDX}}
		v := verify.Released(context.Background(), s, top.Digest.String(), time.Now(), verify.Options{Trust: []*trust.Root{p.Root()}, Policy: wants})
		if v.Outcome != tt.want {
			t.Errorf("%s: got %v, want %v: %s", name, v.Outcome, tt.want, v.Why())
		}
	}
}
