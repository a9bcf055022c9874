package main

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
)

// maxInspected limits the total size of the bundles that inspect reads, in bytes.
const maxInspected = 8 * limits.Bundle

// inspectAttached returns the attachments of an image: its referrers, and those
// that cosign v2 stored under tags made from the digest. It fails if the store
// cannot tell whether such a tag exists.
func inspectAttached(ctx context.Context, src oci.Source, digest v1.Hash) ([]inspectedProof, error) {
	list, err := oci.Attachments(ctx, src, digest, oci.CosignSignatures, oci.CosignAttestations)
	if err != nil {
		return nil, err
	}
	var proofs []inspectedProof
	total := int64(0)
	for i := range list {
		a := &list[i]
		if a.Err != nil && a.Descriptor.Digest.Hex == "" {
			return nil, a.Err
		}
		if a.Err == nil && a.Tag == "" && a.ArtifactType == notation.ArtifactType {
			if total += min(a.Descriptor.Size, notation.MaxEnvelope); total <= maxInspected {
				proofs = append(proofs, inspectNotation(ctx, src, a))
				continue
			}
		}
		if a.Tag == "" {
			raw, err := inspectedBundle(ctx, src, a, &total)
			proofs = append(proofs, inspectReferrer(a, raw, err))
			continue
		}
		if a.Err != nil {
			return nil, a.Err
		}
		for _, l := range a.Layers {
			proofs = append(proofs, inspectTagged(ctx, src, l))
		}
	}
	return proofs, nil
}

// inspectedBundle returns the Sigstore bundle of a referrer, or nil if it has none.
func inspectedBundle(ctx context.Context, src oci.Source, a *oci.Attached, total *int64) ([]byte, error) {
	if a.Err != nil || !a.IsBundle() {
		return nil, a.Err
	}
	layer, err := a.BundleLayer()
	if err != nil {
		return nil, err
	}
	if *total += layer.Size; *total > maxInspected {
		return nil, fmt.Errorf("the bundles attached to this image exceed %d bytes", int64(maxInspected))
	}
	return oci.Content(ctx, src, layer, limits.Bundle)
}

// inspectTagged describes one layer of a cosign v2 attachment.
func inspectTagged(ctx context.Context, src oci.Source, l v1.Descriptor) inspectedProof {
	p := inspectedProof{Digest: l.Digest.String(), ArtifactType: string(l.MediaType), Size: l.Size}
	if err := p.readTagged(ctx, src, l); err != nil {
		p.Error = err.Error()
	}
	return p
}

func (p *inspectedProof) readTagged(ctx context.Context, src oci.Source, l v1.Descriptor) error {
	var parse func([]byte, map[string]string) (*bundle.Bundle, error)
	switch l.MediaType {
	case attest.SimpleSigningMediaType:
		parse = bundle.ParseCosign2Signature
	case attest.EnvelopeMediaType:
		parse = bundle.ParseCosign2
	default:
		return nil // neither signature nor attestation: only its type is shown
	}
	raw, err := oci.Content(ctx, src, l, limits.Bundle)
	if err != nil {
		return err
	}
	signed, err := parse(raw, l.Annotations)
	if err != nil {
		return err
	}
	if l.MediaType == attest.EnvelopeMediaType {
		p.raw = raw
	}
	return p.readBundle(signed.Proto)
}
