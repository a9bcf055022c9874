package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release/scan"
)

// published is the manifest or index that a release signs and tags. With
// api.ReleaseRequest.DockerAttestations it is an index of the measured image and of
// attestations in BuildKit's form. The measured layout on disk stays as it is, because a
// restart measures it again.
type published struct {
	v1.Descriptor
	blobs     []part
	manifests []part // attestation manifests, then the index; none if the measured image is published
}

// part is a blob or manifest that is not in the layout.
type part struct {
	v1.Descriptor
	raw []byte
}

func newPart(mediaType types.MediaType, raw []byte) part {
	return part{v1.Descriptor{MediaType: mediaType, Digest: v1.Hash{Algorithm: "sha256", Hex: hexSum(raw)}, Size: int64(len(raw))}, raw}
}

// push uploads everything that the published image consists of. The index comes last.
func (p published) push(ctx context.Context, target oci.Target, layout *oci.Layout, m *oci.Measured) error {
	if len(p.manifests) == 0 {
		return oci.Copy(ctx, target, layout, m.Descriptor)
	}
	for _, platform := range m.Platforms {
		if err := oci.Copy(ctx, target, layout, platform.Manifest); err != nil {
			return err
		}
	}
	for _, b := range p.blobs {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.raw)), nil }
		if err := target.PushBlob(ctx, b.Descriptor, open); err != nil {
			return err
		}
	}
	for _, d := range p.manifests {
		if _, err := target.PushManifest(ctx, d.raw, string(d.MediaType)); err != nil {
			return err
		}
	}
	return nil
}

// scanPlatforms writes an SBOM of each platform's image, for compose.
func (j *run) scanPlatforms(ctx context.Context, b *built, m *oci.Measured) error {
	b.Inner = nil
	for _, p := range m.Platforms {
		documents, err := j.scanOne(ctx, scan.Order{Layout: b.Layout, Digest: p.Manifest.Digest})
		if err != nil {
			return err
		}
		if err := j.keepInner(b, documents.SPDX); err != nil {
			return err
		}
	}
	return nil
}

// keepInner writes the SBOM of the next platform's image, or of the next release file.
func (j *run) keepInner(b *built, spdx []byte) error {
	if err := durable.WriteFile(filepath.Join(j.dir, fileInner(len(b.Inner))), spdx, 0o600); err != nil {
		return err
	}
	b.Inner = append(b.Inner, hexSum(spdx))
	return nil
}

// fileInner returns the name of the i-th SBOM of built.Inner in the directory of the work.
func fileInner(i int) string { return fmt.Sprintf("sbom-%d.spdx.json", i) }

// compose returns what the release publishes. It is the same each time for the same image and request.
func (j *run) compose(b *built, m *oci.Measured) (published, error) {
	if !j.req.DockerAttestations {
		return published{Descriptor: m.Descriptor}, nil
	}
	if len(b.Inner) != len(m.Platforms) {
		return published{}, fmt.Errorf("SBOMs: got %d, want one for each of %d platforms", len(b.Inner), len(m.Platforms))
	}
	var out published
	index, entries, err := indexOf(b.Layout, m)
	if err != nil {
		return out, err
	}
	for i, p := range m.Platforms {
		manifest, blobs, err := j.innerManifest(b, i, p)
		if err != nil {
			return out, fmt.Errorf("attestations of %s: %w", p.Platform, err)
		}
		out.blobs = append(out.blobs, blobs...)
		out.manifests = append(out.manifests, manifest)
		entry, err := json.Marshal(manifest.Descriptor)
		if err != nil {
			return out, err
		}
		entries = append(entries, entry)
	}
	if len(entries) > limits.IndexManifests {
		return out, &api.Error{Message: fmt.Sprintf("index: got %d manifests with the attestations, want at most %d", len(entries), limits.IndexManifests)}
	}
	if index["manifests"], err = json.Marshal(entries); err != nil {
		return out, err
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return out, err
	}
	top := newPart(types.OCIImageIndex, raw)
	out.Descriptor, out.manifests = top.Descriptor, append(out.manifests, top)
	return out, nil
}

