package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	stereofile "github.com/anchore/stereoscope/pkg/file"
	"github.com/anchore/stereoscope/pkg/image"
	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging"
	"github.com/anchore/syft/syft/cataloging/filecataloging"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/format/common/cyclonedxhelpers"
	"github.com/anchore/syft/syft/format/common/spdxhelpers"
	"github.com/anchore/syft/syft/pkg"
	syftsbom "github.com/anchore/syft/syft/sbom"
	syftsource "github.com/anchore/syft/syft/source"
	"github.com/anchore/syft/syft/source/stereoscopesource"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/uuid"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // Syft reads newer RPM databases with it

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/platform/release/scan"
)

// maxPackages is more packages than an SPDX document that verify accepts can list: each takes
// more than 300 bytes of it. Further packages are refused before the documents are written.
const maxPackages = limits.Statement / 300

// order is a scan.Order that is being executed. For files, Image is their name, and Digest that
// of a single file.
type order struct {
	scan.Order
	kind cyclonedx.ComponentType // of what is scanned; empty: an image
}

// generate scans the image once and returns both documents. For an index, each document
// describes the index and has the packages of all its platforms; a package occurs once
// for each location where it was found.
func generate(ctx context.Context, image scan.Order) (spdx, cyclone []byte, err error) {
	o := order{Order: image}
	if o.Image == "" || o.Created.IsZero() {
		return nil, nil, fmt.Errorf("got image %q and creation time %s, want both", o.Image, o.Created)
	}
	fail := func(err error) ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("SBOM of %s@%s: %w", o.Image, o.Digest, err)
	}
	images, err := find(layout.Path(o.Layout), o.Digest)
	if err != nil {
		return fail(err)
	}
	if o.Subject != (v1.Hash{}) {
		o.Digest = o.Subject
	}
	doc := &syftsbom.SBOM{}
	var unread []string
	meta := syftsource.ImageMetadata{UserInput: o.Image, ManifestDigest: o.Digest.String()}
	for _, img := range images {
		dpkg := newDpkgPackages()
		one, files, err := o.scan(ctx, img, dpkg)
		if err != nil {
			return fail(err)
		}
		one.Artifacts.Packages.Add(dpkg.kept...)
		merge(doc, one)
		unread = append(unread, files...)
		m, ok := one.Source.Metadata.(syftsource.ImageMetadata)
		if !ok {
			return fail(fmt.Errorf("syft described the image as %T", one.Source.Metadata))
		}
		meta.Layers = append(meta.Layers, m.Layers...)
		if len(images) == 1 {
			meta.Architecture, meta.OS, meta.Variant = m.Architecture, m.OS, m.Variant
		}
	}
	// The digest identifies the image, not the name, so copies have the same identifier.
	doc.Source = syftsource.Description{ID: o.Digest.Hex, Name: o.Image, Version: o.Digest.String(), Metadata: meta}
	spdx, cyclone, err = o.write(doc, named(unread))
	if err != nil {
		return fail(err)
	}
	return spdx, cyclone, nil
}

// write writes both documents.
func (o order) write(doc *syftsbom.SBOM, unread []string) (spdx, cyclone []byte, err error) {
	if n := doc.Artifacts.Packages.PackageCount(); n > maxPackages {
		return nil, nil, fmt.Errorf("got %d packages, want at most %d: a document of %d bytes cannot list them", n, maxPackages, limits.Statement)
	}
	var g errgroup.Group
	g.Go(func() (err error) { spdx, err = o.spdx(*doc, unread); return err })
	g.Go(func() (err error) { cyclone, err = o.cyclonedx(*doc, unread); return err })
	return spdx, cyclone, g.Wait()
}

