package prooftest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
)

// Store is an oci.Source in memory.
type Store struct {
	mu           sync.Mutex
	t            testing.TB
	blobs        map[string][]byte
	types        map[string]string
	tags         map[string]v1.Descriptor
	order        []v1.Descriptor // in the order of Put, so that manifests follow what they refer to
	referrers    []v1.Descriptor
	Fail         map[string]error // errors to return, by digest or tag
	FailListing  error            // error of Referrers
	ListedAs     string           // if set, the artifactType that Referrers claims for new attachments
	RepositoryIs string
	Tar          []byte // tar for the layers of new images; if nil, layers are not valid tars
}

// NewStore returns an empty store.
func NewStore(t testing.TB) *Store {
	return &Store{t: t, blobs: map[string][]byte{}, types: map[string]string{}, tags: map[string]v1.Descriptor{}, Fail: map[string]error{}, RepositoryIs: "127.0.0.1:8080/team/app"}
}

// Name implements oci.Source.
func (s *Store) Name() string { return s.RepositoryIs }

// Resolve implements oci.Source.
func (s *Store) Resolve(_ context.Context, ref string) (v1.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.tags[ref]; ok {
		return d, s.Fail[ref]
	}
	if raw, ok := s.blobs[ref]; ok {
		h, err := v1.NewHash(ref)
		return v1.Descriptor{Digest: h, Size: int64(len(raw)), MediaType: types.MediaType(s.types[ref])}, err
	}
	return v1.Descriptor{}, fmt.Errorf("%s: %w", ref, oci.ErrNotFound)
}

func (s *Store) get(h v1.Hash) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Fail[h.String()]; err != nil {
		return nil, "", err
	}
	raw, ok := s.blobs[h.String()]
	if !ok {
		return nil, "", fmt.Errorf("%s: %w", h, oci.ErrNotFound)
	}
	if got, _, _ := v1.SHA256(bytes.NewReader(raw)); got != h {
		return nil, "", fmt.Errorf("%w: got %s, want %s", oci.ErrMismatch, got, h)
	}
	return raw, s.types[h.String()], nil
}

// Manifest implements oci.Source.
func (s *Store) Manifest(_ context.Context, h v1.Hash) ([]byte, string, error) { return s.get(h) }

// Blob implements oci.Source.
func (s *Store) Blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	raw, _, err := s.get(d.Digest)
	return io.NopCloser(bytes.NewReader(raw)), err
}

// Referrers implements oci.Source.
func (s *Store) Referrers(context.Context, v1.Hash) ([]v1.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]v1.Descriptor(nil), s.referrers...), s.FailListing
}

// Put stores bytes and returns their descriptor.
func (s *Store) Put(raw []byte, mediaType types.MediaType) v1.Descriptor {
	h, n, err := v1.SHA256(bytes.NewReader(raw))
	must(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h.String()], s.types[h.String()] = raw, string(mediaType)
	d := v1.Descriptor{Digest: h, Size: n, MediaType: mediaType}
	s.order = append(s.order, d)
	return d
}

// Push copies everything to dst, tags last.
func (s *Store) Push(ctx context.Context, dst oci.Target) {
	s.t.Helper()
	for _, d := range s.order {
		raw, mediaType, err := s.get(d.Digest)
		must(s.t, err)
		if d.MediaType.IsIndex() || d.MediaType.IsImage() {
			_, err = dst.PushManifest(ctx, raw, mediaType)
		} else {
			err = dst.PushBlob(ctx, d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
		}
		must(s.t, err)
	}
	for tag, d := range s.tags {
		must(s.t, dst.Tag(ctx, tag, d))
	}
}

// Tamper replaces the bytes stored under a digest, which then no longer matches.
func (s *Store) Tamper(h v1.Hash, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[h.String()] = raw
}

// Remove removes what is stored under a digest.
func (s *Store) Remove(h v1.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, h.String())
}

