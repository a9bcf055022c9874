package oci

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Measured is what MeasureLayout computed from the bytes of an image, or MeasureFiles from
// those of release files.
type Measured struct {
	Descriptor v1.Descriptor // of the index or manifest, which is what gets signed
	Raw        []byte        // bytes of the index or manifest
	Platforms  []MeasuredPlatform
	Files      []File // from MeasureFiles; then there are no Platforms
}

// MeasuredPlatform is the image for one platform.
type MeasuredPlatform struct {
	Platform  v1.Platform   // from the configuration, with arm64 for arm64/v8; the index agrees
	Manifest  v1.Descriptor // equals Measured.Descriptor if there is no index
	Config    v1.Descriptor
	ConfigRaw []byte
	Layers    []MeasuredLayer // lowest first
}

// MeasuredLayer is one layer as stored and as unpacked.
type MeasuredLayer struct {
	Descriptor v1.Descriptor
	DiffID     v1.Hash // SHA-256 of the uncompressed tar
	Unpacked   int64   // bytes of the uncompressed tar
	Entries    int     // entries of the tar
}

// maxBlobs is the maximum number of blobs in a layout.
const maxBlobs = 1 << 16

// MeasureLayout hashes every byte of a layout from a stranger, and returns what it
// is. It refuses (ErrMismatch) a layout that is not exactly one image: unexpected
// files; blobs that are unreachable, missing or do not match digest, size or diff_id;
// unknown media types; duplicate JSON members; platforms that repeat or contradict
// the configuration; foreign layers; decompression bombs; tar entries that lead out
// of the layer. Nobody but the caller may be able to write the directory, or the
// result means nothing afterwards.
func MeasureLayout(dir string) (*Measured, error) {
	return measureWith(dir, defaultBomb)
}

func measureWith(dir string, bomb bombLimits) (*Measured, error) {
	return measureAs(dir, "image", bomb, (*measurer).image)
}

// measureAs takes an inventory of a layout that should hold what, and refuses blobs that
// measure does not use.
func measureAs(dir, what string, bomb bombLimits, measure func(*measurer) (*Measured, error)) (*Measured, error) {
	l, err := OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	m := measurer{layout: l, used: map[v1.Hash]v1.Descriptor{}, bomb: bomb}
	if err := m.inventory(); err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	out, err := measure(&m)
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	for h := range m.present {
		if _, ok := m.used[h]; !ok {
			return nil, fmt.Errorf("layout %s: %w", dir, refuse("blob %s is not part of the %s", h, what))
		}
	}
	return out, nil
}

type measurer struct {
	layout  *Layout
	present map[v1.Hash]bool          // blobs on disk
	used    map[v1.Hash]v1.Descriptor // blobs reached, with the descriptor that names them
	bomb    bombLimits
}

// inventory lists the blobs, and refuses any file that does not belong to a layout.
func (m *measurer) inventory() error {
	m.present = map[v1.Hash]bool{}
	return m.layout.files.walk(func(name string, dir bool) error {
		blob, err := layoutFile(name, dir)
		if err != nil || blob == (v1.Hash{}) {
			return err
		}
		if blob.Algorithm != "sha256" {
			return refuse("unexpected file %q", name)
		}
		if m.present[blob] = true; len(m.present) > maxBlobs {
			return refuse("more than %d blobs", maxBlobs)
		}
		return nil
	})
}

// use records that d is part of the image. It refuses a blob that is used twice with
// different descriptors.
func (m *measurer) use(d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" {
		return refuse("digest %s: want sha256", d.Digest)
	}
	if len(d.URLs) > 0 || len(d.Data) > 0 {
		return refuse("descriptor of %s: got urls or data, want neither", d.Digest)
	}
	if !m.present[d.Digest] {
		return refuse("blob %s is missing", d.Digest)
	}
	if before, ok := m.used[d.Digest]; ok && (before.Size != d.Size || before.MediaType != d.MediaType) {
		return refuse("%s is used as %s of %d bytes and as %s of %d", d.Digest, before.MediaType, before.Size, d.MediaType, d.Size)
	}
	m.used[d.Digest] = d
	return nil
}

func (m *measurer) document(d v1.Descriptor) (*content, []byte, error) {
	if err := m.use(d); err != nil {
		return nil, nil, err
	}
	if !d.MediaType.IsIndex() && !d.MediaType.IsImage() {
		return nil, nil, refuse("media type of %s: got %q, want that of an image manifest or index", d.Digest, d.MediaType)
	}
	raw, err := readBlob(context.Background(), m.layout, d, limits.Manifest)
	if err != nil {
		return nil, nil, err
	}
	c, err := parseContent(raw, d.MediaType)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if c.Subject != nil || c.ArtifactType != "" {
		return nil, nil, refuse("%s is an artifact, want an image", d.Digest)
	}
	return c, raw, nil
}

// sole returns the only entry of the layout's index.json.
func (m *measurer) sole() (v1.Descriptor, error) {
	index, err := m.layout.entries()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if len(index.Manifests) != 1 {
		return v1.Descriptor{}, refuse("index.json: got %d entries, want 1", len(index.Manifests))
	}
	return index.Manifests[0], nil
}

func (m *measurer) image() (*Measured, error) {
	top, err := m.sole()
	if err != nil {
		return nil, err
	}
	c, raw, err := m.document(top)
	if err != nil {
		return nil, err
	}
	out := &Measured{Raw: raw, Descriptor: v1.Descriptor{MediaType: top.MediaType, Digest: digestOf(raw), Size: int64(len(raw))}}
	if !top.MediaType.IsIndex() {
		image, err := m.configured(top, c)
		if err != nil {
			return nil, err
		}
		out.Platforms = []MeasuredPlatform{*image}
	} else if out.Platforms, err = m.platforms(c); err != nil {
		return nil, err
	}
	return out, m.layers(out)
}

