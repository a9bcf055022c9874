package base

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// Resolver resolves images from the mirror and the registries. It is safe for
// concurrent use.
type Resolver struct {
	// Mirror is asked before the registry, as in a room: for tags by full name
	// (docker.io/library/golang:1.26), and for digests. It may be nil.
	Mirror *oci.Layout
	// Registry opens the repository HOST/NAME.
	Registry func(repository string) (oci.Source, error)
	// Seen returns the digest that the build's gateway saw in the answer for a tag or
	// digest, or an error if it saw none. The Resolver then contacts no registry,
	// because the Dockerfile could name any host. Seen may be nil.
	Seen func(domain, name, reference string) (v1.Hash, error)
	// Pinned means that the build used a lock: a tag resolves to the digest from Seen,
	// even if the tag has moved. Otherwise the mirror or registry must still give the
	// digest from Seen.
	Pinned bool
}

// Image resolves one request and reads the image's documents by digest.
func (r *Resolver) Image(ctx context.Context, q Request) (*Image, error) {
	i := &Image{Domain: reference.Domain(q.Reference), Name: reference.Path(q.Reference), Platform: platforms.Format(q.Platform)}
	var err error
	if i.Tag, i.Top, err = q.identifier(); err != nil {
		return nil, err
	}
	src, err := r.find(ctx, q, i)
	if err != nil {
		return nil, err
	}
	i.Manifest, i.Content = i.Top, map[v1.Hash]bool{i.Top: true}
	if i.Dependency, err = q.dependency(i.Top); err != nil {
		return nil, err
	}
	if err := i.read(ctx, src, q.Platform); err != nil {
		return nil, fmt.Errorf("base image %s: %w", i, err)
	}
	return i, nil
}

// find sets i.Top to the digest that the image's reference resolves to, and returns the
// source of its documents.
func (r *Resolver) find(ctx context.Context, q Request, i *Image) (oci.Source, error) {
	var seen v1.Hash
	if r.Seen != nil {
		name := i.Tag
		if name == "" {
			name = i.Top.String()
		}
		var err error
		if seen, err = r.Seen(i.Domain, i.Name, name); err != nil {
			return nil, err
		}
		if i.Tag == "" && seen != i.Top {
			return nil, &MismatchError{"base image " + q.Reference.String(), i.Top.String() + " in the Dockerfile", seen.String() + " seen by the build's gateway"}
		}
	}
	if i.Tag != "" && r.Pinned {
		i.Top = seen
	}
	byDigest := i.Top != v1.Hash{}
	src, err := r.source(ctx, q.Reference, i.Top)
	if err != nil || byDigest {
		return src, err
	}
	wanted := i.Tag
	if r.Mirror != nil && src == oci.Source(r.Mirror) {
		wanted = q.Reference.String()
	}
	d, err := src.Resolve(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", q.Reference, err)
	}
	if r.Seen != nil && d.Digest != seen {
		return nil, &MismatchError{"base image " + q.Reference.String(), seen.String() + " seen by the build's gateway", d.Digest.String() + " in its registry now"}
	}
	i.Top = d.Digest
	return src, nil
}

// source returns the mirror if it has the image, else the registry. If digest is zero,
// the mirror is asked for the reference's tag.
func (r *Resolver) source(ctx context.Context, ref reference.Named, digest v1.Hash) (oci.Source, error) {
	if r.Mirror != nil {
		wanted := ref.String()
		if digest != (v1.Hash{}) {
			wanted = digest.String()
		}
		_, err := r.Mirror.Resolve(ctx, wanted)
		if err == nil {
			return r.Mirror, nil
		}
		if !errors.Is(err, oci.ErrNotFound) {
			return nil, fmt.Errorf("base image %s: %w", ref, err)
		}
	}
	src, err := r.Registry(registryHost(reference.Domain(ref)) + "/" + reference.Path(ref))
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", ref, err)
	}
	return src, nil
}

// MismatchError means that two sources differ about an image's digest. What names the
// image; One and Other are the digests with their sources.
type MismatchError struct{ What, One, Other string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: digests differ: %s and %s", e.What, e.One, e.Other)
}

// read fills in the fields that come from the image's documents.
func (i *Image) read(ctx context.Context, src oci.Source, p ocispecs.Platform) error {
	raw, mediaType, err := src.Manifest(ctx, i.Top)
	if err != nil {
		return err
	}
	if types.MediaType(mediaType).IsIndex() {
		var index v1.IndexManifest
		if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
			return err
		}
		if i.Manifest, err = choose(index.Manifests, p); err != nil {
			return err
		}
		i.Content[i.Manifest] = true
		if raw, mediaType, err = src.Manifest(ctx, i.Manifest); err != nil {
			return err
		}
	}
	if !types.MediaType(mediaType).IsImage() {
		return fmt.Errorf("%s: media type: got %q, want an image", i.Manifest, mediaType)
	}
	var m v1.Manifest
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return err
	}
	if m.Config.Size > limits.Config {
		return fmt.Errorf("configuration %s: got %d bytes, want at most %d", m.Config.Digest, m.Config.Size, limits.Config)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		i.Content[d.Digest] = true
	}
	rc, err := src.Blob(ctx, m.Config)
	if err != nil {
		return err
	}
	defer rc.Close()
	if i.config, err = strict.Read(rc, limits.Config); err != nil {
		return err
	}
	if i.DiffIDs, err = configuration(i.config); err != nil {
		return fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	return nil
}

// choose returns the manifest that BuildKit would choose: the best match of those that
// run on the platform.
func choose(manifests []v1.Descriptor, p ocispecs.Platform) (v1.Hash, error) {
	match := platforms.Only(p)
	var fit []v1.Descriptor
	spec := func(d v1.Descriptor) ocispecs.Platform {
		return platforms.Normalize(ocispecs.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant, OSVersion: d.Platform.OSVersion})
	}
	for _, d := range manifests {
		if d.Platform != nil && d.MediaType.IsImage() && match.Match(spec(d)) {
			fit = append(fit, d)
		}
	}
	if len(fit) == 0 {
		return v1.Hash{}, fmt.Errorf("the index has no image for %s", platforms.Format(p))
	}
	slices.SortStableFunc(fit, func(a, b v1.Descriptor) int {
		switch {
		case match.Less(spec(a), spec(b)):
			return -1
		case match.Less(spec(b), spec(a)):
			return 1
		}
		return 0
	})
	return fit[0].Digest, nil
}
