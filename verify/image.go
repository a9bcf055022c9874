package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// image reads every byte of image d that is asked for: the index, its manifests, their
// configurations and layers. The source compares each with its digest. Of a layout, other
// tools must take the same image for the reference.
func (c *check) image(ctx context.Context, reference string, d v1.Descriptor) (Link, reading) {
	link := Link{Name: LinkImage}
	if c.opts.Pinned {
		return pinned(ctx, c.src, d.Digest)
	}
	r, err := readImage(ctx, c.src, d.Digest, c.opts)
	if layout, ok := c.src.(*oci.Layout); ok && err == nil {
		err = layout.CheckSole(ctx, reference, d)
	}
	if err != nil {
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	link.Status = Holds
	link.Claim = fmt.Sprintf("%s; %s these bytes", strings.Join(r.platforms, ", "), c.serves())
	if len(r.missing) > 0 {
		link.Claim += "; not there: " + strings.Join(r.missing, ", ")
	}
	return link, r
}

// reading says what of an image was read.
type reading struct {
	platforms []string // "linux/amd64"
	missing   []string // platforms that the index names, and that the source does not have
	others    bool     // the index has platforms that nobody asked for

	annotations map[string]string // of the index or manifest itself
	inside      []string          // digests of the manifests in the index that were asked for
}

// part reports whether the image has more than what was read.
func (r reading) part() bool { return r.others || len(r.missing) > 0 }

// pinned reads an image as far as its digest alone says what it is: the manifest or index itself.
func pinned(ctx context.Context, src oci.Source, digest v1.Hash) (Link, reading) {
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		err = fmt.Errorf("manifest %s: %w", digest, err)
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	var platforms []string
	var entries []v1.Descriptor
	if types.MediaType(mediaType).IsIndex() {
		entries, _, err = selected(digest, raw, nil)
		for _, d := range entries {
			platforms = append(platforms, entryName(d))
		}
	} else {
		platforms = []string{"one manifest"}
		_, err = parseImage(digest, raw, mediaType)
	}
	if err != nil {
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	claim := strings.Join(platforms, ", ") + "; the digest pins these bytes, which were not read"
	return Link{Name: LinkImage, Status: Holds, Claim: claim}, reading{platforms: platforms, annotations: annotationsOf(raw), inside: digestsOf(entries)}
}

func (c *check) serves() string {
	if c.opts.Layout {
		return "the layout holds"
	}
	return "the registry serves"
}

// statusOf returns the status of a link whose evidence gave err: broken if the
// content is wrong, absent if it is missing, unknown if the source did not answer.
func statusOf(err error) Status {
	switch {
	case errors.Is(err, oci.ErrMismatch), errors.Is(err, errImage), errors.Is(err, errPlatform):
		return Broken
	case errors.Is(err, oci.ErrNotFound):
		return Absent
	}
	return Unknown
}

// errImage means that the image's own documents are malformed or contradict each other.
var errImage = errors.New("malformed image")

// errPlatform means that the image is not for the platform that was asked for.
var errPlatform = errors.New("platform")

// reader reads what one image consists of, each blob once.
type reader struct {
	src   oci.Source
	group *errgroup.Group
	ctx   context.Context
	mu    sync.Mutex
	seen  map[string]bool // by digest and size, so that a descriptor with a wrong size is read, too
}

// readImage reads the platforms of the image that opts ask for. A platform of an index
// whose manifest the source does not have is missing, unless opts want the whole image:
// the digest of the index still pins its bytes, wherever they come from. A manifest that
// is there must be complete.
func readImage(ctx context.Context, src oci.Source, digest v1.Hash, opts Options) (got reading, err error) {
	r := &reader{src: src, seen: make(map[string]bool)}
	r.group, r.ctx = errgroup.WithContext(ctx)
	r.group.SetLimit(parallel)
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		return got, fmt.Errorf("manifest %s: %w", digest, err)
	}
	defer func() { got.annotations = annotationsOf(raw) }()
	if !types.MediaType(mediaType).IsIndex() {
		platform, err := r.manifest(digest, raw, mediaType, nil)
		if want := opts.Platform; err == nil && want != nil && platform != platformName(want) {
			err = fmt.Errorf("%w: the image is for %s, want %s", errPlatform, platform, platformName(want))
		}
		return reading{platforms: []string{platform}}, errors.Join(err, r.group.Wait())
	}
	entries, others, err := selected(digest, raw, opts.Platform)
	if err != nil {
		return got, err
	}
	// Manifests have their own group: they start layers in r.group, which may be full.
	var manifests errgroup.Group
	manifests.SetLimit(parallel)
	platforms, missing := make([]string, len(entries)), make([]bool, len(entries))
	for i, d := range entries {
		manifests.Go(func() error {
			raw, mediaType, err := src.Manifest(r.ctx, d.Digest)
			if missing[i] = errors.Is(err, oci.ErrNotFound) && !opts.Whole; missing[i] {
				platforms[i] = entryName(d)
				return nil
			}
			if err != nil {
				return fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			platforms[i], err = r.manifest(d.Digest, raw, mediaType, d.Platform)
			return err
		})
	}
	if err := errors.Join(manifests.Wait(), r.group.Wait()); err != nil {
		return got, err
	}
	got, err = whatIsThere(platforms, missing, others)
	got.inside = digestsOf(entries)
	return got, err
}

func digestsOf(entries []v1.Descriptor) (digests []string) {
	for _, d := range entries {
		digests = append(digests, d.Digest.String())
	}
	return digests
}

// annotationsOf returns the annotations of a manifest or index, which the caller has parsed.
func annotationsOf(raw []byte) map[string]string {
	var doc struct {
		Annotations map[string]string `json:"annotations"`
	}
	if strict.Unmarshal(raw, limits.Manifest, &doc) != nil {
		return nil
	}
	return doc.Annotations
}

// whatIsThere fails if no platform is there that can be run.
func whatIsThere(platforms []string, missing []bool, others bool) (reading, error) {
	got := reading{others: others}
	runnable := false
	for i, p := range platforms {
		if missing[i] {
			got.missing = append(got.missing, p)
			continue
		}
		got.platforms = append(got.platforms, p)
		runnable = runnable || p != attachmentPlatform
	}
	if !runnable && len(got.missing) > 0 {
		return reading{}, fmt.Errorf("%s: %w", strings.Join(got.missing, ", "), oci.ErrNotFound)
	}
	return got, nil
}

// selected returns the entries of an index that are for the platform want, or all if
// want is nil. An entry without a platform may be for any. others reports whether the
// index has more entries.
func selected(digest v1.Hash, raw []byte, want *v1.Platform) (entries []v1.Descriptor, others bool, err error) {
	var index v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return nil, false, fmt.Errorf("%w: index %s: %w", errImage, digest, err)
	}
	if n := len(index.Manifests); n == 0 || n > limits.IndexManifests {
		return nil, false, fmt.Errorf("%w: index of %d manifests, want 1 to %d", errImage, n, limits.IndexManifests)
	}
	if want == nil {
		return index.Manifests, false, nil
	}
	var has []string
	for _, d := range index.Manifests {
		has = append(has, entryName(d))
		if d.Platform == nil || satisfies(d.Platform, want) {
			entries = append(entries, d)
		}
	}
	if len(entries) == 0 {
		return nil, false, fmt.Errorf("%w: the index has %s, want %s", errPlatform, strings.Join(has, ", "), want)
	}
	return entries, len(entries) < len(has), nil
}

// satisfies reports whether an entry for the platform p is for the platform want. A want
// without a variant stands for all of them. An entry without one means what containerd
// takes it for: arm/v7, arm64/v8.
func satisfies(p, want *v1.Platform) bool {
	byDefault := map[string]string{"arm": "v7", "arm64": "v8"}[p.Architecture]
	return platformName(p) == platformName(want) && (want.Variant == "" || cmp.Or(p.Variant, byDefault) == want.Variant)
}

// attachmentPlatform is the name for people of the platform unknown/unknown, which
// BuildKit's attestation manifests have.
const attachmentPlatform = "attachment"

// platformName returns OS and architecture, as configurations name them.
func platformName(p *v1.Platform) string {
	if name := p.OS + "/" + p.Architecture; name != "unknown/unknown" {
		return name
	}
	return attachmentPlatform
}

// entryName returns the name for people of an entry of an index.
func entryName(d v1.Descriptor) string {
	if d.Platform == nil {
		return d.Digest.String()
	}
	return platformName(d.Platform)
}

// manifest reads the configuration, and starts to read the layers. want is the
// platform that the index gives the manifest, or nil.
func (r *reader) manifest(digest v1.Hash, raw []byte, mediaType string, want *v1.Platform) (string, error) {
	m, err := parseImage(digest, raw, mediaType)
	if err != nil {
		return "", err
	}
	for _, l := range m.Layers {
		if r.first(l) {
			r.group.Go(func() error { return r.layer(l) })
		}
	}
	if want == nil && !m.Config.MediaType.IsConfig() {
		return r.artifact(m)
	}
	return r.config(m.Config, want)
}

// parseImage returns the manifest of an image.
func parseImage(digest v1.Hash, raw []byte, mediaType string) (m v1.Manifest, err error) {
	if !types.MediaType(mediaType).IsImage() {
		return m, fmt.Errorf("%w: manifest %s: media type: got %q, want that of an image manifest", errImage, digest, mediaType)
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return m, fmt.Errorf("%w: manifest %s: %w", errImage, digest, err)
	}
	if n := len(m.Layers); n > limits.Layers {
		return m, fmt.Errorf("%w: manifest %s: got %d layers, want at most %d", errImage, digest, n, limits.Layers)
	}
	for _, l := range m.Layers {
		if l.Size < 0 || l.Size > limits.LayerPacked {
			return m, fmt.Errorf("%w: size of layer %s: got %d bytes, want at most %d", errImage, l.Digest, l.Size, limits.LayerPacked)
		}
	}
	return m, nil
}

// artifact reads the configuration of what is no image, such as a Helm chart, and
// returns its type. The configuration may be anything. A tool could still run the
// artifact as an image; the platform in an index is always compared.
func (r *reader) artifact(m v1.Manifest) (string, error) {
	if m.Config.Size < 0 || m.Config.Size > limits.Config {
		return "", fmt.Errorf("%w: size of configuration %s: got %d bytes, want at most %d", errImage, m.Config.Digest, m.Config.Size, limits.Config)
	}
	if err := readThrough(r.ctx, r.src, m.Config); err != nil {
		return "", fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	return "artifact of type " + cmp.Or(m.ArtifactType, string(m.Config.MediaType)), nil
}

// first reports whether d was not seen before.
func (r *reader) first(d v1.Descriptor) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprint(d.Digest, d.Size)
	seen := r.seen[key]
	r.seen[key] = true
	return !seen
}

func (r *reader) layer(d v1.Descriptor) error {
	if err := readThrough(r.ctx, r.src, d); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return nil
}

// readThrough reads a blob to its end and checks its size. The source compares
// the content with the digest.
func readThrough(ctx context.Context, src oci.Source, d v1.Descriptor) error {
	blob, err := src.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(blob, d.Size+1))
	if err == nil && n != d.Size {
		err = fmt.Errorf("%w: got %d bytes, want %d", oci.ErrMismatch, n, d.Size)
	}
	return err
}

// config reads the configuration and returns its platform, which must be the one
// that the index gives, if want is not nil.
func (r *reader) config(d v1.Descriptor, want *v1.Platform) (string, error) {
	if d.Size < 0 || d.Size > limits.Config {
		return "", fmt.Errorf("%w: size of configuration %s: got %d bytes, want at most %d", errImage, d.Digest, d.Size, limits.Config)
	}
	blob, err := r.src.Blob(r.ctx, d)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	defer blob.Close()
	raw, err := strict.Read(blob, limits.Config)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	var c struct {
		OS   string `json:"os"`
		Arch string `json:"architecture"`
	}
	if err := strict.Unmarshal(raw, limits.Config, &c); err != nil {
		return "", fmt.Errorf("%w: configuration %s: %w", errImage, d.Digest, err)
	}
	got := c.OS + "/" + c.Arch
	switch {
	case want == nil && c.OS+c.Arch == "":
		return "no platform", nil
	case want == nil:
		return got, nil
	}
	named := platformName(want)
	if named == attachmentPlatform {
		return named, nil
	}
	if named != got {
		return "", fmt.Errorf("%w: platform of configuration %s: got %q, want %q", errImage, d.Digest, got, named)
	}
	return got, nil
}