// find returns the images in the manifest or index digest, in the order of the index.
// It skips BuildKit's attestations.
func find(path layout.Path, digest v1.Hash) ([]v1.Image, error) {
	raw, err := readBlob(path, digest, limits.Manifest)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, err
	}
	digests := []v1.Hash{digest}
	if kind.Manifests != nil {
		if digests = nil; len(kind.Manifests) > limits.IndexManifests {
			return nil, fmt.Errorf("index: got %d manifests, want at most %d", len(kind.Manifests), limits.IndexManifests)
		}
		for _, d := range kind.Manifests {
			if d.Platform != nil && d.Platform.OS == "unknown" {
				continue
			}
			if !d.MediaType.IsImage() {
				return nil, fmt.Errorf("index: %s: media type: got %q, want an image", d.Digest, d.MediaType)
			}
			digests = append(digests, d.Digest)
		}
	}
	var images []v1.Image
	for _, d := range digests {
		img, err := imageOf(path, d)
		if err == nil {
			err = checkDocuments(path, d)
		}
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", d, err)
		}
		images = append(images, img)
	}
	if len(images) == 0 {
		return nil, errors.New("index: got no image, want at least 1")
	}
	return images, nil
}

// scan catalogs the packages of one platform's image; dpkg finds those in dpkg's database.
// unread are the files that it could not read.
func (o order) scan(ctx context.Context, img v1.Image, dpkg pkg.Cataloger) (_ *syftsbom.SBOM, unread []string, err error) {
	raw, err := img.RawManifest()
	if err != nil {
		return nil, nil, err
	}
	temp := stereofile.NewTempDirGenerator("colophon-sbom")
	defer temp.Cleanup()
	dir, err := os.MkdirTemp(o.Dir, "layers-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	content := image.New(bounded{img}, temp, dir, image.WithManifest(raw))
	defer content.Cleanup()
	if err := content.Read(ctx); err != nil {
		return nil, nil, err
	}
	if ctx, err = classifyTexts(ctx); err != nil {
		return nil, nil, err
	}
	s, err := syft.CreateSBOM(ctx, stereoscopesource.New(content, stereoscopesource.ImageConfig{Reference: o.Image}), config(pkgcataloging.ImageTag, dpkg))
	if err != nil {
		return nil, nil, err
	}
	s.Relationships = stated(s.Relationships)
	return s, unreadFiles(s, content), complete(s)
}

// complete returns an error if Syft had no disk space to read a file. Syft itself only
// skips such a file without reporting an error.
func complete(s *syftsbom.SBOM) error {
	for at, reasons := range s.Artifacts.Unknowns {
		for _, r := range reasons {
			if strings.Contains(r, syscall.ENOSPC.Error()) {
				return fmt.Errorf("%s: %w", at.RealPath, syscall.ENOSPC)
			}
		}
	}
	return nil
}

// config configures Syft to find the packages that are installed in an image. It
// disables everything that is slow or only describes files: digests, symbols of
// executables, CPEs guessed from names, and network access.
func config(tag string, dpkg pkg.Cataloger) *syft.CreateSBOMConfig {
	catalogers := pkgcataloging.DefaultConfig()
	catalogers.Golang.UsePackagesLib = false // it would run the go command, which downloads modules
	return syft.DefaultCreateSBOMConfig().
		WithTool("syft", syftVersion).
		WithSearchConfig(cataloging.DefaultSearchConfig().WithScope(syftsource.SquashedScope)).
		WithCatalogerSelection(cataloging.NewSelectionRequest().WithDefaults(tag).WithRemovals(dpkgCataloger)).
		WithCatalogers(pkgcataloging.NewAlwaysEnabledCatalogerReference(dpkg)).
		WithPackagesConfig(catalogers).
		WithDataGenerationConfig(cataloging.DefaultDataGenerationConfig().WithGenerateCPEs(false)).
		WithUnknownsConfig(cataloging.UnknownsConfig{}). // report all errors: the documents name the files
		WithFilesConfig(filecataloging.DefaultConfig().WithSelection(file.NoFilesSelection)).
		WithRelationshipsConfig(cataloging.DefaultRelationshipsConfig().WithPackageFileOwnership(false))
}

func merge(into, from *syftsbom.SBOM) {
	if into.Artifacts.Packages == nil { // copying 60,000 packages takes a second
		into.Artifacts.Packages = from.Artifacts.Packages
	} else {
		into.Artifacts.Packages.Add(from.Artifacts.Packages.Sorted()...)
	}
	into.Descriptor = syftsbom.Descriptor{Name: from.Descriptor.Name, Version: from.Descriptor.Version}
	into.Relationships = append(into.Relationships, from.Relationships...)
	if into.Artifacts.LinuxDistribution == nil {
		into.Artifacts.LinuxDistribution = from.Artifacts.LinuxDistribution
	}
}

// id derives a document's UUID from its format, the image and the commit. A directory has no
// digest: its document identifies it.
func (o order) id(format string, document any) (uuid.UUID, error) {
	content := o.version()
	if content == "" {
		raw, err := encode(document)
		if err != nil {
			return uuid.UUID{}, err
		}
		content = string(raw)
	}
	name := strings.Join([]string{format, o.Image, content, o.Created.UTC().Format(time.RFC3339), o.Source.URI, o.Source.ID}, "\n")
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)), nil
}

