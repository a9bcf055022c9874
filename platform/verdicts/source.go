package verdicts

import (
	"context"
	"io"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
)

// OpenSource opens REGISTRY/NAME, a repository with signatures that a ClusterImagePolicy names. It
// is read anonymously.
func (s *Store) OpenSource(repository string) (oci.Source, error) {
	open := func() (oci.Source, error) {
		return oci.OpenRegistry(repository, oci.RegistryOptions{Keychain: Login{}, Transport: s.config.Transport})
	}
	if _, err := open(); err != nil {
		return nil, err
	}
	return &reopened{name: repository, open: open}, nil
}

// reopened is a repository that is opened anew now and then: an oci.Registry remembers what the
// registry can do, and this one lives as long as the policies.
type reopened struct {
	name string
	open func() (oci.Source, error)

	mu    sync.Mutex
	since time.Time
	last  oci.Source
}

func (r *reopened) source() (oci.Source, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && time.Since(r.since) < readTimeout {
		return r.last, nil
	}
	src, err := r.open()
	if err == nil {
		r.last, r.since = src, time.Now()
	}
	return src, err
}

// Name implements oci.Source.
func (r *reopened) Name() string { return r.name }

// Resolve implements oci.Source.
func (r *reopened) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	src, err := r.source()
	if err != nil {
		return v1.Descriptor{}, err
	}
	return src.Resolve(ctx, reference)
}

// Manifest implements oci.Source.
func (r *reopened) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	src, err := r.source()
	if err != nil {
		return nil, "", err
	}
	return src.Manifest(ctx, digest)
}

// Blob implements oci.Source.
func (r *reopened) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	src, err := r.source()
	if err != nil {
		return nil, err
	}
	return src.Blob(ctx, d)
}

// Referrers implements oci.Source.
func (r *reopened) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	src, err := r.source()
	if err != nil {
		return nil, err
	}
	return src.Referrers(ctx, subject)
}
