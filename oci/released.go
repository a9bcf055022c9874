package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// File is a file of a release.
type File struct {
	Name       string        // attest.CheckFileName accepts it
	Descriptor v1.Descriptor // digest and size of the content; a media type, no annotations
}

// fileMediaType is the media type of the layer that is a file.
const fileMediaType types.MediaType = "application/octet-stream"

// FilesManifest returns the manifest that lists the files of a release (spec/files/v1), and
// its descriptor. The files must be ordered by name. The same arguments give the same bytes.
func FilesManifest(files []File, annotations map[string]string) ([]byte, v1.Descriptor, error) {
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: attest.FilesArtifactType,
		Config: v1.Descriptor{MediaType: types.OCIEmptyJSON, Size: int64(len(emptyConfig)), Digest: digestOf(emptyConfig)}, Annotations: annotations,
	}
	for _, f := range files {
		d := v1.Descriptor{MediaType: fileMediaType, Digest: f.Descriptor.Digest, Size: f.Descriptor.Size, Annotations: map[string]string{attest.TitleAnnotation: f.Name}}
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	if _, err := ParseFiles(raw); err != nil {
		return nil, v1.Descriptor{}, err
	}
	return raw, v1.Descriptor{MediaType: m.MediaType, Digest: digestOf(raw), Size: int64(len(raw))}, nil
}

// EmptyConfig returns the content of the configuration of a manifest that has none.
func EmptyConfig() []byte { return append([]byte(nil), emptyConfig...) }

// ParseFiles returns the files that a manifest of type attest.FilesArtifactType lists, ordered
// by name. It refuses (ErrMismatch) any other manifest; names that attest.CheckFileName
// refuses, that are equal but for letters' case, or not in order; and layers that are anything
// but a file and its name.
func ParseFiles(raw []byte) ([]File, error) {
	c, err := parseContent(raw, types.OCIManifestSchema1)
	switch {
	case err != nil:
		return nil, err
	case c.ArtifactType != attest.FilesArtifactType:
		return nil, refuse("artifact type: got %q, want %q", c.ArtifactType, attest.FilesArtifactType)
	case c.Subject != nil:
		return nil, refuse("manifest of files: got a subject, want none")
	case c.Config.Digest != digestOf(emptyConfig) || c.Config.Size != int64(len(emptyConfig)) || c.Config.MediaType != types.OCIEmptyJSON:
		return nil, refuse("configuration of a manifest of files: got %s, want the empty one", c.Config.Digest)
	case len(c.Layers) == 0:
		return nil, refuse("manifest of files: got no file")
	}
	var files []File
	seen := map[string]bool{}
	for _, l := range c.Layers {
		name := l.Annotations[attest.TitleAnnotation]
		plain := len(l.Annotations) == 1 && len(l.URLs) == 0 && len(l.Data) == 0 && l.Platform == nil && l.ArtifactType == ""
		folded := strings.ToLower(name)
		switch err := attest.CheckFileName(name); {
		case err != nil:
			return nil, refuse("%w", err)
		case l.MediaType != fileMediaType || !plain:
			return nil, refuse("file %s: got a layer of type %q with other members, want %s with a name only", name, l.MediaType, fileMediaType)
		case l.Digest.Algorithm != "sha256" || l.Size > limits.LayerPacked:
			return nil, refuse("file %s: got digest %s and %d bytes, want sha256 and at most %d", name, l.Digest, l.Size, int64(limits.LayerPacked))
		case seen[folded]:
			return nil, refuse("file %s: got the name twice, but for the case of letters", name)
		case len(files) > 0 && files[len(files)-1].Name > name:
			return nil, refuse("file %s: got it after %s, want the order of names", name, files[len(files)-1].Name)
		}
		seen[folded] = true
		files = append(files, File{name, v1.Descriptor{MediaType: fileMediaType, Digest: l.Digest, Size: l.Size}})
	}
	return files, nil
}

// MeasureFiles hashes every byte of a layout from a stranger that has release files in place
// of an image, and returns them in Measured.Files. It refuses (ErrMismatch) a layout that has
// anything but one manifest of files (ParseFiles), the files, and the empty configuration. As
// with MeasureLayout, nobody but the caller may be able to write the directory.
func MeasureFiles(dir string) (*Measured, error) {
	return measureAs(dir, "release files", defaultBomb, (*measurer).files)
}

func (m *measurer) files() (*Measured, error) {
	top, err := m.sole()
	if err != nil {
		return nil, err
	}
	if err := m.use(top); err != nil {
		return nil, err
	}
	if top.MediaType != types.OCIManifestSchema1 {
		return nil, refuse("media type of %s: got %q, want %q", top.Digest, top.MediaType, types.OCIManifestSchema1)
	}
	ctx := context.Background()
	raw, err := readBlob(ctx, m.layout, top, limits.Manifest)
	if err != nil {
		return nil, err
	}
	out := &Measured{Raw: raw, Descriptor: v1.Descriptor{MediaType: top.MediaType, Digest: digestOf(raw), Size: int64(len(raw))}}
	if out.Files, err = ParseFiles(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", top.Digest, err)
	}
	parts := []v1.Descriptor{{MediaType: types.OCIEmptyJSON, Digest: digestOf(emptyConfig), Size: int64(len(emptyConfig))}}
	for _, f := range out.Files {
		parts = append(parts, f.Descriptor)
	}
	for _, d := range parts {
		if err := m.use(d); err != nil {
			return nil, err
		}
		if err := m.through(ctx, d); err != nil {
			return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
		}
	}
	return out, nil
}

// through reads a blob to its end. The layout compares it with digest and size.
func (m *measurer) through(ctx context.Context, d v1.Descriptor) error {
	blob, err := m.layout.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = io.Copy(io.Discard, blob)
	return err
}
