package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Measured is what MeasureLayout computed from bytes. Nothing in it was taken
// on anybody's word.
type Measured struct {
	Descriptor v1.Descriptor // of the index or manifest: what gets signed
	Raw        []byte        // its bytes
	Platforms  []MeasuredPlatform
}

// MeasuredPlatform is the image of one platform, in the index's order.
type MeasuredPlatform struct {
	Platform  v1.Platform   // from the configuration, arm64 without v8; the index agrees
	Manifest  v1.Descriptor // equals Measured.Descriptor where there is no index
	Config    v1.Descriptor
	ConfigRaw []byte
	Layers    []MeasuredLayer // lowest first
}

// MeasuredLayer is one layer as stored and as unpacked.
type MeasuredLayer struct {
	Descriptor v1.Descriptor
	DiffID     v1.Hash // sha256 of the tar
	Unpacked   int64   // bytes of the tar
	Entries    int     // in the tar
}

// maxBlobs is what a layout may hold at all.
const maxBlobs = 1 << 16

// MeasureLayout re-hashes every byte of a layout that somebody handed in, and
// refuses (ErrMismatch) whatever is not exactly one image and nothing else:
// files that do not belong there, blobs that are unreachable, missing or not
// what their digest, size or diff_id says, unknown media types, duplicate
// members, platforms that repeat or disagree with the configuration, foreign
// layers, decompression bombs, tar names that climb out. The directory must
// belong to the caller by then: whoever can still write it can change it after.
func MeasureLayout(dir string) (*Measured, error) {
	return measureWith(dir, defaultBomb)
}

func measureWith(dir string, bomb bombLimits) (*Measured, error) {
	l, err := OpenLayout(dir)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	m := measurer{layout: l, used: map[v1.Hash]v1.Descriptor{}, bomb: bomb}
	if err := m.inventory(); err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	out, err := m.image()
	if err != nil {
		return nil, fmt.Errorf("layout %s: %w", dir, err)
	}
	for h := range m.present {
		if _, ok := m.used[h]; !ok {
			return nil, fmt.Errorf("layout %s: %w", dir, refuse("blob %s is no part of the image", h))
		}
	}
	return out, nil
}

type measurer struct {
	layout  *Layout
	present map[v1.Hash]bool          // blobs on disk
	used    map[v1.Hash]v1.Descriptor // blobs reached, as what
	bomb    bombLimits
}

// inventory lists the blobs, and refuses any file that is not of a layout. An
// empty "ingest" directory is what containerd's content store leaves behind.
func (m *measurer) inventory() error {
	m.present = map[v1.Hash]bool{}
	return fs.WalkDir(m.layout.files.(dirFiles).root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch p {
		case ".", "blobs", "blobs/sha256", "ingest":
			if !e.IsDir() {
				return refuse("%s is not a directory", p)
			}
			return nil
		case "oci-layout", "index.json":
		default:
			h, err := v1.NewHash("sha256:" + path.Base(p))
			if err != nil || path.Dir(p) != "blobs/sha256" {
				return refuse("unexpected file %q", p)
			}
			if m.present[h] = true; len(m.present) > maxBlobs {
				return refuse("more than %d blobs", maxBlobs)
			}
		}
		if !e.Type().IsRegular() {
			return refuse("%s is not a regular file", p)
		}
		return nil
	})
}

// use notes that d is part of the image. One blob is one thing: a second use
// as something else is refused.
func (m *measurer) use(d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" {
		return refuse("digest %s: want sha256", d.Digest)
	}
	if len(d.URLs) > 0 || len(d.Data) > 0 {
		return refuse("%s is said to be elsewhere too (urls or data)", d.Digest)
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
		return nil, nil, refuse("%s: media type %q is not known", d.Digest, d.MediaType)
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
		return nil, nil, refuse("%s is an artifact about something, want an image", d.Digest)
	}
	return c, raw, nil
}

func (m *measurer) image() (*Measured, error) {
	index, err := m.layout.entries()
	if err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, refuse("index.json: got %d entries, want 1", len(index.Manifests))
	}
	top := index.Manifests[0]
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

// normalPlatform leaves out v8, which is arm64's only variant and is named as
// often as not.
func normalPlatform(p v1.Platform) v1.Platform {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		p.Variant = ""
	}
	return p
}

// platformName is what two platforms of an image must not share.
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

// configured reads the configuration of a manifest. Its diff_ids are kept in
// the layers, for layers to compare.
func (m *measurer) configured(d v1.Descriptor, c *content) (*MeasuredPlatform, error) {
	if !c.Config.MediaType.IsConfig() {
		return nil, refuse("configuration of %s: media type %q is not known", d.Digest, c.Config.MediaType)
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
		return nil, refuse("configuration %s names platform %q", c.Config.Digest, cf.OS+"/"+cf.Architecture)
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

// layers unpacks each layer once, side by side, and compares the diff_ids.
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

// packing says how a layer's media type is compressed.
func packing(mediaType types.MediaType) (string, error) {
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		return "gzip", nil
	case types.OCILayerZStd:
		return "zstd", nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return "", nil
	}
	return "", refuse("media type %q is not known", mediaType)
}
