package verify

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// attachment is one manifest with what is signed about an image, or the reason
// why it could not be had.
type attachment struct {
	layers  []v1.Descriptor
	err     error
	missing bool // nothing is known about it: somebody has to ask again
}

// cosign2Tags are what cosign v2 calls the manifests with what it signed.
var cosign2Tags = []string{"sig", "att"}

// attachments lists whatever is attached to an image, in any of the forms that
// are read: referrers, whose manifests must name the image, and cosign v2's
// tags, whose name is all that ties them to it. What counts is the content.
func (c *check) attachments(ctx context.Context, digest v1.Hash) (found []attachment, unread error) {
	listed, err := c.src.Referrers(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s: %w", digest, err)
	}
	if n := len(listed); n > limits.Referrers {
		unread, listed = fmt.Errorf("%d more attestations were not looked at", n-limits.Referrers), listed[:limits.Referrers]
	}
	found = make([]attachment, len(listed)+len(cosign2Tags))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, d := range listed {
		g.Go(func() error {
			found[i] = c.attachment(ctx, d.Digest, &digest)
			return nil
		})
	}
	for i, suffix := range cosign2Tags {
		g.Go(func() error {
			d, err := c.src.Resolve(ctx, digest.Algorithm+"-"+digest.Hex+"."+suffix)
			switch {
			case errors.Is(err, oci.ErrNotFound):
			case err != nil:
				found[len(listed)+i] = attachment{err: err, missing: !settled(err)}
			default:
				found[len(listed)+i] = c.attachment(ctx, d.Digest, nil)
			}
			return nil
		})
	}
	_ = g.Wait() // no task fails: each keeps its own error
	return found, unread
}

// settled says that there is nothing more to learn by asking again.
func settled(err error) bool {
	return errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrMismatch) || errors.Is(err, errHostile)
}

func (c *check) attachment(ctx context.Context, digest v1.Hash, subject *v1.Hash) attachment {
	raw, _, err := c.src.Manifest(ctx, digest)
	if err != nil {
		return attachment{err: fmt.Errorf("attestation %s: %w", digest, err), missing: !settled(err)}
	}
	var m struct {
		Subject *v1.Descriptor  `json:"subject"`
		Layers  []v1.Descriptor `json:"layers"`
	}
	if err := unmarshal(raw, &m); err != nil {
		return attachment{err: fmt.Errorf("attestation %s: %w", digest, err)}
	}
	if subject != nil && (m.Subject == nil || m.Subject.Digest != *subject) {
		return attachment{err: fmt.Errorf("attestation %s: its manifest has another subject than %s", digest, subject)}
	}
	var a attachment
	for _, l := range m.Layers {
		if readSigned(l) != nil {
			a.layers = append(a.layers, l)
		}
	}
	if n := len(a.layers); n > limits.Referrers {
		a.layers, a.err, a.missing = a.layers[:limits.Referrers], fmt.Errorf("attestation %s: %d more were not looked at", digest, n-limits.Referrers), true
	}
	return a
}

// readSigned is how a layer is read, nil where it is nothing that is signed.
func readSigned(l v1.Descriptor) func([]byte) (*attest.Signed, error) {
	switch t := string(l.MediaType); {
	case attest.IsBundleMediaType(t):
		return attest.ParseSigned
	case t == attest.SimpleSigningMediaType:
		return func(raw []byte) (*attest.Signed, error) { return attest.ParseCosign2Signature(raw, l.Annotations) }
	case t == attest.EnvelopeMediaType:
		return func(raw []byte) (*attest.Signed, error) { return attest.ParseCosign2(raw, l.Annotations) }
	}
	return nil
}

// readLayer fetches and parses one.
func readLayer(ctx context.Context, src oci.Source, l v1.Descriptor) (*attest.Signed, error) {
	raw, err := readEnvelope(ctx, src, l)
	if err != nil {
		return nil, fmt.Errorf("attestation %s: %w", l.Digest, err)
	}
	b, err := readSigned(l)(raw)
	if err != nil {
		return nil, fmt.Errorf("attestation %s: %w: %w", l.Digest, errHostile, err)
	}
	return b, nil
}

func readEnvelope(ctx context.Context, src oci.Source, d v1.Descriptor) ([]byte, error) {
	if d.Size < 0 || d.Size > limits.Bundle {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", errHostile, d.Size, limits.Bundle)
	}
	blob, err := src.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	raw, err := strict.Read(io.LimitReader(blob, d.Size+1), limits.Bundle)
	if err == nil && int64(len(raw)) != d.Size {
		err = fmt.Errorf("%w: got another number of bytes than %d", oci.ErrMismatch, d.Size)
	}
	return raw, err
}