// version returns the digest of what the documents describe. A directory has none.
func (o order) version() string {
	if o.Digest.Hex == "" {
		return ""
	}
	return o.Digest.String()
}

// purl returns the image's package URL (purl-spec, type oci). Files have none. An image in a
// layout has no repository.
func (o order) purl() string {
	if o.kind != "" {
		return ""
	}
	name := o.Image[strings.LastIndexByte(o.Image, '/')+1:]
	purl := "pkg:oci/" + url.PathEscape(strings.ToLower(name)) + "@" + url.QueryEscape(o.Digest.String())
	if name == o.Image {
		return purl
	}
	return purl + "?repository_url=" + url.QueryEscape(strings.ToLower(o.Image))
}

// builtFrom returns the image's source in SPDX's format of a download location.
func (o order) builtFrom() string {
	if o.Source.URI == "" {
		return ""
	}
	return attest.GitURI(o.Source.URI, o.Source.ID)
}

func (o order) spdx(s syftsbom.SBOM, unread []string) ([]byte, error) {
	doc := spdxhelpers.ToFormatModel(s)
	if doc == nil || len(doc.Packages) == 0 {
		return nil, errors.New("syft wrote no SPDX document")
	}
	doc.DocumentName, doc.DocumentNamespace = o.Image, ""
	if o.version() != "" {
		doc.DocumentName += "@" + o.version()
	}
	doc.CreationInfo.Created = o.Created.UTC().Format(time.RFC3339)
	doc.CreationInfo.Creators = []common.Creator{{CreatorType: "Tool", Creator: "colophon"}, {CreatorType: "Tool", Creator: "syft-" + syftVersion}}
	for _, file := range unread {
		doc.Annotations = append(doc.Annotations, &v2_3.Annotation{
			Annotator: common.Annotator{AnnotatorType: "Tool", Annotator: "colophon"}, AnnotationDate: doc.CreationInfo.Created, AnnotationType: "OTHER",
			AnnotationComment: "colophon: not read: " + file,
		})
	}
	root := doc.Packages[len(doc.Packages)-1]
	if root.PackageVersion != o.version() {
		return nil, fmt.Errorf("version in the SPDX document: got %q, want %q", root.PackageVersion, o.version())
	}
	if o.Digest.Hex != "" {
		root.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: o.Digest.Hex}}
	}
	if purl := o.purl(); purl != "" {
		root.PackageExternalReferences = []*v2_3.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: purl}}
	}
	if from := o.builtFrom(); from != "" {
		root.PackageSourceInfo = "built from " + from
	}
	slices.SortFunc(doc.Packages, func(a, b *v2_3.Package) int {
		return cmp.Compare(a.PackageSPDXIdentifier, b.PackageSPDXIdentifier)
	})
	doc.Relationships = sortedRelationships(doc.Relationships)
	id, err := o.id("SPDX-2.3", doc)
	if err != nil {
		return nil, err
	}
	doc.DocumentNamespace = "https://colophon.build/spdx/" + id.String()
	return encode(doc)
}