// indexOf returns the members and the entries of the image's index. An image without an index
// gets one, with its annotations.
func indexOf(layout string, m *oci.Measured) (index map[string]json.RawMessage, entries []json.RawMessage, err error) {
	if m.Descriptor.MediaType.IsIndex() {
		if err := strict.Unmarshal(m.Raw, limits.Manifest, &index); err != nil {
			return nil, nil, err
		}
		index["mediaType"] = json.RawMessage(`"` + types.OCIImageIndex + `"`)
		return index, entries, strict.Unmarshal(index["manifests"], limits.Manifest, &entries)
	}
	var image v1.Manifest
	if err := strict.Unmarshal(m.Raw, limits.Manifest, &image); err != nil {
		return nil, nil, err
	}
	p := m.Platforms[0]
	entry, err := json.Marshal(v1.Descriptor{MediaType: p.Manifest.MediaType, Digest: p.Manifest.Digest, Size: p.Manifest.Size, Platform: &p.Platform})
	if err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}, Annotations: image.Annotations})
	if err != nil {
		return nil, nil, err
	}
	return index, []json.RawMessage{entry}, strict.Unmarshal(raw, limits.Manifest, &index)
}

// innerManifest returns the attestation manifest of the i-th platform, and its blobs.
func (j *run) innerManifest(b *built, i int, p oci.MeasuredPlatform) (part, []part, error) {
	spdx, err := j.readSBOM(fileInner(i), b.Inner[i])
	if err != nil {
		return part{}, nil, err
	}
	provenance, err := j.innerProvenance(b, b.Bases[p.Platform.String()])
	if err != nil {
		return part{}, nil, err
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	unknown := v1.Platform{OS: "unknown", Architecture: "unknown"}
	config := v1.ConfigFile{OS: unknown.OS, Architecture: unknown.Architecture, RootFS: v1.RootFS{Type: "layers"}}
	var blobs []part
	for _, s := range []statement{{predicateType: attest.PredicateSPDX, predicate: spdx}, {predicateType: attest.PredicateSLSA1, predicate: provenance}} {
		raw, err := attest.NewStatement(j.req.Image, p.Manifest.Digest.Hex, s.predicateType, s.predicate)
		if err != nil {
			return part{}, nil, err
		}
		layer := newPart(attest.PayloadType, raw)
		layer.Annotations = map[string]string{attest.InTotoPredicateType: s.predicateType}
		manifest.Layers = append(manifest.Layers, layer.Descriptor)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
		blobs = append(blobs, layer)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return part{}, nil, err
	}
	c := newPart(types.OCIConfigJSON, raw)
	manifest.Config = c.Descriptor
	if raw, err = json.Marshal(manifest); err != nil {
		return part{}, nil, err
	}
	out := newPart(types.OCIManifestSchema1, raw)
	out.Platform = &unknown
	out.Annotations = map[string]string{attest.DockerReferenceType: attest.DockerAttestation, attest.DockerReferenceDigest: p.Manifest.Digest.String()}
	return out, append(blobs, c), nil
}

// innerProvenance returns the part of the provenance that is the same whenever and wherever the
// image is built. It has no builder, times, downloads or parameters of the platform, and
// so the index has the same digest on each platform.
func (j *run) innerProvenance(b *built, from baseOf) (json.RawMessage, error) {
	ext, err := j.externalParameters()
	if err != nil {
		return nil, err
	}
	deps := j.sourceDependencies(nil)
	for _, d := range b.Dependencies {
		isBase := from.Digest != "" && "sha256:"+d.Digest["sha256"] == from.Digest
		if isBase || d.Digest["gitCommit"] != "" || j.recipe.Builder == attest.Golang {
			deps = append(deps, d)
		}
	}
	return json.Marshal(attest.Provenance{BuildDefinition: attest.BuildDefinition{BuildType: j.builder.BuildType, ExternalParameters: ext, ResolvedDependencies: deps}})
}

// sourceDependencies returns the entries of the source and its submodules in the provenance's
// resolvedDependencies. found are the annotations of the source.
func (j *run) sourceDependencies(found map[string]any) []attest.ResourceDescriptor {
	source := attest.ResourceDescriptor{
		Name: "source", URI: attest.GitURI(j.commit.URI, j.commit.Ref),
		Digest:      map[string]string{"gitCommit": j.commit.ID, "gitTree": j.commit.Tree},
		Annotations: found,
	}
	return append([]attest.ResourceDescriptor{source}, submoduleDependencies(j.commit)...)
}
