package main

import (
	"context"
	"errors"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// inspectTags shows what cosign v2 signed about an image, under tags that it
// derives from the digest. A store that cannot say whether there is such a tag
// is an error.
func inspectTags(ctx context.Context, src oci.Source, digest v1.Hash) (proofs []inspectedProof, err error) {
	for _, suffix := range []string{".sig", ".att"} {
		d, err := src.Resolve(ctx, digest.Algorithm+"-"+digest.Hex+suffix)
		if errors.Is(err, oci.ErrNotFound) {
			continue
		}
		var m v1.Manifest
		if err == nil {
			var raw []byte
			if raw, _, err = src.Manifest(ctx, d.Digest); err == nil {
				err = strict.Unmarshal(raw, limits.Manifest, &m)
			}
		}
		if err != nil {
			return nil, err
		}
		for _, l := range m.Layers[:min(len(m.Layers), limits.Referrers)] {
			proofs = append(proofs, inspectTagged(ctx, src, l))
		}
	}
	return proofs, nil
}

func inspectTagged(ctx context.Context, src oci.Source, l v1.Descriptor) inspectedProof {
	p := inspectedProof{Digest: l.Digest.String(), ArtifactType: string(l.MediaType), Size: l.Size}
	if err := p.readTagged(ctx, src, l); err != nil {
		p.Error = err.Error()
	}
	return p
}

func (p *inspectedProof) readTagged(ctx context.Context, src oci.Source, l v1.Descriptor) error {
	var parse func([]byte, map[string]string) (*attest.Signed, error)
	switch l.MediaType {
	case attest.SimpleSigningMediaType:
		parse = attest.ParseCosign2Signature
	case attest.EnvelopeMediaType:
		parse = attest.ParseCosign2
	default:
		return nil // something else, shown with its type
	}
	if l.Size < 0 || l.Size > limits.Bundle {
		return errors.New("too large to be shown")
	}
	blob, err := src.Blob(ctx, l)
	if err != nil {
		return err
	}
	defer blob.Close()
	raw, err := strict.Read(blob, limits.Bundle)
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
	if e := signed.Promised; e != nil {
		index := e.GetLogIndex()
		p.LogIndex, p.Times = &index, append(p.Times, time.Unix(e.GetIntegratedTime(), 0).UTC())
	}
	return p.readBundle(signed.Entity.Bundle)
}
