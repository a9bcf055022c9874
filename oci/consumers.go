package oci

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Files that docker writes beside those of a layout. docker before version 25, podman
// and crane take the images that manifest.json names. docker reads repositories only
// if there is no manifest.json.
const (
	dockerManifest = "manifest.json"
	dockerTags     = "repositories"
)

// imageNameAnnotation is the annotation of an entry of index.json that docker,
// containerd and BuildKit prefer to RefNameAnnotation.
const imageNameAnnotation = "io.containerd.image.name"

// CheckSole fails unless every tool that is given this layout and reference takes
// image d, parts of d, or attachments that cannot be run. The error is ErrMismatch if
// a tool would take something else. Parts of d may be missing. Tools choose differently: docker, containerd, podman,
// skopeo, crane, oras and BuildKit read index.json or manifest.json, look at different
// annotations, and ignore subjects and artifact types. Tools take every image of an
// archive, and what the reference names in a directory.
func (l *Layout) CheckSole(ctx context.Context, reference string, d v1.Descriptor) error {
	docker, err := l.checkFiles()
	if err != nil {
		return err
	}
	index, err := l.entries()
	if err != nil {
		return err
	}
	own, err := l.manifestsOf(ctx, d)
	if err != nil {
		return err
	}
	_, archive := l.files.(*tarFiles)
	others := attachments{l, map[v1.Hash]bool{}}
	for _, e := range index.Manifests {
		if !archive && reference != "" && !named(e, reference) {
			continue
		}
		m, part := own[e.Digest]
		switch {
		case len(e.URLs) > 0 || len(e.Data) > 0:
			err = refuse("got urls or data, want neither")
		case part && m == nil: // the index pins what is not there
		case part || e.Digest == d.Digest:
			_, err = l.entry(ctx, e)
		default:
			err = others.check(ctx, e, true)
		}
		if err != nil {
			return fmt.Errorf("entry %s of index.json, beside the image %s: %w", e.Digest, d.Digest, err)
		}
	}
	if docker {
		return l.checkDockerManifest(own)
	}
	return nil
}

// named reports whether a tool takes entry e of a directory for reference.
func named(e v1.Descriptor, reference string) bool {
	for _, name := range []string{e.Annotations[RefNameAnnotation], e.Annotations[imageNameAnnotation]} {
		if name == reference || strings.HasSuffix(name, ":"+reference) {
			return true
		}
	}
	return false
}

// checkFiles refuses files that do not belong to a layout, and reports whether there
// is a dockerManifest.
func (l *Layout) checkFiles() (docker bool, err error) {
	var tags bool
	err = l.files.walk(func(name string, dir bool) error {
		switch {
		case !dir && name == dockerManifest:
			docker = true
			return nil
		case !dir && name == dockerTags:
			tags = true
			return nil
		}
		_, err := layoutFile(name, dir)
		return err
	})
	if err == nil && tags && !docker {
		err = refuse("%s without %s names images that only docker reads", dockerTags, dockerManifest)
	}
	return docker, err
}

