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
	// Seen is what the build's gateway saw answered for a tag or digest; an error
	// where it saw nothing. Nobody is asked for an image that the build did not
	// get: a Dockerfile could name any host. May be nil.
	Seen func(domain, name, reference string) (v1.Hash, error)
	// Pinned says that a tag stands for what Seen says, whatever became of it
	// since: the build had it from a lock. Else what the mirror or registry says
	// now must agree.
	Pinned bool
}

// Image resolves one request, and reads the image's documents by digest.
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

// find settles what the image's reference stands for, and where its documents are.
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
			return nil, &MismatchError{"base image " + q.Reference.String(), i.Top.String() + ", as it is named", seen.String() + ", as the build's gateway saw"}
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
		return nil, &MismatchError{"base image " + q.Reference.String(), seen.String() + ", as the build's gateway saw", d.Digest.String() + ", as its registry says now"}
	}
	i.Top = d.Digest
	return src, nil
}

// source is the mirror where it has the image, else the registry. Digest is
// empty where the reference's tag is asked for.
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
