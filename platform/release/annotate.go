package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release/base"
)

// baseOf is the base image of one platform's image; the zero value means that it has none,
// or that it is not certain which one it is.
type baseOf struct {
	Name, Digest string
}

// annotate writes what the trusted side knows into the manifests of a measured layout, as
// annotations of the OCI image specification, and replaces what the builder wrote there
// under these names. All of it follows from the source, the ref, the commit and the base
// images, so another release of them has the same digest. Configurations and layers stay.
func (j *run) annotate(a *attempt, m *oci.Measured) error {
	a.Config["image.built"] = m.Descriptor.Digest.String()
	j.reportLabels(m)
	all := a.Bases[m.Platforms[0].Platform.String()]
	for i := range m.Platforms {
		p := &m.Platforms[i]
		base := a.Bases[p.Platform.String()]
		if base != all {
			all = baseOf{}
		}
		if p.Manifest.Digest == m.Descriptor.Digest { // there is no index
			break
		}
		raw, err := strict.ReadFile(blobFile(a.Layout, p.Manifest.Digest), limits.Manifest)
		if err != nil {
			return err
		}
		if got := hexSum(raw); got != p.Manifest.Digest.Hex {
			return fmt.Errorf("manifest: got sha256 %s, want %s", got, p.Manifest.Digest.Hex)
		}
		if p.Manifest, _, err = rewrite(a.Layout, p.Manifest, raw, j.annotations(base), nil); err != nil {
			return err
		}
	}
	var manifests []v1.Descriptor
	if m.Descriptor.MediaType.IsIndex() {
		for _, p := range m.Platforms {
			manifests = append(manifests, p.Manifest)
		}
	}
	top, raw, err := rewrite(a.Layout, m.Descriptor, m.Raw, j.annotations(all), manifests)
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top}})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(a.Layout, "index.json"), index, 0o644); err != nil {
		return err
	}
	m.Descriptor, m.Raw = top, raw
	if m.Platforms[0].Manifest.Digest.String() == a.Config["image.built"] {
		m.Platforms[0].Manifest = top
	}
	j.emit(api.Event{Phase: "measure", Line: top.Digest.String() + " with its annotations"})
	return nil
}

// annotations returns what a manifest says of its image. An empty text removes what the
// builder wrote.
func (j *run) annotations(b baseOf) map[string]string {
	version, isTag := strings.CutPrefix(j.commit.Ref, "refs/tags/")
	if !isTag {
		version = ""
	}
	return map[string]string{
		ocispecs.AnnotationSource: j.commit.URI, ocispecs.AnnotationRevision: j.commit.ID, ocispecs.AnnotationVersion: version,
		ocispecs.AnnotationCreated: j.commit.Time.UTC().Format(time.RFC3339), ocispecs.AnnotationBaseImageName: b.Name, ocispecs.AnnotationBaseImageDigest: b.Digest,
	}
}

// rewrite sets the annotations of a manifest or index in a layout and, of an index, the
// descriptors of its manifests, in their order. It replaces the old blob.
func rewrite(layout string, d v1.Descriptor, raw []byte, annotations map[string]string, manifests []v1.Descriptor) (v1.Descriptor, []byte, error) {
	var doc map[string]json.RawMessage
	if err := strict.Unmarshal(raw, limits.Manifest, &doc); err != nil {
		return d, nil, err
	}
	err := setAnnotations(doc, annotations)
	if manifests != nil {
		err = errors.Join(err, setManifests(doc, manifests, annotations))
	}
	if err != nil {
		return d, nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if raw, err = json.Marshal(doc); err != nil {
		return d, nil, err
	}
	if len(raw) > limits.Manifest {
		return d, nil, &api.Error{Message: fmt.Sprintf("refusing to sign: %s: got %d bytes with its annotations, want at most %d", d.Digest, len(raw), limits.Manifest)}
	}
	old := blobFile(layout, d.Digest)
	d.Digest, d.Size = v1.Hash{Algorithm: "sha256", Hex: hexSum(raw)}, int64(len(raw))
	return d, raw, errors.Join(os.Remove(old), durable.WriteFile(blobFile(layout, d.Digest), raw, 0o644))
}

// setAnnotations sets annotations of a document, and removes those with an empty text.
func setAnnotations(doc map[string]json.RawMessage, annotations map[string]string) error {
	merged := map[string]string{}
	if old, ok := doc["annotations"]; ok {
		if err := strict.Unmarshal(old, limits.Manifest, &merged); err != nil {
			return fmt.Errorf("annotations: %w", err)
		}
	}
	if merged == nil { // null
		merged = map[string]string{}
	}
	for name, text := range annotations {
		if merged[name] = text; text == "" {
			delete(merged, name)
		}
	}
	delete(doc, "annotations")
	if len(merged) == 0 {
		return nil
	}
	raw, err := json.Marshal(merged)
	doc["annotations"] = raw
	return err
}

// setManifests sets digests and sizes in an index. The annotations that its manifests have
// are not repeated there: whatever the builder wrote is removed.
func setManifests(doc map[string]json.RawMessage, manifests []v1.Descriptor, annotations map[string]string) error {
	var entries []map[string]json.RawMessage
	if err := strict.Unmarshal(doc["manifests"], limits.Manifest, &entries); err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	if len(entries) != len(manifests) {
		return fmt.Errorf("manifests: got %d, want the %d that were measured", len(entries), len(manifests))
	}
	none := map[string]string{}
	for name := range annotations {
		none[name] = ""
	}
	for i, e := range entries {
		if err := setAnnotations(e, none); err != nil {
			return err
		}
		for name, value := range map[string]any{"digest": manifests[i].Digest, "size": manifests[i].Size} {
			raw, err := json.Marshal(value)
			if err != nil {
				return err
			}
			e[name] = raw
		}
	}
	raw, err := json.Marshal(entries)
	doc["manifests"] = raw
	return err
}

func blobFile(layout string, h v1.Hash) string {
	return filepath.Join(layout, "blobs", h.Algorithm, h.Hex)
}

// reportLabels names the labels that say something else than the annotations of the same
// name. Labels are the Dockerfile's, or its base image's: they are not refused, because base
// images have them too, and prove nothing.
func (j *run) reportLabels(m *oci.Measured) {
	said := map[string]bool{}
	for _, p := range m.Platforms {
		var c struct {
			Config struct{ Labels map[string]string }
		}
		if err := json.Unmarshal(p.ConfigRaw, &c); err != nil {
			continue // labels of a form that no tool reads
		}
		known := j.annotations(baseOf{})
		for _, name := range []string{ocispecs.AnnotationSource, ocispecs.AnnotationRevision, ocispecs.AnnotationVersion} {
			if label, ok := c.Config.Labels[name]; ok && label != known[name] {
				said[fmt.Sprintf("the image's label %s is %.200q; the annotation says %q, and tools that read labels see the label", name, label, known[name])] = true
			}
		}
	}
	for _, line := range slices.Sorted(maps.Keys(said)) {
		j.emit(api.Event{Phase: "measure", Line: line})
	}
}

// basedOn returns the base image with the given diff IDs. If several images have them, or
// none, it is not certain which one is the base.
func basedOn(images []*base.Image, lowest []v1.Hash) (b baseOf) {
	for _, i := range images {
		if len(lowest) == 0 || !slices.Equal(i.DiffIDs, lowest) {
			continue
		}
		this := baseOf{i.String(), i.Top.String()}
		if b != (baseOf{}) && b != this {
			return baseOf{}
		}
		b = this
	}
	return b
}
