package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/oci"
)

// shelf is a source that checks nothing and counts what is read.
type shelf struct {
	oci.Source
	t     *testing.T
	types map[v1.Hash]types.MediaType
	blobs map[v1.Hash][]byte
	list  []v1.Descriptor // referrers

	mu   sync.Mutex
	read map[v1.Hash]int
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t: t, types: map[v1.Hash]types.MediaType{}, blobs: map[v1.Hash][]byte{}, read: map[v1.Hash]int{}}
}

func (s *shelf) put(mediaType types.MediaType, v any) v1.Descriptor {
	s.t.Helper()
	raw, ok := v.([]byte)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			s.t.Fatal(err)
		}
	}
	sum := sha256.Sum256(append([]byte(mediaType), raw...))
	d := v1.Descriptor{MediaType: mediaType, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: int64(len(raw))}
	s.types[d.Digest], s.blobs[d.Digest] = mediaType, raw
	return d
}

func (s *shelf) get(h v1.Hash) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read[h]++
	raw, ok := s.blobs[h]
	if !ok {
		return nil, oci.ErrNotFound
	}
	return raw, nil
}

func (s *shelf) Name() string { return "registry.example.com/app" }

func (s *shelf) Resolve(context.Context, string) (v1.Descriptor, error) {
	return v1.Descriptor{}, oci.ErrNotFound
}

func (s *shelf) Manifest(_ context.Context, h v1.Hash) ([]byte, string, error) {
	raw, err := s.get(h)
	return raw, string(s.types[h]), err
}

func (s *shelf) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	raw, err := s.get(d.Digest)
	return io.NopCloser(bytes.NewReader(raw)), err
}

func (s *shelf) Referrers(context.Context, v1.Hash) ([]v1.Descriptor, error) { return s.list, nil }
