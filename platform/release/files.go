package release

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release/scan"
)

// This file has what differs for a release of files (attest.Recipe.Files): the golang builder
// hands over a layout with a manifest of files, and one provenance is about all of them.

// checkFiles refuses what a request for files cannot have.
func (j *run) checkFiles() error {
	refuse := func(what, hint string) error {
		return &api.Error{Message: "a release of files cannot have " + what, Hint: hint, Kind: api.Usage}
	}
	switch r := j.req.Recipe; {
	case !r.Files:
		return nil
	case j.req.DockerAttestations:
		return refuse("attestations for Docker", "leave out --docker-attestations")
	case j.req.CacheMounts:
		return refuse("cache mounts that are kept", "leave out --cache-mounts")
	}
	return nil
}

// ownFiles returns the recipe of the commit itself for files: the main package at the top of
// its tree or, without a go.mod there, the Dockerfile. A commit without both has none. What the
// commit declares for images does not count.
func ownFiles(tree *os.Root) *attest.DefaultRecipe {
	own := attest.Recipe{Builder: attest.Golang, Files: true}
	if _, err := tree.Lstat("go.mod"); err != nil {
		if !isDockerfileAlone(tree) {
			return nil
		}
		own.Builder = attest.BuildKit
	}
	return &attest.DefaultRecipe{Recipe: own.Filled()}
}

// isDockerfileAlone reports whether a tree has a Dockerfile and no go.mod at its top.
func isDockerfileAlone(tree *os.Root) bool {
	_, mod := tree.Lstat("go.mod")
	_, file := tree.Lstat("Dockerfile")
	return errors.Is(mod, fs.ErrNotExist) && file == nil
}

// filesBuilder returns the builder for a request for files.
func filesBuilder(asked attest.Recipe, tree *os.Root) string {
	switch {
	case asked.Builder != "":
		return asked.Builder
	case asked.Dockerfile != "" || asked.Target != "" || len(asked.BuildArgs) > 0:
		return attest.BuildKit
	case asked.Package == "" && path.Clean(asked.Context) == "." && isDockerfileAlone(tree):
		return attest.BuildKit
	}
	return attest.Golang
}

// fileTargets returns the release files of the recipe: names and platforms. The attest zone
// determines them itself, from the commit.
func (j *run) fileTargets() (map[string]string, error) {
	tree, err := os.OpenRoot(j.tree)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	names, err := builder.GoFiles(tree, j.recipe)
	if err != nil {
		return nil, &api.Error{Message: err.Error(), Hint: "a file is named for the directory of the main package; choose the package with --package"}
	}
	targets := map[string]string{}
	for i, name := range names {
		targets[name] = j.recipe.Platforms[i]
	}
	return targets, nil
}

// sameFiles returns an error unless the builder made exactly the files of the recipe.
func (j *run) sameFiles(m *oci.Measured) error {
	targets, err := j.fileTargets()
	if err != nil {
		return err
	}
	var want, got []string
	for name := range targets {
		want = append(want, name)
	}
	for _, f := range m.Files {
		got = append(got, f.Name)
	}
	slices.Sort(want)
	if !slices.Equal(want, got) {
		return &api.Error{Message: fmt.Sprintf("refusing to sign: files of the build: expected %s, found %s", strings.Join(want, ", "), strings.Join(got, ", "))}
	}
	return nil
}

// noProgram is the target of a file that is no Go binary.
const noProgram = "nothing: no Go program"

// linkedFiles returns the modules in release files, and the platform that each says it is for.
func linkedFiles(ctx context.Context, src *oci.Layout, scratch *os.File, files []oci.File) (found []linked, err error) {
	for _, f := range files {
		blob, err := src.Blob(ctx, f.Descriptor)
		if err != nil {
			return nil, err
		}
		n, err := io.Copy(io.NewOffsetWriter(scratch, 0), blob)
		if err = errors.Join(err, blob.Close()); err != nil {
			return nil, err
		}
		info, err := buildinfo.Read(io.NewSectionReader(scratch, 0, n))
		if err != nil {
			found = append(found, linked{File: f.Name, Target: noProgram})
			continue
		}
		setting := map[string]string{}
		for _, s := range info.Settings {
			setting[s.Key] = s.Value
		}
		found = append(found, linked{File: f.Name, Target: setting["GOOS"] + "/" + setting["GOARCH"]})
		if found = append(found, linkedIn(f.Name, info)...); len(found) > maxLinked {
			return nil, fmt.Errorf("the files name more than %d modules", maxLinked)
		}
	}
	return found, nil
}

// checkTargets returns an error if a release file does not say itself that it is for the
// platform in its name.
func (j *run) checkTargets(m *oci.Measured, found []linked) error {
	if !j.recipe.Files {
		return nil
	}
	targets, err := j.fileTargets()
	if err != nil {
		return err
	}
	said := map[string]string{}
	for _, l := range found {
		if l.Target != "" {
			said[l.File] = l.Target
		}
	}
	for _, f := range m.Files {
		p, err := v1.ParsePlatform(targets[f.Name])
		if err != nil {
			return err
		}
		if want := p.OS + "/" + p.Architecture; said[f.Name] != want {
			return refuseToSign(fmt.Errorf("file %s: it says that it is for %q, expected %q", f.Name, said[f.Name], want))
		}
	}
	return nil
}

