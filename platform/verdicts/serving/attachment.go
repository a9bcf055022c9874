package serving

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// isAttachment reports whether a manifest is a signature, an attestation or the like, or a list of
// them, which verifiers read before anything is accepted. Whoever pushes chooses tags, subjects and
// media types, and Docker runs an image whatever types its config and layers have. So only what no
// runtime can run counts:
//
//   - an index under a fallback tag (sha256-HEX): it opens none of the manifests in it;
//   - a manifest with a subject whose config is {}: it names no root file system, so that no layer of it
//     can be unpacked. Bundles and signatures of notation are such;
//   - a manifest whose layers are JSON documents and no archives, as cosign's signatures: they are read.
//
// All else is judged like an image.
func isAttachment(ctx context.Context, src oci.Source, ref string, m *Manifest) (bool, error) {
	if m.Manifests != nil {
		_, kind, ok := oci.ParseAttachmentTag(ref)
		return ok && kind == "" && m.Config == nil && m.Layers == nil, nil
	}
	if m.Config == nil || len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, ofImage) {
		return false, nil
	}
	if m.Subject != nil && m.Config.Digest == emptyConfig {
		return true, nil
	}
	return allJSON(ctx, src, m.Layers)
}

// emptyConfig is the digest of {}.
var emptyConfig = func() v1.Hash {
	sum := sha256.Sum256(oci.EmptyConfig())
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}()

// ofImage reports whether something says that it is a part of an image.
func ofImage(d v1.Descriptor) bool {
	t := strings.ToLower(string(d.MediaType))
	return t == "" || strings.HasPrefix(t, "application/vnd.oci.image.") || strings.HasPrefix(t, "application/vnd.docker.") || strings.Contains(t, "tar") || strings.HasPrefix(t, "application/octet-stream")
}

// allJSON reports whether all blobs are JSON and no tar archives, in at most limits.Bundle bytes together.
func allJSON(ctx context.Context, src oci.Source, blobs []v1.Descriptor) (bool, error) {
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
		if _, err := tar.NewReader(bytes.NewReader(raw)).Next(); err == nil || !json.Valid(raw) {
			return false, nil
		}
	}
	return true, nil
}