func (m *measurer) platforms(index *content) ([]MeasuredPlatform, error) {
	if len(index.Manifests) == 0 {
		return nil, refuse("index has no manifests")
	}
	var images []MeasuredPlatform
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		if d.MediaType.IsIndex() {
			return nil, refuse("index %s is nested in an index", d.Digest)
		}
		if d.Platform == nil {
			return nil, refuse("manifest %s has no platform in the index", d.Digest)
		}
		c, _, err := m.document(d)
		if err != nil {
			return nil, err
		}
		image, err := m.configured(d, c)
		if err != nil {
			return nil, err
		}
		want, got := platformName(*d.Platform), platformName(image.Platform)
		if want != got {
			return nil, refuse("platform of manifest %s: the configuration says %s, the index %s", d.Digest, got, want)
		}
		if seen[got] {
			return nil, refuse("platform %s is in the index twice", got)
		}
		seen[got] = true
		images = append(images, *image)
	}
	return images, nil
}

// normalPlatform removes the variant v8 of arm64. It is the only variant, and often
// left out.
func normalPlatform(p v1.Platform) v1.Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p
}

// platformName returns a name that each platform of an image must have alone.
func platformName(p v1.Platform) string {
	p = normalPlatform(p)
	features := slices.Sorted(slices.Values(p.OSFeatures))
	s := p.OS + "/" + p.Architecture
	for _, part := range append([]string{p.Variant, p.OSVersion}, features...) {
		if part != "" {
			s += "/" + part
		}
	}
	return s
}

// configFile is the part of an image configuration that must agree with the
// rest of the image (image-spec config.md).
type configFile struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Variant      string   `json:"variant"`
	OSVersion    string   `json:"os.version"`
	OSFeatures   []string `json:"os.features"`
	RootFS       struct {
		Type    string    `json:"type"`
		DiffIDs []v1.Hash `json:"diff_ids"`
	} `json:"rootfs"`
}

// configured reads the configuration of a manifest. It stores the diff_ids in the
// result, where layers compares them.
func (m *measurer) configured(d v1.Descriptor, c *content) (*MeasuredPlatform, error) {
	if !c.Config.MediaType.IsConfig() {
		return nil, refuse("media type of the configuration of %s: got %q, want that of an image configuration", d.Digest, c.Config.MediaType)
	}
	if err := m.use(*c.Config); err != nil {
		return nil, err
	}
	raw, err := readBlob(context.Background(), m.layout, *c.Config, limits.Config)
	if err != nil {
		return nil, err
	}
	var cf configFile
	if err := strict.Unmarshal(raw, limits.Config, &cf); err != nil {
		return nil, refuse("configuration %s: %w", c.Config.Digest, err)
	}
	if cf.OS == "" || cf.Architecture == "" || strings.ContainsAny(cf.OS+cf.Architecture+cf.Variant, "/ ") {
		return nil, refuse("platform in configuration %s: got %q", c.Config.Digest, cf.OS+"/"+cf.Architecture)
	}
	if cf.RootFS.Type != "layers" || len(cf.RootFS.DiffIDs) != len(c.Layers) {
		return nil, refuse("configuration %s: rootfs of type %q with %d diff_ids, the manifest has %d layers",
			c.Config.Digest, cf.RootFS.Type, len(cf.RootFS.DiffIDs), len(c.Layers))
	}
	image := &MeasuredPlatform{
		Platform:  normalPlatform(v1.Platform{Architecture: cf.Architecture, OS: cf.OS, Variant: cf.Variant, OSVersion: cf.OSVersion, OSFeatures: cf.OSFeatures}),
		Manifest:  v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size},
		Config:    *c.Config,
		ConfigRaw: raw,
	}
	for i, layer := range c.Layers {
		if err := m.use(layer); err != nil {
			return nil, err
		}
		image.Layers = append(image.Layers, MeasuredLayer{Descriptor: layer, DiffID: cf.RootFS.DiffIDs[i]})
	}
	return image, nil
}

// layers unpacks each layer once, several at a time, and compares the diff_ids.
func (m *measurer) layers(out *Measured) error {
	measured := map[v1.Hash]*MeasuredLayer{}
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(runtime.GOMAXPROCS(0))
	budget := newBudget(m.bomb.total)
	for _, image := range out.Platforms {
		for _, layer := range image.Layers {
			d := layer.Descriptor
			if measured[d.Digest] != nil {
				continue
			}
			slot := &MeasuredLayer{Descriptor: d}
			measured[d.Digest] = slot
			group.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := measureLayer(m.layout, slot, m.bomb, budget); err != nil {
					return fmt.Errorf("layer %s: %w", d.Digest, err)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var wrong []error
	for i := range out.Platforms {
		for j := range out.Platforms[i].Layers {
			layer := &out.Platforms[i].Layers[j]
			got := measured[layer.Descriptor.Digest]
			if got.DiffID != layer.DiffID {
				wrong = append(wrong, refuse("layer %s unpacks to %s, configuration %s says %s",
					layer.Descriptor.Digest, got.DiffID, out.Platforms[i].Config.Digest, layer.DiffID))
			}
			layer.Unpacked, layer.Entries = got.Unpacked, got.Entries
		}
	}
	return errors.Join(wrong...)
}

// packing returns how a layer of a media type is compressed: "gzip", "zstd" or "".
func packing(mediaType types.MediaType) (string, error) {
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		return "gzip", nil
	case types.OCILayerZStd:
		return "zstd", nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return "", nil
	}
	return "", refuse("media type: got %q, want that of a layer", mediaType)
}
