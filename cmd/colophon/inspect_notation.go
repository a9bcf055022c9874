package main

import (
	"context"
	"fmt"
	"time"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/oci"
)

// inspectNotation describes a signature of notation. No trust root says whether it holds: a
// policy has to name the authority.
func inspectNotation(ctx context.Context, src oci.Source, a *oci.Attached) inspectedProof {
	p := inspectReferrer(a, nil, nil)
	if err := p.readNotation(ctx, src, a); err != nil {
		p.Error = err.Error()
	}
	return p
}

func (p *inspectedProof) readNotation(ctx context.Context, src oci.Source, a *oci.Attached) error {
	if len(a.Layers) != 1 {
		return fmt.Errorf("got %d layers, want 1", len(a.Layers))
	}
	raw, err := oci.Content(ctx, src, a.Layers[0], notation.MaxEnvelope)
	if err != nil {
		return err
	}
	s, err := notation.Parse(string(a.Layers[0].MediaType), raw)
	if err != nil {
		return err
	}
	p.notation, p.Signer, p.Issuer = s, s.Signer(), s.Authority()
	p.Claimed = s.Signed.Format(time.RFC3339)
	if !s.Expires.IsZero() {
		p.Expires = s.Expires.UTC().Format(time.RFC3339)
	}
	return nil
}
