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

// Resolver fetches images by itself. Safe for concurrent use.
type Resolver struct {
	// Mirror answers first, as it does in a room: tags as whole names
	// (docker.io/library/golang:1.26), and whatever digest it has. May be nil.
	Mirror *oci.Layout
	// Registry opens the repository HOST/NAME.
	Registry func(repository string) (oci.Source, error)
	// Tag, where set, is what the build's gateway answered for a tag. What the
	// registry says now must agree with it, unless Pinned.
	Tag func(domain, name, tag string) (v1.Hash, error)
	// Pinned says that a tag stands for what Tag says, whatever it became since:
	// the build had it from a lock.
	Pinned bool
}

// Image resolves one request, and reads the image's documents by digest.
func (r *Resolver) Image(ctx context.Context, q Request) (*Image, error) {
	domain, name := reference.Domain(q.Reference), reference.Path(q.Reference)
	tag, top, err := q.identifier()
	if err != nil {
		return nil, err
	}
	src, err := r.source(ctx, q.Reference, tag, top)
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", q.Reference, err)
	}
	if tag != "" {
		if top, err = r.tag(ctx, src, q.Reference, domain, name, tag); err != nil {
			return nil, err
		}
	}
	i := &Image{Domain: domain, Name: name, Tag: tag, Platform: platforms.Format(q.Platform), Top: top, Manifest: top, Content: map[v1.Hash]bool{top: true}}
	if i.Dependency, err = q.dependency(top); err != nil {
		return nil, err
	}
	if err := i.read(ctx, src, q.Platform); err != nil {
		return nil, fmt.Errorf("base image %s: %w", i, err)
	}
	return i, nil
}

// source is the mirror where it has the image, else the registry.
func (r *Resolver) source(ctx context.Context, ref reference.Named, tag string, digest v1.Hash) (oci.Source, error) {
	if r.Mirror != nil {
		wanted := ref.String()
		if tag == "" {
			wanted = digest.String()
		}
		_, err := r.Mirror.Resolve(ctx, wanted)
		if err == nil {
			return r.Mirror, nil
		}
		if !errors.Is(err, oci.ErrNotFound) {
			return nil, err
		}
	}
	return r.Registry(registryHost(reference.Domain(ref)) + "/" + reference.Path(ref))
}

// tag is what a tag stands for.
func (r *Resolver) tag(ctx context.Context, src oci.Source, ref reference.Named, domain, name, tag string) (v1.Hash, error) {
	seen := v1.Hash{}
	if r.Tag != nil {
		var err error
		if seen, err = r.Tag(domain, name, tag); err != nil || r.Pinned {
			return seen, err
		}
	}
	wanted := tag
	if src == oci.Source(r.Mirror) {
		wanted = ref.String()
	}
	d, err := src.Resolve(ctx, wanted)
	if err != nil {
		return seen, fmt.Errorf("base image %s: %w", ref, err)
	}
	if r.Tag != nil && d.Digest != seen {
		return seen, &MismatchError{fmt.Sprintf("base image %s", ref), seen.String() + ", as the build's gateway saw", d.Digest.String() + ", as the registry says now"}
	}
	return d.Digest, nil
}

// MismatchError says that two accounts of one thing differ.
type MismatchError struct{ What, One, Other string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: %s; %s", e.What, e.One, e.Other)
}

// read fills in what the documents of the image say.
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
		return fmt.Errorf("%s: media type %q is no image", i.Manifest, mediaType)
	}
	var m v1.Manifest
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return err
	}
	if m.Config.Size > limits.Config {
		return fmt.Errorf("configuration %s of %d bytes, at most %d are taken", m.Config.Digest, m.Config.Size, limits.Config)
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

// choose picks the manifest that BuildKit picks: the best of those that run on
// the platform.
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
		return v1.Hash{}, fmt.Errorf("it has nothing for %s", platforms.Format(p))
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
