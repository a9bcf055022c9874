package serving

import (
	"context"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// isAttachment reports whether a manifest is a signature, an attestation or the like, or a list of
// them, which verifiers read before anything is accepted. Whoever pushes chooses tags, subjects and
// media types. Docker runs an image whatever types its config and layers have, and CRI-O mounts an
// artifact with any layers as a volume. So only this counts:
//
//   - an index under a fallback tag (sha256-HEX): it opens none of the manifests in it;
//   - a manifest under a tag of cosign's (sha256-HEX.sig), or with a subject and asked for by its
//     digest. Its config runs nothing, and its layers are signatures, attestations, SBOMs or locks
//     by their content (isProof): all of them are read.
//
// All else is judged like an image: a tag that people choose, such as v1, never names an attachment.
func (j *Judge) isAttachment(ctx context.Context, src oci.Source, ref string, m *Manifest) (bool, error) {
	algorithm, kind, tagged := oci.ParseAttachmentTag(ref)
	if m.Manifests != nil {
		return tagged && kind == "" && m.Config == nil && m.Layers == nil, nil
	}
	ofCosign := kind != "" && algorithm == "sha256" // images are judged by their sha256 alone
	referrer := strings.Contains(ref, ":") && m.Subject != nil && m.Subject.Digest.Hex != ""
	if !ofCosign && !referrer || m.Config == nil || len(m.Layers) == 0 || len(m.Layers) > limits.Layers || slices.ContainsFunc(m.Layers, ofImage) {
		return false, nil
	}
	select {
	case j.reading <- struct{}{}:
		defer func() { <-j.reading }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	return readsAsAttachment(ctx, src, m)
}

// readsAsAttachment reports whether the config and all layers of a manifest are those of an attachment,
// of at most limits.Bundle bytes together.
func readsAsAttachment(ctx context.Context, src oci.Source, m *Manifest) (bool, error) {
	left := int64(limits.Bundle)
	for i, b := range append([]v1.Descriptor{*m.Config}, m.Layers...) {
		if left -= b.Size; b.Size < 0 || left < 0 {
			return false, nil
		}
		raw, err := oci.Content(ctx, src, b, limits.Bundle)
		if errors.Is(err, oci.ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if i == 0 && !isConfig(raw) || i > 0 && !isProof(string(b.MediaType), raw) {
			return false, nil
		}
	}
	return true, nil
}
