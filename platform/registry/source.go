package registry

import (
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
)

// source is one repository of the store as an oci.Source: what clients read, without HTTP.
type source struct {
	store *store
	name  string // HOST/NAME
	repo  string // NAME
}

// Name implements oci.Source.
func (s *source) Name() string { return s.name }

// Resolve implements oci.Source.
func (s *source) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	d, err := parseDigest(reference)
	if !strings.Contains(reference, ":") && distribution.ValidTag(reference) {
		d, err = s.store.readTag(s.repo, reference)
	}
	if err != nil {
		return v1.Descriptor{}, s.explain(reference, err)
	}
	raw, mediaType, err := s.Manifest(ctx, d.hash())
	return v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: d.hash(), Size: int64(len(raw))}, err
}

// Manifest implements oci.Source.
func (s *source) Manifest(_ context.Context, digest v1.Hash) (raw []byte, mediaType string, err error) {
	d, err := parseDigest(digest.String())
	if err != nil {
		return nil, "", err
	}
	raw, m, err := s.store.readManifest(s.repo, d)
	if err != nil {
		return nil, "", s.explain(digest.String(), err)
	}
	return raw, m.MediaType, nil
}

// Blob implements oci.Source. The blob is compared with its digest before this returns.
func (s *source) Blob(ctx context.Context, of v1.Descriptor) (io.ReadCloser, error) {
	d, err := parseDigest(of.Digest.String())
	if err != nil {
		return nil, err
	}
	f, err := s.store.openBlob(ctx, s.repo, d)
	if err != nil {
		return nil, s.explain(d.String(), err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != of.Size {
		err = fmt.Errorf("%s, blob %s: got %d bytes, want %d: %w", s.name, d, info.Size(), of.Size, oci.ErrMismatch)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Referrers implements oci.Source. It lists one more than verifiers read, so that they see that there are too many.
func (s *source) Referrers(ctx context.Context, subject v1.Hash) (list []v1.Descriptor, err error) {
	of, err := parseDigest(subject.String())
	if err != nil {
		return nil, err
	}
	names, err := s.store.lists.names(ctx, s.store.repo(s.repo, "referrers", of.alg, of.hex))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		d, err := parseDigest(strings.Replace(name, "-", ":", 1))
		if err != nil {
			return nil, fmt.Errorf("referrer file %q: its name is not a digest", name)
		}
		desc, err := s.store.readDescriptor(s.repo, d)
		if missing(err) {
			continue // its push was interrupted
		} else if err != nil {
			return nil, err
		}
		list = append(list, v1.Descriptor{MediaType: types.MediaType(desc.MediaType), Digest: d.hash(), Size: desc.Size, ArtifactType: desc.ArtifactType, Annotations: desc.Annotations})
		if len(list) > limits.Referrers {
			break
		}
	}
	return list, nil
}

// explain returns an error of the store as a Source has it. Damage is no answer: nobody knows what the
// file had in it.
func (s *source) explain(what string, err error) error {
	if missing(err) {
		return fmt.Errorf("%s has no %s: %w", s.name, what, oci.ErrNotFound)
	}
	return err
}

func (d digest) hash() v1.Hash { return v1.Hash{Algorithm: d.alg, Hex: d.hex} }