// annotateFiles replaces the builder's manifest by the attest zone's own, which has the same
// files and says what they were built from. So nothing in it is the builder's word.
func (j *run) annotateFiles(a *attempt, m *oci.Measured) error {
	if !j.fromStage() { // else these files are not what the builder made
		a.Config["image.built"] = m.Descriptor.Digest.String()
	}
	annotations := j.annotations(baseOf{})
	for name, text := range annotations {
		if text == "" {
			delete(annotations, name)
		}
	}
	if err := os.Remove(blobFile(a.Layout, m.Descriptor.Digest)); err != nil {
		return err
	}
	raw, top, err := writeFilesManifest(a.Layout, m.Files, annotations)
	if err != nil {
		return err
	}
	m.Descriptor, m.Raw = top, raw
	for _, f := range m.Files {
		j.emit(api.Event{Phase: "measure", Line: f.Descriptor.Digest.String() + "  " + f.Name})
	}
	return nil
}

// writeFilesManifest makes the manifest of files the only entry of a layout that has the files.
func writeFilesManifest(layout string, files []oci.File, annotations map[string]string) (raw []byte, top v1.Descriptor, err error) {
	if raw, top, err = oci.FilesManifest(files, annotations); err != nil {
		return nil, top, err
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return nil, top, err
	}
	return raw, top, errors.Join(durable.WriteFile(blobFile(layout, top.Digest), raw, 0o644), durable.WriteFile(filepath.Join(layout, "index.json"), index, 0o644))
}

// scanFiles writes an SBOM of each release file, in the scanner's process apart.
func (j *run) scanFiles(ctx context.Context, b *built, m *oci.Measured) error {
	b.Inner = nil
	for _, f := range m.Files {
		o := scan.Files{Path: blobFile(b.Layout, f.Descriptor.Digest), Dir: filepath.Join(j.dir, dirScan), Name: f.Name, Created: j.commit.Time}
		documents, err := j.scanned(ctx, "file "+f.Name, o)
		if err != nil {
			return err
		}
		if err := j.keepInner(b, documents.SPDX); err != nil {
			return err
		}
	}
	return nil
}

// fileSBOMs returns the statements about each of the files alone.
func (p *proofs) fileSBOMs(b *built) (statements []statement, err error) {
	if len(b.Inner) != len(p.files) {
		return nil, fmt.Errorf("SBOMs: got %d, want one for each of %d files", len(b.Inner), len(p.files))
	}
	for i, f := range p.files {
		spdx, err := p.readSBOM(fileInner(i), b.Inner[i])
		if err != nil {
			return nil, err
		}
		statements = append(statements, statement{predicateType: attest.PredicateSPDX, predicate: spdx, match: anyOf, about: fileSubjects([]oci.File{f})})
	}
	return statements, nil
}

// fileSubjects returns the subjects of the provenance of files: each with its name.
func fileSubjects(files []oci.File) (subjects []attest.Subject) {
	for _, f := range files {
		subjects = append(subjects, attest.Subject{Name: f.Name, Digest: map[string]string{"sha256": f.Descriptor.Digest.Hex}})
	}
	return subjects
}

// sameSubjects reports whether a statement is about exactly these.
func sameSubjects(a, b []attest.Subject) bool {
	return slices.EqualFunc(a, b, func(a, b attest.Subject) bool {
		return a.Name == b.Name && len(a.Digest) == 1 && a.Digest["sha256"] == b.Digest["sha256"]
	})
}

// filesIn returns the files that a manifest in the target lists.
func (j *run) filesIn(ctx context.Context, manifest v1.Hash) ([]oci.File, error) {
	raw, _, err := j.target.Manifest(ctx, manifest)
	if err != nil {
		return nil, err
	}
	files, err := oci.ParseFiles(raw)
	if err != nil {
		return nil, fmt.Errorf("%s@%s: %w", path.Base(j.req.Image), manifest, err)
	}
	return files, nil
}

// released returns files for the answer; nil if there are none.
func released(files []oci.File) (out []api.File) {
	for _, f := range files {
		out = append(out, api.File{Name: f.Name, Digest: f.Descriptor.Digest.String(), Size: f.Descriptor.Size})
	}
	return out
}

// filesDiffer returns the error for two builds that made other bytes.
func filesDiffer(first, second *oci.Measured) error {
	var lines []string
	for i, f := range first.Files { // both have the names of the recipe
		if a, b := f.Descriptor.Digest, second.Files[i].Descriptor.Digest; a != b {
			lines = append(lines, fmt.Sprintf("%s: %s; %s", f.Name, a, b))
		}
	}
	return &api.Error{Message: "the two builds of a hermetic release differ:\n  " + strings.Join(lines, "\n  "), Hint: "look for a time, a random value or an order of work that gets into the files"}
}