// manifestsOf returns the image manifests of an image: d itself, or those in the index.
// The value is nil for one that the layout does not have.
func (l *Layout) manifestsOf(ctx context.Context, d v1.Descriptor) (map[v1.Hash]*content, error) {
	c, err := l.content(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	if !d.MediaType.IsIndex() {
		return map[v1.Hash]*content{d.Digest: c}, nil
	}
	own := map[v1.Hash]*content{}
	for _, m := range c.Manifests {
		if own[m.Digest], err = l.content(ctx, m.Digest); err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return own, nil
}

// checkDockerManifest fails unless manifest.json names only images in own, by the
// paths of their blobs.
func (l *Layout) checkDockerManifest(own map[v1.Hash]*content) error {
	raw, err := l.read(dockerManifest, limits.Manifest)
	if err != nil {
		return err
	}
	var items []struct {
		Config       string                   `json:"Config"`
		RepoTags     []string                 `json:"RepoTags"`
		Layers       []string                 `json:"Layers"`
		Parent       string                   `json:"Parent"`
		LayerSources map[string]v1.Descriptor `json:"LayerSources"`
	}
	if err := strict.UnmarshalKnown(raw, limits.Manifest, &items); err != nil {
		return refuse("%s: %w", dockerManifest, err)
	}
	for _, item := range items {
		blobs := append([]string{item.Config}, item.Layers...)
		for _, s := range item.LayerSources {
			if len(s.URLs) > 0 || len(s.Data) > 0 || !slices.Contains(item.Layers, blobPath(s.Digest)) {
				return refuse("%s: source %s of a layer is not one of its layers", dockerManifest, s.Digest)
			}
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(own)), func(c *content) bool { return c != nil && slices.Equal(blobs, blobPaths(c)) }) {
			return refuse("%s names an image with configuration %q, which is not the image: docker before version 25, podman and crane would take it", dockerManifest, item.Config)
		}
	}
	return nil
}

// blobPaths returns the files of configuration and layers.
func blobPaths(c *content) (paths []string) {
	for _, d := range c.parts() {
		paths = append(paths, blobPath(d.Digest))
	}
	return paths
}

// attachments checks that manifests cannot be run. A tool may ignore subjects, artifact
// types, annotations and the type of the configuration, so what cannot be run has no
// layer of a type that any tool unpacks. podman unpacks layers of any type if the
// configuration is an image's. cosign v2 writes such manifests, with JSON in their
// layers, and JSON is no tar.
type attachments struct {
	src     Source
	checked map[v1.Hash]bool // manifests and layers
}

// CheckAttachment fails if a tool could run what d describes as an image.
func CheckAttachment(ctx context.Context, src Source, d v1.Descriptor) error {
	return attachments{src, map[v1.Hash]bool{}}.check(ctx, d, true)
}

// check fails if a tool could run what d describes. An index may be in no other.
func (a attachments) check(ctx context.Context, d v1.Descriptor, index bool) error {
	if a.checked[d.Digest] {
		return nil
	}
	raw, mediaType, err := a.src.Manifest(ctx, d.Digest)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if mediaType != string(d.MediaType) || int64(len(raw)) != d.Size {
		return refuse("%s: got %s of %d bytes, its descriptor says %s of %d", d.Digest, mediaType, len(raw), d.MediaType, d.Size)
	}
	c, err := parseContent(raw, d.MediaType)
	switch {
	case err != nil:
		return err
	case !d.MediaType.IsIndex():
		err = a.checkManifest(ctx, d, c)
	case !index:
		err = refuse("index %s is in another index", d.Digest)
	default:
		for _, m := range c.Manifests {
			if err = a.check(ctx, m, false); err != nil {
				break
			}
		}
	}
	a.checked[d.Digest] = err == nil
	return err
}

func (a attachments) checkManifest(ctx context.Context, d v1.Descriptor, c *content) error {
	imageLike := d.MediaType != types.OCIManifestSchema1 || c.Config.MediaType.IsConfig()
	if imageLike && len(c.Layers) == 0 {
		return refuse("manifest %s can be run as an image", d.Digest)
	}
	for _, layer := range c.Layers {
		if isFilesystem(layer.MediaType) {
			return refuse("manifest %s can be run as an image: it has a layer of type %q", d.Digest, layer.MediaType)
		}
		if !imageLike || a.checked[layer.Digest] {
			continue
		}
		raw, err := readBlob(ctx, a.src, layer, limits.Bundle)
		if err != nil {
			return err
		}
		var v any
		if err := strict.Unmarshal(raw, limits.Bundle, &v); err != nil {
			return refuse("manifest %s can be run as an image: layer %s is not JSON: %w", d.Digest, layer.Digest, err)
		}
		a.checked[layer.Digest] = true
	}
	return nil
}

// isFilesystem reports whether any known tool unpacks layers of a media type.
func isFilesystem(t types.MediaType) bool {
	for _, prefix := range []string{"application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.", "application/vnd.erofs.layer."} {
		if strings.HasPrefix(string(t), prefix) {
			return true
		}
	}
	return false
}
