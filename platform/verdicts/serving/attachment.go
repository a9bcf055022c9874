package serving

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// isAttachment reports whether a manifest is a signature, an attestation or the like, or a list of
// them, which verifiers read before anything is accepted. Whoever pushes chooses tags, subjects and
// media types. Docker runs an image whatever types its config and layers have, and CRI-O mounts an
// artifact with any layers as a volume. So only this counts:
//
//   - an index under a fallback tag (sha256-HEX): it opens none of the manifests in it;
//   - a manifest whose layers are signatures, attestations, SBOMs or locks by their content: they
//     are read.
//
// All else is judged like an image.
func (j *Judge) isAttachment(ctx context.Context, src oci.Source, ref string, m *Manifest) (bool, error) {
	if m.Manifests != nil {
		_, kind, ok := oci.ParseAttachmentTag(ref)
		return ok && kind == "" && m.Config == nil && m.Layers == nil, nil
	}
	if m.Config == nil || len(m.Layers) == 0 || slices.ContainsFunc(m.Layers, ofImage) {
		return false, nil
	}
	select {
	case j.reading <- struct{}{}:
		defer func() { <-j.reading }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	return allProofs(ctx, src, m.Layers)
}

// ofImage reports whether something says that it is a part of an image.
func ofImage(d v1.Descriptor) bool {
	t := strings.ToLower(string(d.MediaType))
	return t == "" || strings.HasPrefix(t, "application/vnd.oci.image.") || strings.HasPrefix(t, "application/vnd.docker.") || strings.Contains(t, "tar") || strings.HasPrefix(t, "application/octet-stream")
}

// allProofs reports whether all blobs are proofs, of at most limits.Bundle bytes together.
func allProofs(ctx context.Context, src oci.Source, blobs []v1.Descriptor) (bool, error) {
	left := int64(limits.Bundle)
	for _, b := range blobs {
		if left -= b.Size; b.Size < 0 || left < 0 {
			return false, nil
		}
		raw, err := oci.Content(ctx, src, b, limits.Bundle)
		if errors.Is(err, oci.ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if !isProof(string(b.MediaType), raw) {
			return false, nil
		}
	}
	return true, nil
}

// isProof reports whether a blob is, by its content, of a kind that is attached to images: a Sigstore
// bundle, a DSSE envelope, a payload that cosign v2 signs, an envelope of notation, an in-toto statement,
// an SBOM in JSON, or a lock. Nothing is verified.
func isProof(mediaType string, raw []byte) bool {
	if _, err := tar.NewReader(bytes.NewReader(raw)).Next(); err == nil {
		return false
	}
	if mediaType == notation.JWS || mediaType == notation.COSE {
		_, err := notation.Peek(mediaType, raw)
		return err == nil
	}
	var head struct {
		SPDX     string            `json:"spdxVersion"`
		CDX      string            `json:"bomFormat"`
		InToto   string            `json:"_type"`
		Envelope string            `json:"payloadType"`
		Critical any               `json:"critical"`
		Fetches  []json.RawMessage `json:"fetches"` // of a lock
	}
	if bytes.Equal(raw, oci.EmptyConfig()) {
		return true
	}
	if strict.Unmarshal(raw, limits.Bundle, &head) != nil {
		return false
	}
	switch {
	case strings.HasPrefix(head.SPDX, "SPDX-"), head.CDX == "CycloneDX", strings.HasPrefix(head.InToto, "https://in-toto.io/Statement/"):
		return true
	case mediaType == attest.LockMediaType:
		return head.Fetches != nil
	case head.Critical != nil:
		return bundle.IsSimpleSigning(raw)
	case head.Envelope != "":
		_, err := bundle.ParseEnvelope(raw)
		return err == nil
	}
	_, err := bundle.Parse(raw)
	return err == nil
}
