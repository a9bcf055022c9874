package gate

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// isAttachment reports whether a manifest is a signature, an attestation or the like, or a list of
// them, which verifiers read before anything is accepted. Whoever pushes chooses tags, subjects and
// media types. So only what no runtime can run counts:
//
//   - an index under a fallback tag (sha256-HEX): it opens none of the manifests in it;
//   - a manifest with a subject whose config and layers are of no type of an image;
//   - a manifest whose config has the type of an image's, as cosign's has, and whose layers are JSON
//     documents of another type: they are read, because Docker unpacks a layer of any type.
//
// All else is judged like an image.
func isAttachment(ctx context.Context, src *oci.Registry, ref string, c *content) (bool, error) {
	if c.Manifests != nil {
		_, kind, ok := oci.ParseAttachmentTag(ref)
		return ok && kind == "" && c.Config == nil && c.Layers == nil, nil
	}
	if c.Config == nil || len(c.Layers) == 0 {
		return false, nil
	}
	for _, l := range c.Layers {
		if ofImage(l) {
			return false, nil
		}
	}
	if !ofImage(*c.Config) {
		return c.Subject != nil, nil
	}
	if c.Subject == nil && string(c.Config.MediaType) != ociConfig {
		return false, nil // cosign writes OCI
	}
	return allJSON(ctx, src, c.Layers)
}

const ociConfig = "application/vnd.oci.image.config.v1+json"

// ofImage reports whether a runtime may take something for a config or layer of an image.
func ofImage(d v1.Descriptor) bool {
	t := strings.ToLower(string(d.MediaType))
	return t == "" || strings.HasPrefix(t, "application/vnd.oci.image.") || strings.HasPrefix(t, "application/vnd.docker.") || strings.Contains(t, "tar") || strings.HasPrefix(t, "application/octet-stream")
}

// allJSON reports whether all blobs are JSON, in at most limits.Bundle bytes together.
func allJSON(ctx context.Context, src *oci.Registry, blobs []v1.Descriptor) (bool, error) {
	left := int64(limits.Bundle)
	for _, b := range blobs {
		if left -= b.Size; b.Size < 0 || left < 0 {
			return false, nil
		}
		body, err := src.Blob(ctx, b)
		if errors.Is(err, oci.ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		raw, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			return false, err
		}
		if !json.Valid(raw) {
			return false, nil
		}
	}
	return true, nil
}