// sortedRelationships sorts the relationships and removes duplicates.
func sortedRelationships(list []*v2_3.Relationship) []*v2_3.Relationship {
	keys := make(map[*v2_3.Relationship]string, len(list))
	for _, r := range list {
		keys[r] = strings.Join([]string{ref(r.RefA), r.Relationship, ref(r.RefB), r.RelationshipComment}, "\n")
	}
	slices.SortFunc(list, func(a, b *v2_3.Relationship) int { return strings.Compare(keys[a], keys[b]) })
	return slices.CompactFunc(list, func(a, b *v2_3.Relationship) bool { return keys[a] == keys[b] })
}

func ref(id common.DocElementID) string {
	return strings.Join([]string{string(id.DocumentRefID), string(id.ElementRefID), id.SpecialID}, "\n")
}

func (o order) cyclonedx(s syftsbom.SBOM, unread []string) ([]byte, error) {
	doc := cyclonedxhelpers.ToFormatModel(s)
	doc.SerialNumber = ""
	doc.Metadata.Timestamp = o.Created.UTC().Format(time.RFC3339)
	doc.Metadata.Properties = nil
	root := &cyclonedx.Component{
		BOMRef: cmp.Or(o.purl(), "root"), Type: cmp.Or(o.kind, cyclonedx.ComponentTypeContainer), Name: o.Image, Version: o.version(), PackageURL: o.purl(),
	}
	if o.Digest.Hex != "" {
		root.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: o.Digest.Hex}}
	}
	if len(unread) > 0 {
		var files []cyclonedx.Property
		for _, file := range unread {
			files = append(files, cyclonedx.Property{Name: "colophon:not-read", Value: file})
		}
		doc.Metadata.Properties = &files
		doc.Compositions = &[]cyclonedx.Composition{{Aggregate: cyclonedx.CompositionAggregateIncomplete, Assemblies: &[]cyclonedx.BOMReference{cyclonedx.BOMReference(root.BOMRef)}}}
	}
	doc.Metadata.Component = root
	if from := o.builtFrom(); from != "" {
		doc.Metadata.Component.ExternalReferences = &[]cyclonedx.ExternalReference{{Type: cyclonedx.ERTypeVCS, URL: from}}
	}
	if doc.Components != nil {
		slices.SortStableFunc(*doc.Components, func(a, b cyclonedx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	}
	if doc.Dependencies != nil {
		slices.SortFunc(*doc.Dependencies, func(a, b cyclonedx.Dependency) int { return strings.Compare(a.Ref, b.Ref) })
		for _, d := range *doc.Dependencies {
			if d.Dependencies != nil {
				slices.Sort(*d.Dependencies)
			}
		}
	}
	id, err := o.id("CycloneDX-1.6", doc)
	if err != nil {
		return nil, err
	}
	doc.SerialNumber = id.URN()
	var buf bytes.Buffer
	enc := cyclonedx.NewBOMEncoder(&buf, cyclonedx.BOMFileFormatJSON)
	enc.SetEscapeHTML(false)
	if err := enc.EncodeVersion(doc, cyclonedx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return trimmed(buf.Bytes())
}

func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return trimmed(buf.Bytes())
}

// trimmed removes the final newline of a document. It returns an error if the document
// is larger than verify accepts.
func trimmed(doc []byte) ([]byte, error) {
	if len(doc) > limits.Statement {
		return nil, fmt.Errorf("document: got %d bytes, want at most %d", len(doc), limits.Statement)
	}
	return bytes.TrimSuffix(doc, []byte("\n")), nil
}