func (s *Store) putJSON(v any, mediaType types.MediaType) v1.Descriptor {
	raw, err := json.Marshal(v)
	must(s.t, err)
	return s.Put(raw, mediaType)
}

// Image stores an index of two platforms with one layer each, under a tag.
func (s *Store) Image(tag string) (index v1.Descriptor, layers []v1.Descriptor) {
	idx := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, arch := range []string{"amd64", "arm64"} {
		layer := s.Put([]byte("a layer for "+arch), types.OCILayer)
		if s.Tar != nil {
			layer = s.Put(s.Tar, types.OCIUncompressedLayer)
		}
		m := s.putJSON(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{layer},
			Config: s.putJSON(map[string]string{"os": "linux", "architecture": arch}, types.OCIConfigJSON)}, types.OCIManifestSchema1)
		m.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		idx.Manifests, layers = append(idx.Manifests, m), append(layers, layer)
	}
	index = s.putJSON(idx, types.OCIImageIndex)
	s.Tag(tag, index)
	return index, layers
}

// IndexOf stores an index that gives its only manifest a platform, whatever the
// manifest's configuration says.
func (s *Store) IndexOf(platform *v1.Platform, os, arch string) v1.Descriptor {
	m := s.putJSON(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{s.Put([]byte("a layer"), types.OCILayer)},
		Config: s.putJSON(map[string]string{"os": os, "architecture": arch}, types.OCIConfigJSON)}, types.OCIManifestSchema1)
	m.Platform = platform
	return s.putJSON(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{m}}, types.OCIImageIndex)
}

// Tag points a tag at a descriptor.
func (s *Store) Tag(tag string, d v1.Descriptor) { s.tags[tag] = d }

// Attach adds a bundle as a referrer of subject, and returns its blob and its manifest.
func (s *Store) Attach(subject v1.Descriptor, bundle []byte, predicateType string) (blob, manifest v1.Descriptor) {
	return s.attach(subject, bundle, attest.BundleMediaType, map[string]string{attest.AnnotationType: predicateType, attest.AnnotationContent: "dsse-envelope"})
}

// AttachFile adds a file as a referrer of subject, and returns its blob.
func (s *Store) AttachFile(subject v1.Descriptor, content []byte, mediaType types.MediaType) v1.Descriptor {
	blob, _ := s.attach(subject, content, mediaType, nil)
	return blob
}

// AttachLayer adds a referrer of subject with a layer, which need not be there.
func (s *Store) AttachLayer(subject, layer v1.Descriptor) { s.attachLayer(subject, layer, nil) }

func (s *Store) attach(subject v1.Descriptor, content []byte, mediaType types.MediaType, annotations map[string]string) (blob, manifest v1.Descriptor) {
	blob = s.Put(content, mediaType)
	return blob, s.attachLayer(subject, blob, annotations)
}

func (s *Store) attachLayer(subject, blob v1.Descriptor, annotations map[string]string) (manifest v1.Descriptor) {
	mediaType := blob.MediaType
	empty := s.Put([]byte("{}"), "application/vnd.oci.empty.v1+json")
	manifest = s.putJSON(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": mediaType, "config": empty, "layers": []v1.Descriptor{blob}, "subject": subject,
		"annotations": annotations,
	}, types.OCIManifestSchema1)
	manifest.ArtifactType = string(mediaType)
	if s.ListedAs != "" {
		manifest.ArtifactType = s.ListedAs
	}
	s.referrers = append([]v1.Descriptor{manifest}, s.referrers...) // newest first, so that junk precedes what it hides
	return manifest
}

// OnlyManifest returns the descriptor of the one manifest in an index.
func (s *Store) OnlyManifest(index v1.Descriptor) v1.Descriptor {
	raw, _, err := s.get(index.Digest)
	must(s.t, err)
	var idx v1.IndexManifest
	must(s.t, json.Unmarshal(raw, &idx))
	d := idx.Manifests[0]
	d.Platform = nil
	return d
}
